"""robomimic's HDF5, written as its loader reads it.

    data                     attributes: total (steps), env_args (JSON)
    data/demo_<i>            attribute: num_samples
        actions (N, A) in [-1, 1], rewards (N,), dones (N,), states (N, D)
        obs/state (N, D), obs/<camera>_image (N, H, W, 3) uint8, next_obs/...
        observed_at, acted_at (monotonic clock, s), intervention (a person drove)
    mask/train, mask/valid, mask/success   names of demos

A recording has no state of a simulator: `states` are the observations, and `env_args` have what `robot-rl demos replay`
begins an episode with. A step without a measured successor is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policies.writing import whole_file
from robot_rl.demos.configs import ConvertConfig
from robot_rl.demos.dataset import Demonstration, with_final
from robot_rl.demos.edit import split
from robot_rl.errors import UserError

_GYM = 2
"""robomimic's number of environments with Gym's interface."""


def write(demonstrations: Sequence[Demonstration], config: ConvertConfig) -> int:
    """Write the file `config.out`, whole or not at all.

    Returns:
        How many steps it has.
    """
    import h5py

    if config.out.is_dir():
        raise UserError(f"{config.out} is a folder; robomimic takes a file, such as {config.out / 'demos.hdf5'}")
    names = {id(one): f"demo_{number}" for number, one in enumerate(demonstrations)}
    total = 0
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(config.out) as fresh, h5py.File(fresh, "w") as file:
        data = file.create_group("data")
        for one in demonstrations:
            total += _write_demo(data.create_group(names[id(one)]), one)
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps(env_args(demonstrations[0]), indent=4)
        parts: dict[str, Sequence[Demonstration]] = {"success": [one for one in demonstrations if one.episode.success]}
        if len(demonstrations) > 1:
            parts |= split(list(demonstrations), config.valid, config.seed)
        for name, part in parts.items():
            if part:
                file[f"mask/{name}"] = np.array([names[id(one)] for one in part], dtype="S")
    return total


def env_args(one: Demonstration) -> dict[str, Any]:
    """What robomimic stores of the environment: what `sim.make` is given, and the rest of the episode's info."""
    schema = one.episode.schema
    kwargs = {name: one.info[name] for name in ("settings", "randomization", "engine", "cameras") if name in one.info}
    return {
        "env_name": schema.task,
        "type": _GYM,
        "env_kwargs": {**kwargs, "robot": schema.robot, "control_rate_hz": schema.control_rate_hz},
    }


def _write_demo(group: Any, one: Demonstration) -> int:
    episode = one.episode
    count, observations = with_final(episode)
    if count < 1:
        raise UserError(f"{one.name} has no step whose successor is known; leave it out (trim, or delete the file)")
    group.attrs["num_samples"] = count
    group.attrs["info"] = json.dumps(dict(one.info))
    done = episode.terminated | episode.truncated
    group["actions"] = np.clip(episode.actions[:count], -1.0, 1.0)
    group["rewards"] = episode.rewards[:count].astype(np.float64)
    group["dones"] = done[:count].astype(np.int64)
    group["states"] = observations[:-1].astype(np.float64)
    group["observed_at"] = episode.observed_at[:count]
    group["acted_at"] = episode.acted_at[:count]
    group["intervention"] = (episode.drivers == "person")[:count]
    group["obs/state"], group["next_obs/state"] = observations[:-1], observations[1:]
    for camera, pictures in _pictures(episode.images, count).items():
        shape = (1, *pictures.shape[1:])
        for place, part in (("obs", pictures[:-1]), ("next_obs", pictures[1:])):
            name = f"{place}/{camera}_image"
            group.create_dataset(name, data=part, chunks=shape, compression="gzip", compression_opts=4)
    return count


def _pictures(images: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {camera: images[camera][: count + 1] for camera in sorted(images)}
