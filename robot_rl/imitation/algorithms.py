"""The algorithms of imitation by name."""

from __future__ import annotations

from typing import Any

import torch

from policies.observations import observation_size
from robot_rl.hil.layout import action_layout
from robot_rl.imitation.act import ActPolicy
from robot_rl.imitation.bc import BcPolicy
from robot_rl.imitation.bc_rnn import BcRnnPolicy
from robot_rl.imitation.demonstrations import DemonstrationConfig
from robot_rl.imitation.diffusion import DiffusionPolicy
from robot_rl.imitation.distiller import Distiller
from robot_rl.imitation.learner import Imitator

NETWORKS: dict[str, type[Any]] = {
    "bc": BcPolicy,
    "bc-rnn": BcRnnPolicy,
    "act": ActPolicy,
    "diffusion": DiffusionPolicy,
}
"""Those that are one network, fitted once."""
IMITATION = (*NETWORKS, "consistency")
"""Every one."""


def make_imitator(
    task: Any, algorithm: str, config: Any, source: DemonstrationConfig, seed: int
) -> Imitator | Distiller:
    """An untrained learner.

    Args:
        task: What is demonstrated.
        algorithm: One of `IMITATION`.
        config: Its settings.
        source: Where the demonstrations are.
        seed: Of everything random.
    """
    if algorithm == "consistency":
        return Distiller(task, config, source, seed)
    torch.manual_seed(seed)
    network = NETWORKS[algorithm](observation_size(task.terms), action_layout(task.action), config)
    return Imitator(task, network, config, source, seed)
