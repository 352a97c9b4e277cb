"""Networks of learning from few steps: a policy, an ensemble of critics, a critic of the grippers.

The policy holds what is deployed: normalization, the Gaussian's mean, and the grippers' values, whose largest decides.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robot_rl.hil.layout import ActionLayout
from robot_rl.hil.pixels import PixelEncoder

LOG_STD = (-5.0, 1.0)
"""Bounds of the logarithm of the Gaussian's deviation, before tanh."""


class FeatureScaler(nn.Module):
    """Shifts and scales features by fixed figures of the demonstrations; exported with the network."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int) -> None:
        """Identity for `size` features until `fit`."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    @torch.no_grad()
    def fit(self, features: Tensor, floor: float) -> None:
        """Take mean and deviation of samples (K, size); `floor` keeps what hardly moves from being blown up."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp(min=floor))

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., size), at most 5 deviations from the mean."""
        return ((features - self.mean) / self.deviation).clamp(-5.0, 5.0)


class Trunk(nn.Module):
    """Layers of linear, layer norm, ReLU."""

    def __init__(self, size: int, hidden: Sequence[int], dropout: float = 0.0) -> None:
        """From `size` features to `hidden[-1]`."""
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out in zip([size, *hidden[:-1]], hidden, strict=True):
            layers += [nn.Linear(width_in, width_out), nn.LayerNorm(width_out, elementwise_affine=False), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., hidden[-1])."""
        found: Tensor = self.layers(features)
        return found


class HilPolicy(nn.Module):
    """Observation (..., D) to normalized action (..., A): tanh of a Gaussian, and grippers by the larger value.

    With an encoder it also takes pictures; its features are the scaled observation and the pictures' embedding.
    """

    order: Tensor

    def __init__(
        self,
        size: int,
        layout: ActionLayout,
        hidden: Sequence[int],
        dropout: float = 0.0,
        gripper_hidden: Sequence[int] | None = None,
        encoder: PixelEncoder | None = None,
    ) -> None:
        """Build an untrained policy; its means start near 0.

        Args:
            size: D.
            layout: Of the action.
            hidden: Widths of the layers.
            dropout: Share of features that training leaves out.
            gripper_hidden: Widths of the grippers' networks; half as wide if not given, they decide less.
            encoder: Of pictures, if it gets any.
        """
        super().__init__()
        self.layout = layout
        self.scaler = FeatureScaler(size)
        self.encoder = encoder
        size += 0 if encoder is None else encoder.size
        self.features = size
        """Length of what `look` gives."""
        self.trunk = Trunk(size, hidden, dropout)
        self.mean = nn.Linear(hidden[-1], len(layout.continuous))
        self.log_std = nn.Linear(hidden[-1], len(layout.continuous))
        self.grippers: GripperChoice | None = None
        if layout.grippers:
            narrow = gripper_hidden or [max(16, width // 2) for width in hidden]
            self.grippers = GripperChoice(size, len(layout.grippers), narrow)
        order = [*layout.continuous, *layout.grippers]
        self.register_buffer("order", torch.tensor([order.index(i) for i in range(layout.size)]), persistent=False)
        with torch.no_grad():
            self.mean.weight.mul_(0.1)
            self.log_std.weight.zero_()
            self.log_std.bias.fill_(-0.45)  # a deviation of about 0.04

    @property
    def image_shapes(self) -> dict[str, tuple[int, int]]:
        """(H, W) of the pictures that it takes, by camera: what the exporter asks for."""
        return {} if self.encoder is None else self.encoder.shapes

    def look(self, observation: Tensor, images: Mapping[str, Tensor] | None = None) -> Tensor:
        """Features of observations (..., D), and of pictures (N, H, W, 3) uint8 by camera where it takes any."""
        features: Tensor = self.scaler(observation)
        if self.encoder is None:
            return features
        return torch.cat([features, self.encoder.encode(images or {})], dim=-1)

    def forward(self, observation: Tensor, images: Mapping[str, Tensor] | None = None) -> Tensor:
        """The deterministic action: what is evaluated and deployed."""
        features = self.look(observation, images)
        continuous = torch.tanh(self.mean(self.trunk(features)))
        if self.grippers is None:
            return continuous
        return self.assemble(continuous, self.grippers.commands(features))

    def continuous(self, features: Tensor) -> Tensor:
        """The continuous part (..., C) of the deterministic action, of features."""
        return torch.tanh(self.mean(self.trunk(features)))

    def assemble(self, continuous: Tensor, commands: Tensor) -> Tensor:
        """An action (..., A) from its continuous part and the grippers' commands (..., G) in {-1, 1}."""
        return torch.cat([continuous, commands], dim=-1)[..., self.order]

    def gaussian(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation (..., C) before tanh, of scaled features."""
        found = self.trunk(features)
        log_std: Tensor = self.log_std(found)
        low, high = LOG_STD
        return self.mean(found), low + 0.5 * (high - low) * (torch.tanh(log_std) + 1.0)

    def sample(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Continuous actions (..., C) and their log-densities (...) from standard normal `noise` (..., C).

        The density of a tanh-squashed Gaussian (Haarnoja et al. 2018, appendix C), with log(1 - tanh²) in a form that
        does not lose digits.
        """
        mean, log_std = self.gaussian(features)
        raw = mean + log_std.exp() * noise
        density = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        squash = 2.0 * (math.log(2.0) - raw - functional.softplus(-2.0 * raw))
        return torch.tanh(raw), (density - squash).sum(-1)

    @torch.no_grad()
    def explore(
        self, observation: Tensor, generator: torch.Generator, images: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """A random action (..., A) for training."""
        return self.explore_from(self.look(observation, images), generator)

    @torch.no_grad()
    def explore_from(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """The same of features."""
        noise = torch.randn((*features.shape[:-1], len(self.layout.continuous)), generator=generator)
        continuous, _ = self.sample(features, noise)
        if self.grippers is None:
            return continuous
        return self.assemble(continuous, self.grippers.commands(features))


class ResidualPolicy(nn.Module):
    """A frozen policy and small corrections that are learned: a_base + c·π(s, a_base); at first they are nothing.

    The frozen policy's grippers have no small corrections: a copy of their choice learns on as a whole.
    """

    def __init__(self, base: HilPolicy, hidden: Sequence[int], scale: float) -> None:
        """Freeze `base` and correct it.

        Args:
            base: What is corrected; its parameters take no gradients from here on.
            hidden: Widths of the correcting network.
            scale: c, the largest correction of an element of the action.
        """
        super().__init__()
        self.layout, self.scale = base.layout, scale
        self.base = base.requires_grad_(False)
        size = len(base.scaler.mean) + base.layout.size
        self.trunk = Trunk(size, hidden)
        self.head = nn.Linear(hidden[-1], len(base.layout.continuous))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.grippers = copy.deepcopy(base.grippers)
        if self.grippers is not None:
            self.grippers.requires_grad_(True)

    @property
    def scaler(self) -> FeatureScaler:
        """Of the observation."""
        return self.base.scaler

    def look(self, observation: Tensor, images: Mapping[str, Tensor] | None = None) -> Tensor:
        """Features of observations (..., D)."""
        return self.base.look(observation, images)

    def forward(self, observation: Tensor, images: Mapping[str, Tensor] | None = None) -> Tensor:
        """Observation (..., D) to normalized action (..., A)."""
        features = self.base.look(observation, images)
        continuous = self.continuous(features)
        if self.grippers is None:
            return self.base.assemble(continuous, continuous[..., :0])
        return self.base.assemble(continuous, self.grippers.commands(features))

    def continuous(self, features: Tensor) -> Tensor:
        """The continuous part (..., C) of the deterministic action, of scaled features (..., D)."""
        begun = self.base.continuous(features)
        commands = begun[..., :0] if self.base.grippers is None else self.base.grippers.commands(features)
        seen = torch.cat([features, self.base.assemble(begun, commands)], -1)
        return (begun + self.scale * torch.tanh(self.head(self.trunk(seen)))).clamp(-1.0, 1.0)

    def assemble(self, continuous: Tensor, commands: Tensor) -> Tensor:
        """An action (..., A) from its continuous part and the grippers' commands (..., G) in {-1, 1}."""
        return self.base.assemble(continuous, commands)


class GripperChoice(nn.Module):
    """Whether each of G grippers opens: by what a person does here, and by what it is worth.

    The choice maximizes value under the person's habits, argmax log p(c | s) + Q(s, c) / t: where both commands are
    worth about the same, as they are most of the time, the small errors of the values do not make a gripper chatter.
    """

    def __init__(self, size: int, grippers: int, hidden: Sequence[int], trust: float = 0.05) -> None:
        """Build an untrained choice.

        Args:
            size: Scaled features.
            grippers: G.
            hidden: Widths of both networks.
            trust: t: differences of value much larger than this outweigh any habit, much smaller ones none.
        """
        super().__init__()
        self.count, self.trust = grippers, trust
        self.habit = nn.Sequential(Trunk(size, hidden), nn.Linear(hidden[-1], 2 * grippers))
        head = nn.Linear(hidden[-1], 2 * grippers)
        with torch.no_grad():
            head.weight.mul_(0.1)
            head.bias.zero_()
        self.value = nn.Sequential(Trunk(size, hidden), head)

    def logits(self, features: Tensor) -> Tensor:
        """Of closing and opening (..., G, 2), of scaled features (..., D): the person's habit."""
        found: Tensor = self.habit(features)
        return found.unflatten(-1, (self.count, 2))

    def values(self, features: Tensor) -> Tensor:
        """Expected discounted reward of closing and opening (..., G, 2)."""
        found: Tensor = self.value(features)
        return found.unflatten(-1, (self.count, 2))

    def scores(self, features: Tensor) -> Tensor:
        """What is maximized (..., G, 2)."""
        habit = functional.log_softmax(self.logits(features), dim=-1).clamp(min=-3.0)
        return habit + self.values(features) / self.trust

    def best(self, features: Tensor) -> Tensor:
        """The better command (..., G): 0 closes, 1 opens."""
        return self._opens(features).long()

    def commands(self, features: Tensor) -> Tensor:
        """The better command (..., G) as an action: -1 closes, 1 opens."""
        return torch.where(self._opens(features), 1.0, -1.0)

    def _opens(self, features: Tensor) -> Tensor:
        scores = self.scores(features)
        return scores[..., 1] > scores[..., 0]


class Critics(nn.Module):
    """An ensemble of E values of state and action, each with weights of its own, in one batched product."""

    def __init__(self, size: int, members: int, hidden: Sequence[int]) -> None:
        """Build untrained critics of `size` features: those of the observation, scaled, and of the action."""
        super().__init__()
        widths = [size, *hidden, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for width_in, width_out in zip(widths[:-1], widths[1:], strict=True):
            bound = 1.0 / math.sqrt(width_in)
            self.weights.append(nn.Parameter(torch.empty(members, width_in, width_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, width_out).uniform_(-bound, bound)))

    def forward(self, features: Tensor, members: Tensor | None = None) -> Tensor:
        """Values (E, N) of features (N, S), or (M, N) of the chosen `members` (M,)."""
        last = len(self.weights) - 1
        x = features.expand(len(self.weights[0]) if members is None else len(members), *features.shape)
        for i in range(last):
            x = torch.baddbmm(_chosen(self.biases[i], members), x, _chosen(self.weights[i], members))
            x = functional.relu(functional.layer_norm(x, x.shape[-1:]))
        # A product with one column is faster as a sum.
        products = x * _chosen(self.weights[last], members).transpose(1, 2)
        return products.sum(-1) + _chosen(self.biases[last], members)[..., 0]


def _chosen(parameter: Tensor, members: Tensor | None) -> Tensor:
    return parameter if members is None else parameter[members]


@torch.no_grad()
def track(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move the parameters of `target` by the share `rate` towards those of `source`."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
