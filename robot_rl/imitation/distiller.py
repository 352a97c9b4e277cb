"""Consistency distillation as a learner: first the teacher is fitted or read, then the student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from policies.observations import observation_size
from robot_rl.errors import UserError
from robot_rl.hil.layout import action_layout
from robot_rl.imitation.consistency import ConsistencyConfig, ConsistencyPolicy
from robot_rl.imitation.demonstrations import DemonstrationConfig
from robot_rl.imitation.diffusion import DiffusionConfig, DiffusionPolicy
from robot_rl.imitation.learner import Imitator


class Distiller:
    """Two learners, one after the other."""

    def __init__(self, task: Any, config: ConsistencyConfig, source: DemonstrationConfig, seed: int) -> None:
        """Build both, untrained; the arguments are those of `Imitator`.

        Raises:
            UserError: The teacher's run is none.
        """
        self.task = task
        size, layout = observation_size(task.terms), action_layout(task.action)
        settings, given = config.teacher, None
        if config.teacher_run is not None:
            settings, given = read_teacher(config.teacher_run)
        torch.manual_seed(seed)
        teacher = DiffusionPolicy(size, layout, settings)
        if given is not None:
            teacher.load_state_dict(given)
            settings = replace(settings, steps=0)
        self.first = Imitator(task, teacher, settings, source, seed)
        self.second = Imitator(task, ConsistencyPolicy(size, layout, config, settings), config, source, seed)
        self.second.scaled = True
        self.total = self.first.total + self.second.total
        """Updates of the whole training."""

    @property
    def updates(self) -> int:
        """Done so far."""
        return self.first.updates + self.second.updates

    @property
    def record(self) -> dict[str, Any]:
        """What the manifest says about the demonstrations."""
        return self.first.record or self.second.record

    def prepare(self) -> dict[str, Any]:
        """Read the demonstrations; both learn from the same ones."""
        found = self.first.prepare() if self.first.total else self.second.prepare()
        if self.second.demonstrations is None:
            self.second.demonstrations, self.second.record = self.first.demonstrations, self.first.record
        return found

    def update(self) -> dict[str, float]:
        """A block of gradient steps; returns their mean loss."""
        self.prepare()
        if self.first.updates < self.first.total:
            return self.first.update()
        if self.second.updates == 0:
            for one in (self.second.network, self.second.deployed):
                one.teach(self.first.deployed.state_dict())
        return self.second.update()

    def policy(self) -> nn.Module:
        """What is deployed: the student."""
        return self.second.policy()

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on."""
        parts = {"first": self.first, "second": self.second}
        return {f"{name}/{key}": v for name, part in parts.items() for key, v in part.state_dict().items()}

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        for name, part in {"first/": self.first, "second/": self.second}.items():
            part.load_state_dict({k.removeprefix(name): v for k, v in stored.items() if k.startswith(name)})


def read_teacher(folder: Path) -> tuple[DiffusionConfig, dict[str, Tensor]]:
    """Settings and deployed network of a finished diffusion run.

    Raises:
        UserError: It is none.
    """
    if not (folder / "config.json").is_file() or not (folder / "bundle" / "manifest.json").is_file():
        raise UserError(f"--consistency.teacher-run {folder} is no finished run of --algorithm diffusion")
    stored: dict[str, Any] = json.loads((folder / "config.json").read_text())
    if stored["algorithm"] != "diffusion":
        raise UserError(f"--consistency.teacher-run {folder} was trained by {stored['algorithm']}, not by diffusion")
    settings = stored["diffusion"]
    found = load_file(folder / "checkpoint.safetensors")
    prefix = "deployed/"
    return (
        DiffusionConfig(**{**settings, "noise_range": tuple(settings["noise_range"])}),
        {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)},
    )
