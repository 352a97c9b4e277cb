"""Isaac Gym's task configuration: a nested dict, read once and checked.

Its groups are the top (`name`, `physics_engine`), `env` (`numEnvs`, `episodeLength`, `clipObservations`, ...), `sim`
(`dt`, `up_axis`, ...) and `task` (`randomize`, `randomization_params`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

_KEYS: Mapping[str, tuple[str, ...]] = {
    "": ("name", "physics_engine", "rl_device", "env", "sim", "task", "seed"),
    "env": (
        *("numEnvs", "envSpacing", "numAgents", "numObservations", "numStates", "numActions", "controlFrequencyInv"),
        *("clipObservations", "clipActions", "enableCameraSensors", "renderFPS", "episodeLength", "asset"),
        *("reward", "settings"),
    ),
    "sim": ("dt", "substeps", "up_axis", "gravity", "use_gpu_pipeline", "num_client_threads", "physx", "flex"),
    "task": ("randomize", "randomization_params"),
}
_NO_EFFECT = ("env.asset", "env.enableCameraSensors", "sim.substeps", "sim.num_client_threads", "sim.physx", "sim.flex")
_GRAVITY = (0.0, 0.0, -9.81)


@dataclass(frozen=True, kw_only=True)
class IsaacGymConfig:
    """What a configuration asks for; None is the task's own."""

    name: str
    """Task, e.g. `arm-reach`."""
    engine: str | None
    """Physics; Isaac Gym's `physx` and `flex` are the task's own."""
    num_envs: int
    seed: int | None
    """Ours; Isaac Gym seeds the global generators instead."""
    num_observations: int | None
    num_states: int | None
    num_actions: int | None
    control_freq_inv: int
    """Steps of `dt` for which an action is held."""
    dt: float | None
    """s, what one step of the simulation advances by."""
    episode_length: int | None
    """Isaac Gym's: an episode has one action less."""
    clip_obs: float
    clip_actions: float
    render_fps: int
    use_gpu_pipeline: bool
    """Whether tensors live on a CUDA device, where `sim_device` is one."""
    reward: Literal["dense", "sparse"]
    """Ours, see `sim.make`."""
    settings: Mapping[str, float]
    """Ours, see `sim.make`."""
    randomize: bool | None
    """None where the configuration says nothing: what the task declares."""
    randomization_params: Mapping[str, Any]


def read_config(config: Mapping[str, Any], extra: Iterable[str] = ()) -> IsaacGymConfig:
    """Check and read a configuration.

    Args:
        config: The nested dict.
        extra: Further keys that a subclass reads itself, e.g. `env.actionScale`.

    Raises:
        ValueError: An unknown key, with the nearest one, or a value that cannot be kept.
    """
    _check_keys(config, tuple(extra))
    env, sim, task = (config.get(name) or {} for name in ("env", "sim", "task"))
    for name, holder in (("name", config), ("numEnvs", env)):
        if name not in holder:
            raise ValueError(f"the configuration has no {name!r}")
    if sim.get("up_axis", "z") != "z":
        raise ValueError(f"sim.up_axis is {sim['up_axis']!r}; the world is z up")
    gravity = tuple(sim.get("gravity", _GRAVITY))
    if len(gravity) != 3 or any(abs(given - own) > 0.02 for given, own in zip(gravity, _GRAVITY, strict=True)):
        raise ValueError(f"sim.gravity is {list(gravity)}; it is {list(_GRAVITY)} m/s², change it by randomization")
    if env.get("numAgents", 1) != 1:
        raise ValueError(f"env.numAgents is {env['numAgents']}; every environment has one agent")
    inverse = int(env.get("controlFrequencyInv", 1))
    if inverse < 1:
        raise ValueError(f"env.controlFrequencyInv is {inverse}; expected at least 1")
    engine = config.get("physics_engine")
    return IsaacGymConfig(
        name=str(config["name"]),
        engine=None if engine in (None, "", "physx", "flex") else str(engine),
        num_envs=int(env["numEnvs"]),
        seed=_integer(config.get("seed")),
        num_observations=_integer(env.get("numObservations")),
        num_states=_integer(env.get("numStates")),
        num_actions=_integer(env.get("numActions")),
        control_freq_inv=inverse,
        dt=None if sim.get("dt") is None else float(sim["dt"]),
        episode_length=_integer(env.get("episodeLength")),
        clip_obs=float(env.get("clipObservations", math.inf)),
        clip_actions=float(env.get("clipActions", math.inf)),
        render_fps=int(env.get("renderFPS", -1)),
        use_gpu_pipeline=bool(sim.get("use_gpu_pipeline", True)),
        reward=env.get("reward", "dense"),
        settings=env.get("settings") or {},
        randomize=None if task.get("randomize") is None else bool(task["randomize"]),
        randomization_params=task.get("randomization_params") or {},
    )


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _check_keys(config: Mapping[str, Any], extra: tuple[str, ...]) -> None:
    idle = []
    for group, known in _KEYS.items():
        branch = config if group == "" else config.get(group) or {}
        if not isinstance(branch, Mapping):
            raise ValueError(f"{group} is {branch!r}; expected a mapping")
        prefix = f"{group}." if group else ""
        own = (*(name.removeprefix(prefix) for name in extra if name.startswith(prefix)), *known)
        for key in branch:
            if key not in own:
                near = get_close_matches(str(key), own, n=1, cutoff=0.5)
                hint = f"did you mean {prefix + near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"unknown configuration key {prefix + str(key)!r}; {hint}")
            if prefix + key in _NO_EFFECT and branch[key]:
                idle.append(prefix + key)
    if idle:
        warnings.warn(f"these keys act in Isaac Gym only, not here: {', '.join(idle)}", stacklevel=4)
