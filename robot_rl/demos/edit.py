"""`robot-rl demos trim`, `merge` and `split`: new data sets of old ones. The old ones stay as they are."""

from __future__ import annotations

import sys

import numpy as np

from policies.writing import whole_folder
from robot_rl.demos.configs import MergeConfig, SplitConfig, TrimConfig
from robot_rl.demos.copying import check_out, copy_all, copy_part, file_name, write_set
from robot_rl.demos.dataset import Demonstration, choose, one_kind, open_set
from robot_rl.demos.motion import Columns, columns_of, moving_steps
from robot_rl.demos.show import complain
from robot_rl.errors import UserError


def run_trim(config: TrimConfig) -> int:
    """Write the set without beginnings and ends."""
    for name, value in (("start", config.start), ("end", config.end), ("idle", config.idle or 0.0)):
        if not (np.isfinite(value) and value >= 0.0):
            raise UserError(f"--{name} is {value}; expected seconds, 0 or more")
    if not (config.start or config.end or config.idle is not None):
        raise UserError("nothing to cut off; give --start, --end or --idle")
    check_out(config.out, config.path)
    data = open_set(config.path)
    demonstrations = choose(data)
    one_kind(demonstrations)
    columns = columns_of([one.episode for one in demonstrations])
    cuts = [kept_steps(one, columns, config) for one in demonstrations]
    removed = 0
    with whole_folder(config.out) as fresh:
        for number, (one, (first, last)) in enumerate(zip(demonstrations, cuts, strict=True)):
            if one.state == "running":
                raise UserError(f"{one.name} is still being recorded; end it first")
            copy_part(fresh / file_name(number), one, first, last)
            removed += len(one.episode) - (last - first)
    complain(data)
    total = sum(len(one.episode) for one in demonstrations)
    sys.stdout.write(f"{config.out}: {len(demonstrations)} episodes, {removed} of {total} steps cut off\n")
    return 0


def kept_steps(one: Demonstration, columns: Columns, config: TrimConfig) -> tuple[int, int]:
    """First step and the one behind the last that stay.

    Raises:
        UserError: None would.
    """
    time = one.episode.observed_at - one.episode.observed_at[0]
    length = float(time[-1]) + one.period
    slack = 1e-6
    inside = (time >= config.start - slack) & (time + one.period <= length - config.end + slack)
    if config.idle is not None:
        moving = np.flatnonzero(moving_steps(one.episode, columns) & inside)
        if len(moving):
            rest = config.idle
            inside &= (time >= time[moving[0]] - rest - slack) & (time <= time[moving[-1]] + rest + slack)
    kept = np.flatnonzero(inside)
    if not len(kept):
        raise UserError(f"{one.name} is {length:.2f} s long, so that nothing of it would be left; cut off less")
    return int(kept[0]), int(kept[-1]) + 1


def run_merge(config: MergeConfig) -> int:
    """Write one set of several."""
    if len(config.paths) < 2:
        raise UserError(f"{len(config.paths)} set cannot be merged; give two or more")
    check_out(config.out, *config.paths)
    found: list[Demonstration] = []
    for path in config.paths:
        data = open_set(path)
        found += choose(data)
        complain(data)
    one_kind(found)
    write_set(config.out, found)
    sys.stdout.write(f"{config.out}: {len(found)} episodes of {len(config.paths)} sets\n")
    return 0


def run_split(config: SplitConfig) -> int:
    """Write two sets, to train and to validate."""
    check_out(config.out, config.path)
    data = open_set(config.path)
    parts = split(choose(data), config.valid, config.seed)
    with whole_folder(config.out) as fresh:
        for name, part in parts.items():
            (fresh / name).mkdir()
            copy_all(fresh / name, part)
    complain(data)
    counts = ", ".join(f"{len(part)} in {name}/" for name, part in parts.items())
    sys.stdout.write(f"{config.out}: {counts}\n")
    return 0


def split(demonstrations: list[Demonstration], valid: float, seed: int) -> dict[str, list[Demonstration]]:
    """The episodes by `train` and `valid`, in their old order; successes and failures are divided alike.

    Raises:
        UserError: The share is none, or there are too few episodes.
    """
    if not 0.0 < valid < 1.0:
        raise UserError(f"--valid is {valid}; expected a share between 0 and 1")
    if len(demonstrations) < 2:
        raise UserError("1 episode cannot be split; record more")
    generator = np.random.default_rng(seed)
    chosen: set[int] = set()
    won = np.array([one.episode.success for one in demonstrations])
    wanted = min(max(1, round(valid * len(won))), len(won) - 1)
    for group, count in _shares(won, wanted):
        chosen.update(generator.permutation(group)[:count].tolist())
    return {
        "train": [one for i, one in enumerate(demonstrations) if i not in chosen],
        "valid": [one for i, one in enumerate(demonstrations) if i in chosen],
    }


def _shares(won: np.ndarray, wanted: int) -> list[tuple[np.ndarray, int]]:
    groups = [np.flatnonzero(won), np.flatnonzero(~won)]
    first = round(wanted * len(groups[0]) / len(won))
    return [(groups[0], first), (groups[1], wanted - first)]
