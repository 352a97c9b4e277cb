"""Memory of what happened, as torch tensors: steps in order, and which of them may be learned from.

Rows are control steps. After the last step of an episode one more row holds the observation that followed, so that
the next observation of row i is always that of row i + 1, and pictures are kept once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POLICY, PERSON, BASE = 0, 1, 2
DRIVERS = {"policy": POLICY, "person": PERSON, "base": BASE}
"""Codes of who acted."""
NEVER = 1_000_000
"""Steps until something that did not happen."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One control step, as the memory takes it."""

    observation: np.ndarray
    """(D,) float32, before the action."""
    action: np.ndarray
    """(A,) float32, executed."""
    policy_action: np.ndarray
    """(A,) float32, what the policy wanted."""
    driver: int
    """Who acted: `POLICY`, `PERSON` or `BASE`."""
    reward: float
    """Of the action."""
    terminated: bool
    """The episode is won or lost: nothing follows."""
    last: bool
    """The episode's last step, for whatever reason."""
    images: Mapping[str, np.ndarray] | None = None
    """(H, W, 3) uint8 by camera, before the action."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """N transitions of up to n steps. Float32 tensors."""

    rows: Tensor
    """Places (N,) in the memory."""
    observation: Tensor
    """(N, D)."""
    action: Tensor
    """(N, A), executed."""
    policy_action: Tensor
    """(N, A), what the policy wanted."""
    previous: Tensor
    """(N, A), executed in the step before; at the start of an episode the action itself."""
    reward: Tensor
    """(N,), discounted sum over the steps."""
    discount: Tensor
    """(N,), of the value of `next_observation`; 0 where the episode was over."""
    next_observation: Tensor
    """(N, D), after the last of the steps."""
    driver: Tensor
    """(N,) int64, who acted."""
    next_driver: Tensor
    """(N,) int64, who acted in the step after the first; -1 where there was none."""
    given: Tensor
    """(N,) bool, part of demonstrations that were given beforehand: `policy_action` is nobody's wish."""
    left: Tensor
    """(N,), steps until the episode ended, this one included; -1 while it runs, or where a crash took its end."""
    won: Tensor
    """(N,) bool, whether the episode ended with a reward."""
    lost: Tensor
    """(N,) bool, whether the episode ended in failure; a time limit is none."""
    until_help: Tensor
    """(N,), steps until the person next took over, 0 in a person's step; `NEVER` where they did not."""
    weight: Tensor
    """(N,), importance."""
    images: Mapping[str, Tensor]
    """(N, H, W, 3) uint8 by camera."""
    next_images: Mapping[str, Tensor]
    """The same for `next_observation`."""


