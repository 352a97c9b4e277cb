"""The tasks as Gymnasium environments, single and vectorized, with numpy arrays in and out.

Registered on `import sim`; Gymnasium can also do the import:
`gymnasium.make("sim:robot_rl/QuadrotorHover-v0")`. What has a camera can be rendered as `rgb_array`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from sim.factory import Env, make
from sim.tasks import TASKS


def environment_id(task: str) -> str:
    """Gymnasium's name of a task: `quadrotor-hover` is `robot_rl/QuadrotorHover-v0`."""
    return f"robot_rl/{''.join(word.capitalize() for word in task.split('-'))}-v0"


def register() -> None:
    """Make every task known to `gymnasium.make` and `gymnasium.make_vec`; again does no harm."""
    for task in TASKS:
        if environment_id(task) not in gymnasium.registry:
            gymnasium.register(
                environment_id(task),
                entry_point="sim.gymnasium_env:SingleEnv",
                vector_entry_point="sim.gymnasium_env:VectorEnv",
                # Time limit and order of calls are the environment's own.
                order_enforce=True,
                kwargs={"task": task},
            )


class SingleEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One environment. `info["states"]` is what only a critic may see, `info["is_success"]` whether it was solved."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        task: str,
        *,
        randomization: str = "default",
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        """Build the environment of `task`; other arguments, such as `engine` or `reward`, as in `sim.make`."""
        self.env = make(task, num_envs=1, device=device, seed=0, randomization=randomization, **options)
        self.metadata = {**self.metadata, **_rendering(self.env, render_mode)}
        self.observation_space = self.env.observation_space
        self.action_space = self.env.action_space
        self.render_mode = render_mode
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; with `seed`, the same one again. There are no options."""
        super().reset(seed=seed)
        observations = _reset(self.env, seed, self._seeded, self.np_random)
        self._seeded = True
        return _numpy(observations["obs"][0]), {"states": _numpy(observations["states"][0])}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Carry a normalized action (num_actions,) out for one control period."""
        observations, reward, reset, extras = self.env.step(torch.as_tensor(np.asarray(action))[None])
        late = bool(extras["time_outs"][0])
        info: dict[str, Any] = {"states": _numpy(observations["states"][0])}
        info.update({name: float(value) for name, value in extras["log"].items()})
        if "success" in extras:
            info["is_success"] = bool(extras["success"][0])
        return _numpy(observations["obs"][0]), float(reward[0]), bool(reset[0]) and not late, late, info

    def render(self) -> np.ndarray | None:
        """A picture (height, width, 3) uint8; None without a `render_mode`."""
        return None if self.render_mode is None else _picture(self.env, 0)

    def close(self) -> None:
        """Give back what the environment holds."""
        _close(self.env)


class VectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N environments in one batch, with next-step auto-reset. `infos["states"]` is for critics only."""

    metadata = {
        "render_modes": ["rgb_array"],
        "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        task: str,
        num_envs: int = 1,
        *,
        randomization: str = "default",
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        """Build N environments of `task`; other arguments, such as `engine` or `reward`, as in `sim.make`."""
        self.env = make(task, num_envs=num_envs, device=device, seed=0, randomization=randomization, **options)
        self.metadata = {**self.metadata, **_rendering(self.env, render_mode)}
        self.num_envs = num_envs
        self.single_observation_space = self.env.observation_space
        self.single_action_space = self.env.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        self._seeded = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode everywhere; `seed` is one number for the whole batch. There are no options."""
        if isinstance(seed, list):
            raise ValueError(f"seed is a list of {len(seed)}; the batch has one generator: give one number")
        super().reset(seed=seed)
        observations = _reset(self.env, seed, self._seeded, self.np_random)
        self._seeded = True
        return _numpy(observations["obs"]), self._infos(observations)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Carry normalized actions (N, num_actions) out for one control period."""
        observations, reward, reset, extras = self.env.step(torch.as_tensor(np.asarray(actions)))
        late = extras["time_outs"]
        infos = self._infos(observations)
        if "success" in extras:
            infos |= {"is_success": extras["success"].cpu().numpy(), "_is_success": infos["_states"]}
        return (
            _numpy(observations["obs"]),
            reward.cpu().numpy().astype(np.float64),
            (reset & ~late).cpu().numpy(),
            late.cpu().numpy(),
            infos,
        )

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture (height, width, 3) uint8 of every environment; None without a `render_mode`."""
        return None if self.render_mode is None else tuple(_picture(self.env, i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Give back what the environment holds."""
        _close(self.env)

    def _infos(self, observations: dict[str, Tensor]) -> dict[str, Any]:
        # Gymnasium's layout: a mask beside each entry says which environments have it.
        return {"states": _numpy(observations["states"]), "_states": np.ones(self.num_envs, dtype=np.bool_)}


def _reset(env: Env, seed: int | None, seeded: bool, generator: np.random.Generator) -> dict[str, Tensor]:
    if seed is None and not seeded:  # Gymnasium: without a seed, unpredictable
        seed = int(generator.integers(2**62))
    return env.reset(seed=seed)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


def _rendering(env: Env, render_mode: str | None) -> dict[str, Any]:
    """What of the metadata depends on the task: what it can be rendered as, and how fast it goes."""
    modes = ["rgb_array"] if hasattr(env, "render") else []
    if render_mode not in (None, *modes):
        known = f"known: {', '.join(modes)}" if modes else "this task does not render, leave it out"
        raise ValueError(f"render_mode is {render_mode!r}; {known}")
    return {"render_modes": modes, "render_fps": round(1.0 / env.period)}


def _picture(env: Any, index: int) -> np.ndarray:
    return np.asarray(env.render(index))


def _close(env: Any) -> None:
    if hasattr(env, "close"):  # quadrotors hold nothing
        env.close()
