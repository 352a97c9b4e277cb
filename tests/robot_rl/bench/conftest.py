"""Benchmarks that train: in this process and for a moment, in place of the process with the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from policies import bundle
from robot_rl import export, train
from robot_rl.bench import training
from robot_rl.runs import TrainConfig


@pytest.fixture
def small_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few stored vectors as a bundle may have."""
    monkeypatch.setattr(export, "VECTORS", bundle.MIN_VECTORS)
    monkeypatch.setattr(export, "_SAMPLED_PERIODS", 2)


@pytest.fixture
def train_here(small_bundles: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainConfig], list[list[str]]]:
    """Called with a quick configuration, trains with it whatever a benchmark asks for; returns what was asked for."""

    def begin(quick: TrainConfig) -> list[list[str]]:
        started: list[list[str]] = []

        def instead(arguments: Sequence[str]) -> None:
            command, task, *pairs = arguments
            assert command == "train"
            started.append(list(arguments))
            values = dict(zip(pairs[::2], pairs[1::2], strict=True))
            train.run(
                dataclasses.replace(
                    quick,
                    task=task,
                    algorithm=values.get("--algorithm", quick.algorithm),  # type: ignore[arg-type]
                    seed=int(values["--seed"]),
                    out=Path(values["--out"]),
                    randomization=values.get("--randomization", quick.randomization),
                    evaluation_episodes=int(values["--evaluation-episodes"]),
                )
            )

        monkeypatch.setattr(training, "run_cli", instead)
        return started

    return begin
