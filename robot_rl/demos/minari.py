"""Minari's data sets (Farama's format of Gymnasium episodes), written as Minari reads them.

    <out>/data/metadata.json   spaces, counts, versions
    <out>/data/main_data.hdf5  episode_<i>: observations (T + 1, ...), actions (T, A), rewards, terminations,
                               truncations, infos/observed_at, infos/acted_at, infos/person, infos/success

With cameras an observation is a dict of `state` and a picture per camera, stored without loss. A step without a
measured successor is left out. `minari.load_dataset(<name>)` finds it where MINARI_DATASETS_PATH is the folder above.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies.writing import whole_folder
from robot_rl.demos.configs import ConvertConfig
from robot_rl.demos.dataset import Demonstration, with_final
from robot_rl.errors import UserError
from robot_rl.hil.schema import Schema

VERSION = "0.5.0"
"""Of Minari's format."""


def write(demonstrations: Sequence[Demonstration], config: ConvertConfig) -> int:
    """Write the data set into `config.out`, whole or not at all.

    Returns:
        How many steps it has.
    """
    import h5py

    schema = demonstrations[0].episode.schema
    steps = 0
    with whole_folder(config.out) as fresh:
        (fresh / "data").mkdir()
        main = fresh / "data" / "main_data.hdf5"
        with h5py.File(main, "w", track_order=True) as file:
            for number, one in enumerate(demonstrations):
                steps += _write_episode(file.create_group(f"episode_{number}"), number, one)
        metadata = {
            "total_episodes": len(demonstrations),
            "total_steps": steps,
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "observation_space": json.dumps(_observation_space(schema)),
            "action_space": json.dumps(_box(-1.0, 1.0, (schema.action,), "float32")),
            "dataset_id": dataset_id(config.out),
            "minari_version": VERSION,
            "dataset_size": round(main.stat().st_size / 1e6, 1),
            "description": config.instruction or f"Demonstrations of {schema.task} on {schema.robot}",
            "control_rate_hz": schema.control_rate_hz,
        }
        (fresh / "data" / "metadata.json").write_text(json.dumps(metadata) + "\n")
    return steps


def dataset_id(out: Path) -> str:
    """The name under which Minari finds a folder: that of the folder."""
    name = out.resolve().name
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"--out ends in {name!r}; Minari takes letters, digits, _ and -, such as pick-lift-v0")
    return name


def _write_episode(group: Any, number: int, one: Demonstration) -> int:
    episode = one.episode
    count, observations = with_final(episode)
    if count < 1:
        raise UserError(f"{one.name} has no step whose successor is known; leave it out (trim, or delete the file)")
    group.attrs["id"], group.attrs["total_steps"] = number, count
    seed = one.info.get("seed")
    if isinstance(seed, int) and 0 <= seed < 2**62:
        group.attrs["seed"] = seed
    if episode.images:
        _extendable(group, "observations/state", observations)
        for camera in sorted(episode.images):
            _extendable(group, f"observations/{camera}", episode.images[camera][: count + 1])
    else:
        _extendable(group, "observations", observations)
    _extendable(group, "actions", np.clip(episode.actions[:count], -1.0, 1.0))
    _extendable(group, "rewards", episode.rewards[:count].astype(np.float64))
    _extendable(group, "terminations", episode.terminated[:count])
    _extendable(group, "truncations", episode.truncated[:count])
    _extendable(group, "infos/observed_at", episode.observed_at[:count])
    _extendable(group, "infos/acted_at", episode.acted_at[:count])
    _extendable(group, "infos/person", (episode.drivers == "person")[:count])
    _extendable(group, "infos/success", (episode.terminated & episode.success)[:count])
    return count


def _extendable(group: Any, name: str, values: np.ndarray) -> None:
    # As Minari makes them, so that it can add to them.
    group.create_dataset(name, data=values, chunks=True, maxshape=(None, *values.shape[1:]))


def _observation_space(schema: Schema) -> dict[str, Any]:
    state = _box(-np.inf, np.inf, (schema.observation,), "float32")
    if not schema.images:
        return state
    pictures = {camera: _box(0, 255, shape, "uint8") for camera, shape in sorted(schema.images.items())}
    return {"type": "Dict", "subspaces": {"state": state, **pictures}}


def _box(low: float, high: float, shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    kind = {"type": "Box", "dtype": dtype, "shape": list(shape)}
    return {**kind, "low": np.full(shape, low).tolist(), "high": np.full(shape, high).tolist()}
