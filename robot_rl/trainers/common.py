"""What the trainers share: the command line, and a record of how the return grows."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from sim.factory import Env, make


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """What to train on, and for how long."""

    task: tyro.conf.Positional[str]
    """Task, e.g. `arm-reach`."""
    num_envs: int = 64
    """Environments in the batch."""
    iterations: int = 100
    """Updates of the policy."""
    horizon: int = 32
    """Steps of every environment between two updates."""
    seed: int = 0
    """Of environment and learner."""
    device: str = "cpu"
    """Of environment and learner."""
    engine: str | None = None
    """Physics, see `sim.make`."""
    randomization: str = "default"
    """`default`, `none` or a file, see `sim.make`."""
    out: Path | None = None
    """Folder of the run; by default in `runs/`."""

    def folder(self, library: str) -> Path:
        """The run's folder, made."""
        folder = self.out or Path("runs") / f"{self.task}-{library}-{self.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def isaac_task(self) -> dict[str, bool]:
        """The `task` part of Isaac Gym's configuration, which takes no file of our terms.

        Raises:
            ValueError: `randomization` is a file.
        """
        if self.randomization not in ("default", "none"):
            raise ValueError(
                f"randomization is {self.randomization!r}; Isaac Gym's face takes 'default' or 'none' here, or "
                "randomization_params in its configuration: docs/isaac_gym.md"
            )
        return {"randomize": self.randomization == "default"}

    def make(self) -> Env:
        """The environment."""
        return make(
            self.task,
            num_envs=self.num_envs,
            device=self.device,
            seed=self.seed,
            randomization=self.randomization,
            engine=self.engine,
        )


def command_line(description: str | None) -> TrainerConfig:
    """Read the command line of a trainer, and keep small networks on one thread, where they are fastest."""
    torch.set_num_threads(1)
    return tyro.cli(TrainerConfig, description=description)


class ReturnLog:
    """Watches an environment's steps and writes a line of `returns.jsonl` every `every` of them.

    A line has `steps` (of all environments so far), `episodes` that ended in these steps, the mean `return` of those
    (None without one) and the mean `reward` of a step.
    """

    def __init__(self, env: Any, file: Path, every: int) -> None:
        """Begin to watch `env`, a face on a batched environment."""
        self._step, self._file, self._every = env.step, file, every
        self._running = torch.zeros(env.num_envs, device=env.device)
        self._finished: list[Tensor] = []
        self._rewards: list[Tensor] = []
        self._steps = 0
        self._started = time.monotonic()
        file.write_text("")
        env.step = self._watched

    def _watched(self, actions: Tensor) -> tuple[Any, ...]:
        result: tuple[Any, ...] = self._step(actions)
        reward, done = result[1].clone(), result[2].bool()
        if len(result) == 5:
            done = done | result[3].bool()
        self._running = self._running + reward
        self._finished.append(self._running[done])
        self._rewards.append(reward.mean())
        self._running = self._running.masked_fill(done, 0.0)
        self._steps += 1
        if self._steps % self._every == 0:
            self._write(len(reward))
        return result

    def _write(self, num_envs: int) -> None:
        finished = torch.cat(self._finished)
        row = {
            "steps": self._steps * num_envs,
            "episodes": len(finished),
            "return": round(finished.mean().item(), 4) if len(finished) else None,
            "reward": round(torch.stack(self._rewards).mean().item(), 5),
            "seconds": round(time.monotonic() - self._started, 1),
        }
        self._finished, self._rewards = [], []
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['steps']:>9} steps, {row['episodes']:>4} episodes, return {row['return']}, {row['seconds']} s")
