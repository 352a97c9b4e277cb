"""What networks of imitation have in common: how they are asked and fitted, and the two kinds of elements of an action.

Grippers are -1 or 1 in demonstrations. A network says how likely it is that one opens, and the larger chance decides:
the average of "open" and "close" is a gripper half open, which nobody showed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.execution import Execution
from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.networks import FeatureScaler
from robot_rl.imitation.demonstrations import Windows


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a network is fitted to demonstrations."""

    steps: int = 5000
    """Gradient steps."""
    batch: int = 128
    """Windows of each."""
    learning_rate: float = 1e-3
    """AdamW's largest; it rises over the first 100 steps and falls to 0 as a cosine."""
    weight_decay: float = 1e-4
    """AdamW's."""
    averaging: float = 0.999
    """What a step keeps of the running average of the weights, which is what is deployed."""
    feature_noise: float = 0.1
    """Deviation of noise on the scaled observation, which keeps a clone of few demonstrations from learning them by
    heart, and from repeating its own last action."""
    scaler_floor: float = 0.2
    """Least deviation of a feature by which it is divided: what hardly moves must not be blown up."""


class CloneNetwork(Protocol):
    """A network that can be fitted and, as it is, exported; a `torch.nn.Module`."""

    scaler: FeatureScaler
    """Of observations; fitted to the demonstrations before the first step."""

    @property
    def execution(self) -> Execution:
        """How `forward` is to be called; it takes and returns what `inputs` and `outputs` there name."""

    @property
    def window(self) -> int:
        """Steps of a window that `loss` wants; 0: whole episodes, from their beginning."""

    def loss(self, windows: Windows, noise: torch.Generator) -> Tensor:
        """Mean loss over the steps that are shown; nothing else has a share in it."""


class ActionParts(nn.Module):
    """Takes actions apart into C continuous elements and G grippers, and puts them together."""

    order: Tensor

    def __init__(self, layout: ActionLayout) -> None:
        """Of an action's layout."""
        super().__init__()
        self.layout = layout
        order = [*layout.continuous, *layout.grippers]
        self.register_buffer("order", torch.tensor([order.index(i) for i in range(layout.size)]), persistent=False)

    def continuous(self, action: Tensor) -> Tensor:
        """The continuous elements (..., C) of actions (..., A)."""
        return action[..., list(self.layout.continuous)]

    def opens(self, action: Tensor) -> Tensor:
        """Which grippers (..., G) open: 1.0, or 0.0 where they close."""
        return (action[..., list(self.layout.grippers)] > 0.0).float()

    def join(self, continuous: Tensor, logits: Tensor) -> Tensor:
        """Actions (..., A) in [-1, 1] of continuous elements and the grippers' logits of opening (..., G)."""
        commands = torch.where(logits > 0.0, 1.0, -1.0)
        return torch.cat([continuous.clamp(-1.0, 1.0), commands], dim=-1)[..., self.order]


def gripper_loss(logits: Tensor, opens: Tensor) -> Tensor:
    """Cross-entropy (...) of grippers (..., G), summed over them; 0 without any."""
    return functional.binary_cross_entropy_with_logits(logits, opens, reduction="none").sum(-1)


def masked_mean(loss: Tensor, shown: Tensor) -> Tensor:
    """Mean of a loss (...) over the steps that are shown (...) bool."""
    return torch.where(shown, loss, 0.0).sum() / shown.sum().clamp(min=1)


def blurred(scaler: FeatureScaler, observation: Tensor, deviation: float, noise: torch.Generator) -> Tensor:
    """Scaled features of observations with noise on them."""
    features: Tensor = scaler(observation)
    return features + deviation * torch.randn(features.shape, generator=noise)
