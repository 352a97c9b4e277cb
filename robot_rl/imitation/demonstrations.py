"""Recorded episodes as what imitation learns from: windows of steps that never reach beyond what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from hardware.descriptions import load_description
from policies.actions import action_size
from policies.observations import observation_size
from robot_rl.errors import UserError, require_packages

if TYPE_CHECKING:
    from robot_rl.episode import Episode

Choice = Literal["random", "best", "first"]


@dataclass(frozen=True, kw_only=True)
class DemonstrationConfig:
    """Which recorded steps are imitated."""

    path: Path | None = None
    """File or folder of recorded episodes: `robot-rl demos collect`, the cockpit, or a `robot-rl hil` run wrote it."""
    share: float = 1.0
    """Share of the episodes that is used."""
    choice: Choice = "random"
    """Which ones where the share is below 1: drawn by the seed, those that `robot-rl demos score` puts highest, or
    the first ones."""
    failures: bool = False
    """Whether episodes that failed are imitated too; else they are left out before the share is taken."""
    drivers: tuple[str, ...] = ("person", "base")
    """Whose steps are imitated, of `policy`, `person`, `base`; the others are context only."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """T steps that follow each other, from B places."""

    observations: Tensor
    """Shape (B, T, D). Beyond the end of an episode 0."""
    actions: Tensor
    """Shape (B, T, A). 0 where they are not shown: what would have come after the end nobody knows."""
    shown: Tensor
    """Whether the action is one to imitate: not beyond the end, and done by whom one learns from. Shape (B, T) bool."""
    past: Tensor
    """Observations before the first one, newest first; at an episode's beginning its first one. Shape (B, P, D)."""


class Demonstrations:
    """The S steps of all episodes, one episode after the other."""

    def __init__(self, episodes: Sequence[Episode], drivers: Sequence[str] = ("person", "base")) -> None:
        """Stack episodes with at least one step.

        Args:
            episodes: At least one, all of one schema.
            drivers: Whose steps are imitated.
        """
        lengths = np.array([len(episode) for episode in episodes])
        ends = np.cumsum(lengths)
        seen = episodes[0].schema.observation - episodes[0].schema.privileged
        self.observations = torch.from_numpy(np.concatenate([e.observations[: len(e), :seen] for e in episodes]))
        """What a policy sees before each action. Shape (S, D)."""
        self.actions = torch.from_numpy(np.concatenate([e.actions for e in episodes]))
        """Shape (S, A)."""
        self.shown = torch.from_numpy(np.isin(np.concatenate([e.drivers for e in episodes]), list(drivers)))
        """Whether the action is one to imitate. Shape (S,) bool."""
        self.first = torch.from_numpy(np.repeat(ends - lengths, lengths))
        """Index of the first step of the same episode. Shape (S,)."""
        self.end = torch.from_numpy(np.repeat(ends, lengths))
        """Index behind its last step. Shape (S,)."""
        self.starts = torch.from_numpy(ends - lengths)
        """Indices of the first steps. Shape (E,)."""
        self.longest = int(lengths.max())
        """Steps of the longest episode."""
        self.rows = self.shown.nonzero()[:, 0]
        """Indices of the steps to imitate."""

    def __len__(self) -> int:
        """S."""
        return len(self.actions)

    def windows(self, first: Tensor, length: int, past: int = 0) -> Windows:
        """The `length` steps from each of the indices `first` (B,), and the `past` observations before them."""
        at = first[:, None] + torch.arange(length)
        inside = at < self.end[first, None]
        at = at.clamp(max=len(self) - 1)
        before = torch.maximum(first[:, None] - 1 - torch.arange(past), self.first[first, None])
        shown = inside & self.shown[at]
        return Windows(
            observations=torch.where(inside[..., None], self.observations[at], 0.0),
            actions=torch.where(shown[..., None], self.actions[at], 0.0),
            shown=shown,
            past=self.observations[before],
        )


def load_demonstrations(config: DemonstrationConfig, task: Any, seed: int) -> tuple[Demonstrations, dict[str, Any]]:
    """The chosen steps for a task, and what a manifest says about them.

    Raises:
        UserError: There is none, or it was recorded with another task, robot, rate or observation.
    """
    if config.path is None:
        raise UserError("imitation learns from demonstrations: give --demos FOLDER (robot-rl demos collect)")
    if not 0.0 < config.share <= 1.0:
        raise UserError(f"--demo-share is {config.share:g}; it is a share of the episodes, above 0 and at most 1")
    require_packages("learning from demonstrations", "hil", ("msgpack",))
    from robot_rl.episodes import load_episodes

    found = [episode for episode in load_episodes(config.path) if len(episode)]
    check_schema(found, task)
    usable = [episode for episode in found if episode.success or config.failures]
    if not usable:
        raise UserError(
            f"{config.path} has {len(found)} episodes, of which none succeeded; record others, or take failed ones too "
            "with --demo-failures"
        )
    chosen = choose(usable, config, seed)
    demonstrations = Demonstrations(chosen, config.drivers)
    if not len(demonstrations.rows):
        known = ", ".join(sorted({str(name) for episode in chosen for name in np.unique(episode.drivers)}))
        raise UserError(
            f"no step in {config.path} was done by {' or '.join(config.drivers)}; its drivers are {known}: name them "
            "with --demo-drivers"
        )
    record = {
        "path": str(config.path),
        "recorded_episodes": len(found),
        "episodes": len(chosen),
        "steps": len(demonstrations.rows),
        "choice": config.choice,
        "share": config.share,
    }
    return demonstrations, record


def check_schema(episodes: Sequence[Episode], task: Any) -> None:
    """Raise a UserError where episodes were not recorded with this task's observation and action."""
    wanted = {
        "task": task.name,
        "robot": load_description(task.robot).interface.name,
        "observation": observation_size(task.terms),
        "action": action_size(task.action),
        "control_rate_hz": task.control_rate_hz,
    }
    for episode in episodes:
        for name, ours in wanted.items():
            theirs = getattr(episode.schema, name)
            if name == "observation":
                theirs -= episode.schema.privileged
            if theirs != ours:
                raise UserError(f"the episodes in {episode.source} have {name} {theirs}; {task.name} needs {ours}")


def choose(episodes: Sequence[Episode], config: DemonstrationConfig, seed: int) -> list[Episode]:
    """The share of the episodes that the config asks for, in their order; at least one."""
    count = max(1, round(config.share * len(episodes)))
    if count >= len(episodes):
        return list(episodes)
    if config.choice == "first":
        kept = range(count)
    elif config.choice == "random":
        kept = np.random.default_rng((seed, 7)).permutation(len(episodes))[:count].tolist()
    else:
        from robot_rl.demos.score import score_episodes

        scores = [found.score for found in score_episodes(list(episodes))]
        kept = np.argsort(scores, kind="stable")[::-1][:count].tolist()
    return [episodes[index] for index in sorted(kept)]
