"""Fitting a network to demonstrations: gradient steps on random windows, and the average of the weights deployed."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.hil.algorithms import state
from robot_rl.hil.networks import track
from robot_rl.imitation.demonstrations import DemonstrationConfig, Demonstrations, load_demonstrations
from robot_rl.imitation.parts import FitConfig

BLOCK = 50
"""Gradient steps of an update, which is what is logged."""
WARM_UP = 100
"""Gradient steps until the full learning rate."""
LONGEST = 400
"""Steps of a whole episode that are learned from at most; where windows are short, every step counts."""


class Imitator:
    """A network, its optimizer, and the demonstrations, which are read at the first update."""

    def __init__(self, task: Any, network: Any, config: FitConfig, source: DemonstrationConfig, seed: int) -> None:
        """Stand by.

        Args:
            task: What is demonstrated.
            network: A `CloneNetwork`, untrained.
            config: How it is fitted.
            source: Where the demonstrations are.
            seed: Of everything random from here on.
        """
        self.task, self.config, self.source, self.seed = task, config, source, seed
        self.network = network
        self.deployed: Any = copy.deepcopy(network)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.generator = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.updates = 0
        self.total = math.ceil(config.steps / BLOCK)
        """Updates of the whole training."""
        self.scaled = False
        """Whether the network has its scale of observations from elsewhere."""
        self.demonstrations: Demonstrations | None = None
        self.record: dict[str, Any] = {}
        """What the manifest says about the demonstrations."""

    def prepare(self) -> dict[str, Any]:
        """Read the demonstrations, if that has not been done; returns what there is to say about them.

        Raises:
            UserError: They cannot be learned from.
        """
        if self.demonstrations is None:
            self.demonstrations, self.record = load_demonstrations(self.source, self.task, self.seed)
            if self.updates == 0 and not self.scaled:
                for one in (self.network, self.deployed):
                    one.scaler.fit(self.demonstrations.observations, self.config.scaler_floor)
        return self.record

    def update(self) -> dict[str, float]:
        """A block of gradient steps; returns their mean loss."""
        self.prepare()
        first = self.updates * BLOCK
        losses = [self._step(step) for step in range(first, min(first + BLOCK, self.config.steps))]
        self.updates += 1
        return {"loss": float(torch.stack(losses).mean())}

    def _step(self, step: int) -> Tensor:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_share(step, config.steps)
        self.network.train()
        loss: Tensor = self.network.loss(self._windows(), self.noise)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        # Over the last tenth of the steps, while they are fewer than it would take otherwise.
        track(self.deployed, self.network, max(1.0 - config.averaging, 9.0 / (step + 10.0)))
        return loss.detach()

    def _windows(self) -> Any:
        assert self.demonstrations is not None
        shown, window = self.demonstrations, self.network.window
        places = shown.rows if window else shown.starts
        first = places[torch.from_numpy(self.generator.integers(0, len(places), self.config.batch))]
        return shown.windows(first, window or min(shown.longest, LONGEST), self.network.execution.history)

    def policy(self) -> nn.Module:
        """What is deployed."""
        network: nn.Module = self.deployed.eval()
        return network

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on."""
        return state.pack(
            {"network": self.network, "deployed": self.deployed},
            {"optimizer": self.optimizer},
            self.generator,
            self.noise,
            {"updates": self.updates},
        )

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        modules = {"network": self.network, "deployed": self.deployed}
        state.unpack(stored, modules, {"optimizer": self.optimizer}, self.generator, self.noise)
        self.updates = int(stored["updates"])


def learning_rate_share(step: int, steps: int) -> float:
    """Share of the largest learning rate in a step: up over the first ones, then down as a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP))
