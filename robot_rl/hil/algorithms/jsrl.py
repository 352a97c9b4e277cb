"""Jump-start reinforcement learning (Uchendu et al. 2023, algorithm 1): a guide acts first, the learner finishes.

In an episode the guide, a clone of the demonstrations, acts for the first h steps, and the policy that learns from
there on. It begins near the goal and is moved away from it:

    h ← h - H/n  when the mean return of the last episodes ≥ (1 - β) · the best such mean so far

Both the guide and h are part of what is sent to the robot. Learning is RLPD's; it learns from the guide's steps, too.
What is deployed is the policy alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl.hil.algorithms.base import Acting, Sizes
from robot_rl.hil.algorithms.rlpd import Rlpd, RlpdConfig
from robot_rl.hil.networks import Critics, HilPolicy
from robot_rl.hil.replay import Replay


@dataclass(frozen=True, kw_only=True)
class JsrlConfig(RlpdConfig):
    """Jump-start."""

    stages: int = 8
    """n: how often the horizon shrinks until it is 0."""
    window: int = 5
    """Episodes whose mean return is compared, all of them with the present horizon."""
    tolerance: float = 0.2
    """β: the share of the best mean return that may be lost."""
    begin_as_guide: bool = False
    """Whether the policy begins as the guide; otherwise it begins untrained, as in the paper."""


class GuidedActing(Acting):
    """The guide for the first steps of an episode, then the policy."""

    horizon: Tensor

    def __init__(self, policy: HilPolicy, critics: Critics, guide: HilPolicy, horizon: Tensor) -> None:
        """All are shared with the learner, not copied; `horizon` () counts steps."""
        super().__init__(policy, critics)
        self.guide = guide
        self.register_buffer("horizon", horizon)

    def _act(self, observation: Tensor, images: Mapping[str, Tensor], generator: torch.Generator, index: int) -> Tensor:
        if index < int(self.horizon):
            found: Tensor = self.guide(observation, images)
            return found
        return super()._act(observation, images, generator, index)


class Jsrl(Rlpd):
    """RLPD with a guide."""

    config: JsrlConfig

    def __init__(self, sizes: Sizes, config: JsrlConfig, seed: int) -> None:
        """Build untrained networks."""
        super().__init__(sizes, config, seed)
        self.guide = copy.deepcopy(self.actor)
        self.horizon = torch.tensor(0)
        """h, control steps."""
        self.longest = 0
        """H."""
        self.stage = 0
        """How often the horizon has shrunk."""
        self.best = -math.inf
        """Best mean return of a window."""
        self._seen = self._since = 0

    def warm_start(self, replay: Replay) -> dict[str, float]:
        """Clone the guide; it acts for as long as the demonstrations took on average."""
        fresh = copy.deepcopy(self.actor.state_dict())
        found = super().warm_start(replay)
        self.guide.load_state_dict(self.actor.state_dict())
        if not self.config.begin_as_guide:
            scale = {k: v for k, v in self.actor.state_dict().items() if k.startswith("scaler.")}
            for policy in (self.actor, self.average):
                policy.load_state_dict({**fresh, **scale})
            if self.gripper_targets is not None and self.actor.grippers is not None:
                self.gripper_targets.load_state_dict(self.actor.grippers.state_dict())
            self._make_optimizers()
        given = replay.column("given")
        episodes = int((given & replay.column("last")).sum())
        self.longest = math.ceil(int(given.sum()) / episodes) if episodes else 0
        self._shorten()
        return {**found, "horizon": float(self.horizon)}

    def update(self, replay: Replay) -> dict[str, Tensor]:
        """Shrink the horizon where episodes allow it, then critics and actor on one batch."""
        self.watch(replay.returns)
        return {**super().update(replay), "horizon": self.horizon.clone()}

    def watch(self, returns: Sequence[float]) -> None:
        """Take note of the returns of all episodes so far; the horizon shrinks by the rule above."""
        window, n = self.config.window, self.config.stages
        while self._seen < len(returns) and self.stage < n:
            self._seen += 1
            if self._seen - self._since < window:
                continue
            mean = sum(returns[self._seen - window : self._seen]) / window
            self.best = max(self.best, mean)
            if mean >= self.best - self.config.tolerance * abs(self.best):
                self.stage += 1
                self._since = self._seen
        self._shorten()

    def _shorten(self) -> None:
        self.horizon.fill_(math.ceil(self.longest * (1.0 - self.stage / self.config.stages) - 1e-9))

    def behaviour(self) -> Acting:
        """Guide, horizon, actor and critics."""
        return GuidedActing(self.actor, self.critics, self.guide, self.horizon)

    # Storage

    def _parts(self) -> dict[str, nn.Module]:
        return {**super()._parts(), "guide": self.guide}

    def state_dict(self) -> dict[str, Tensor]:
        """RLPD's state, the guide's, and where the horizon stands."""
        where = [self.longest, self.stage, self.best, self._seen, self._since]
        return {**super().state_dict(), "jump_start": torch.tensor(where, dtype=torch.float64)}

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        super().load_state_dict(stored)
        longest, stage, self.best, seen, since = stored["jump_start"].tolist()
        self.longest, self.stage, self._seen, self._since = int(longest), int(stage), int(seen), int(since)
        self._shorten()