class Replay:
    """Steps of all episodes; `demonstrations` are those in which a person acted."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        images: Mapping[str, tuple[int, int, int]] | None = None,
        capacity: int = 200_000,
    ) -> None:
        """Make room; memory is taken as it fills up.

        Args:
            observation_size: D.
            action_size: A.
            images: (H, W, 3) by camera.
            capacity: Rows; the oldest half is dropped when they are full.
        """
        self.capacity = capacity
        self._images = dict(images or {})
        self._sizes = {
            "observation": (observation_size,), "action": (action_size,), "policy_action": (action_size,),
            "reward": (), "terminated": (), "last": (), "driver": (), "ghost": (), "given": (),
            "left": (), "won": (), "lost": (), "until_help": (),
        }  # fmt: skip
        self._data: dict[str, np.ndarray] = {}
        self._reserve(1024)
        self.rows = 0
        """Rows in use."""
        self.steps = 0
        """Steps ever added."""
        self.relabel: Callable[[np.ndarray], np.ndarray] | None = None
        """Rewards of rows (N,) that are learned from in place of the stored ones."""
        self.returns: list[float] = []
        """Sum of the stored rewards of each finished episode of online experience, in order."""
        self._return = 0.0
        self._online: list[int] = []
        self._demonstrations: list[int] = []
        self._mid_episode = False

    def _reserve(self, rows: int) -> None:
        def grown(name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
            fresh: np.ndarray = np.zeros((rows, *shape), kind)
            if name in self._data:
                old = self._data[name]
                fresh[: len(old)] = old
            return fresh

        kinds: dict[str, type] = dict.fromkeys(("terminated", "last", "ghost", "given", "won", "lost"), bool)
        kinds.update({"driver": np.int8, "left": np.int32, "until_help": np.int32})
        data = {name: grown(name, shape, kinds.get(name, np.float32)) for name, shape in self._sizes.items()}
        data.update({f"image/{name}": grown(f"image/{name}", s, np.uint8) for name, s in self._images.items()})
        self._data = data

    @property
    def demonstrations(self) -> int:
        """Steps that may be sampled in which a person acted."""
        return len(self._demonstrations)

    @property
    def online(self) -> int:
        """Steps that may be sampled which are no part of given demonstrations."""
        return len(self._online)

    def add(self, step: Step, *, demonstration: bool = False) -> None:
        """Append a step of the running episode.

        Args:
            step: What happened.
            demonstration: It is part of demonstrations that were given beforehand: no online experience. A person's
                steps in a running episode are both.
        """
        self._append(step, ghost=False)
        self._data["given"][self.rows - 1] = demonstration
        self.steps += 1
        row = self.rows - 1
        # A step can be learned from once the observation after it is there.
        if not demonstration:
            self._online.append(row)
            self._return += step.reward
            if step.last:
                self.returns.append(self._return)
                self._return = 0.0
        if demonstration or step.driver == PERSON:
            self._demonstrations.append(row)
        self._mid_episode = True

    def finish(self, observation: np.ndarray | None, images: Mapping[str, np.ndarray] | None = None) -> None:
        """Close the episode with the observation (D,) after its last step.

        With None, where a crash took it, the last step is not learned from, unless the episode was over: it only holds
        what followed the one before.
        """
        row = self.rows - 1
        if observation is None and self._data["terminated"][row]:
            observation = self._data["observation"][row]  # nothing follows, so anything will do
            images = {name: self._data[f"image/{name}"][row] for name in self._images}
        if observation is None:
            for chosen in (self._online, self._demonstrations):
                if chosen and chosen[-1] == row:
                    chosen.pop()
            self._data["last"][max(0, row - 1) : row + 1] = True
            self._data["ghost"][row] = True
            self._return = 0.0
        else:
            blank = np.zeros(self._sizes["action"], np.float32)
            ghost = Step(
                observation=observation, action=blank, policy_action=blank, driver=POLICY, reward=0.0,
                terminated=False, last=True, images=images,
            )  # fmt: skip
            self._look_back(row)
            self._append(ghost, ghost=True)
        self._mid_episode = False

    def _look_back(self, last: int) -> None:
        """Tell the steps of the episode that ended in row `last` what became of it."""
        data = self._data
        before = (data["last"] | data["ghost"])[:last].nonzero()[0]
        first = int(before[-1]) + 1 if len(before) else 0
        rows = np.arange(first, last + 1)
        data["left"][rows] = last + 1 - rows
        data["won"][rows] = data["reward"][last] > 0.0
        data["lost"][rows] = data["terminated"][last] and data["reward"][last] <= 0.0
        helped = np.where(data["driver"][rows] == PERSON, rows, NEVER)
        upcoming = np.minimum.accumulate(helped[::-1])[::-1]
        data["until_help"][rows] = np.where(upcoming == NEVER, NEVER, upcoming - rows)

    def _append(self, step: Step, ghost: bool) -> None:
        if self.rows == self.capacity:
            self._forget()
        if self.rows == len(self._data["reward"]):
            self._reserve(min(self.capacity, 2 * self.rows))
        data, row = self._data, self.rows
        data["observation"][row] = step.observation
        data["action"][row] = step.action
        data["policy_action"][row] = step.policy_action
        data["reward"][row] = step.reward
        data["terminated"][row] = step.terminated
        data["last"][row] = step.last
        data["driver"][row] = step.driver
        data["ghost"][row] = ghost
        data["left"][row], data["won"][row], data["lost"][row], data["until_help"][row] = -1, False, False, NEVER
        data["given"][row] = False
        for name in self._images:
            if step.images is None:
                raise ValueError(f"a step has no image of camera {name!r}, which this memory expects")
            data[f"image/{name}"][row] = step.images[name]
        self.rows += 1

    def _forget(self) -> None:
        """Drop the oldest half, from the beginning of an episode on; demonstrations among it are lost as well."""
        ends = self._data["last"][: self.rows].nonzero()[0]
        late = ends[(ends >= self.capacity // 2) & (ends < self.rows - 1)]
        # An episode longer than half the memory is cut through.
        cut = int(late[0]) + 1 if len(late) else self.capacity // 2
        if cut < self.rows and self._data["ghost"][cut]:
            cut += 1
        for value in self._data.values():
            value[: self.rows - cut] = value[cut : self.rows]
        self.rows -= cut
        self._online = [row - cut for row in self._online if row >= cut]
        self._demonstrations = [row - cut for row in self._demonstrations if row >= cut]

    def sample(
        self,
        count: int,
        generator: np.random.Generator,
        *,
        demonstrations: bool,
        n_step: int = 1,
        discount: float = 0.99,
    ) -> Batch:
        """Draw transitions with replacement.

        Args:
            count: N.
            generator: Source of randomness.
            demonstrations: From the person's steps; otherwise from online experience.
            n_step: Rewards of so many steps are summed up before the value takes over, fewer at the end of an episode.
            discount: Per step.
        """
        return self.gather(self.draw(count, generator, demonstrations=demonstrations), n_step, discount)

    def draw(self, count: int, generator: np.random.Generator, *, demonstrations: bool) -> np.ndarray:
        """Rows (N,) of transitions, with replacement; the arguments are those of `sample`."""
        chosen = self._demonstrations if demonstrations else self._online
        # The newest step of a running episode has no next observation yet.
        size = len(chosen) - (1 if self._mid_episode and chosen and chosen[-1] == self.rows - 1 else 0)
        if size <= 0:
            raise ValueError(f"there are no {'demonstrations' if demonstrations else 'online steps'} to learn from yet")
        draws = generator.integers(size, size=count)
        return np.fromiter((chosen[i] for i in draws), np.int64, count)

    def gather(self, rows: np.ndarray, n_step: int = 1, discount: float = 0.99) -> Batch:
        """The transitions that begin in `rows` (N,)."""
        data = self._data
        rewards = self.relabel or data["reward"].__getitem__
        reward = rewards(rows).astype(np.float32)
        factor = np.full(len(rows), discount, np.float32)
        end = rows.copy()
        for _ in range(1, n_step):
            # Go on where the episode does and the step after the next one has its observation.
            onward = ~data["last"][end] & (end + 2 < self.rows)
            end = np.where(onward, end + 1, end)
            reward += np.where(onward, factor * rewards(end), 0.0)
            factor = np.where(onward, factor * discount, factor).astype(np.float32)
        before = np.maximum(rows - 1, 0)
        first = (rows == 0) | data["last"][before] | data["ghost"][before]
        follows = ~data["last"][rows]
        after = np.minimum(end + 1, self.rows - 1)
        return Batch(
            rows=torch.from_numpy(rows),
            observation=torch.from_numpy(data["observation"][rows]),
            action=torch.from_numpy(data["action"][rows]),
            policy_action=torch.from_numpy(data["policy_action"][rows]),
            previous=torch.from_numpy(data["action"][np.where(first, rows, before)]),
            reward=torch.from_numpy(reward.astype(np.float32)),
            discount=torch.from_numpy(np.where(data["terminated"][end], 0.0, factor).astype(np.float32)),
            next_observation=torch.from_numpy(data["observation"][after]),
            driver=torch.from_numpy(data["driver"][rows].astype(np.int64)),
            next_driver=torch.from_numpy(
                np.where(follows, data["driver"][np.minimum(rows + 1, self.rows - 1)], -1).astype(np.int64)
            ),
            given=torch.from_numpy(data["given"][rows]),
            left=torch.from_numpy(data["left"][rows]),
            won=torch.from_numpy(data["won"][rows]),
            lost=torch.from_numpy(data["lost"][rows]),
            until_help=torch.from_numpy(data["until_help"][rows]),
            weight=torch.ones(len(rows)),
            images={n: torch.from_numpy(data[f"image/{n}"][rows]) for n in self._images},
            next_images={n: torch.from_numpy(data[f"image/{n}"][after]) for n in self._images},
        )

    def column(self, name: str) -> np.ndarray:
        """One of the columns of all rows: `observation`, `action`, `driver`, `last`, `ghost`, …; a view, not a copy."""
        return self._data[name][: self.rows]

    def rows_of(self, *, demonstrations: bool) -> np.ndarray:
        """Places of the steps that `sample` chooses among."""
        return np.array(self._demonstrations if demonstrations else self._online, dtype=np.int64)
