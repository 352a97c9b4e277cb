"""What an environment with Isaac Gym's interface is made of: configuration, sizes, spaces, randomization.

`sim.isaac_gym.VecTask` adds buffers, steps and episodes.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from sim.arm_randomization import scene_variables
from sim.factory import Env, build_env, find_randomization
from sim.isaac_gym_config import read_config
from sim.isaac_randomization import read_isaac_randomization
from sim.randomization import RandomizationTerm
from sim.tasks import Task, find_task
from sim.tasks.arm import ArmTask, with_settings


class IsaacGymBase:
    """The part of a `VecTask` that does not change from step to step."""

    extra_keys: ClassVar[Iterable[str]] = ()
    """Configuration keys that a subclass reads itself, e.g. `env.actionScale`."""

    env: Env
    num_observations: int
    num_states: int
    num_actions: int

    def __init__(
        self,
        config: Mapping[str, Any],
        rl_device: str,
        sim_device: str,
        graphics_device_id: int = -1,
        headless: bool = False,
        virtual_screen_capture: bool = False,
        force_render: bool = False,
    ) -> None:
        """Read the configuration and build the simulation; arguments as of `VecTask`."""
        self.cfg = config
        self._given = read_config(config, self.extra_keys)
        kind, _, number = sim_device.partition(":")
        self.device_type, self.device_id = kind, int(number or 0)
        on_gpu = self._given.use_gpu_pipeline and kind.lower() in ("cuda", "gpu")
        self.device = f"cuda:{self.device_id}" if on_gpu else "cpu"
        self.rl_device = rl_device
        self.headless, self.graphics_device_id = headless, graphics_device_id
        self.virtual_screen_capture, self.force_render = virtual_screen_capture, force_render
        self.num_environments, self.num_agents = self._given.num_envs, 1
        self.control_freq_inv = self._given.control_freq_inv
        self.clip_obs, self.clip_actions = self._given.clip_obs, self._given.clip_actions
        self.render_fps = self._given.render_fps
        self.total_train_env_frames = 0
        self.control_steps = 0
        self.first_randomization = True
        self.original_props: dict[str, Any] = {}
        self.dr_randomizations: dict[str, Any] = {}
        self.actor_params_generator: Any = None
        self.extern_actor_params: dict[int, Any] = dict.fromkeys(range(self.num_envs))
        self.last_step = self.last_rand_step = -1

        self.sim_initialized = False
        self.randomization_notes: list[str] = []
        """What of the `randomization_params` does nothing here, and why."""
        self.create_sim()
        self.sim_initialized = True
        self.envs = list(range(self.num_envs))

    # What it looks like

    def use_spaces_of(self, package: str) -> None:
        """Offer spaces of `gymnasium`, or of `gym`, which skrl 1.4 insists on."""
        try:
            box = importlib.import_module(f"{package}.spaces").Box
        except ImportError as error:
            raise ImportError(f"spaces of {package!r} need that package: pip install {package}") from error
        self.obs_space = box(-np.inf, np.inf, (self.num_obs,), np.float32)
        self.state_space = box(-np.inf, np.inf, (self.num_states,), np.float32)
        self.act_space = box(-1.0, 1.0, (self.num_actions,), np.float32)

    @property
    def observation_space(self) -> Any:
        """Of one environment."""
        return self.obs_space

    @property
    def action_space(self) -> Any:
        """Of one environment."""
        return self.act_space

    @property
    def num_envs(self) -> int:
        """N."""
        return self.num_environments

    @property
    def num_acts(self) -> int:
        """Size of an action."""
        return self.num_actions

    @property
    def num_obs(self) -> int:
        """Size of an observation."""
        return self.num_observations

    @property
    def unwrapped(self) -> IsaacGymBase:
        """Itself: there is no wrapper."""
        return self

    # Building

    def create_sim(self) -> None:
        """Set `self.env`, the batched environment."""
        given = self._given
        task = self._task()
        if given.randomize and given.randomization_params:
            terms = self._read_randomization(given.randomization_params)
        else:
            terms = find_randomization("none" if given.randomize is False else "default", task.randomization)
        self._build(task, terms)

    def _task(self) -> Task:
        task = find_task(self._given.name)
        if self._given.settings:
            if not isinstance(task, ArmTask):
                raise ValueError(f"task {task.name!r} has no settings")
            task = with_settings(task, self._given.settings)
        return task

    def _build(self, task: Task, terms: tuple[RandomizationTerm, ...]) -> None:
        given = self._given
        # Isaac Gym seeds torch and takes what comes.
        seed = int(torch.randint(2**31, ())) if given.seed is None else given.seed
        self.env = build_env(
            task,
            self.num_envs,
            device=self.device,
            seed=seed,
            randomization=terms,
            engine=given.engine,
            reward=given.reward,
        )

    def set_viewer(self) -> None:
        """There is no viewer window."""
        self.viewer = None

    # Randomization

    def apply_randomizations(self, dr_params: Mapping[str, Any]) -> None:
        """Randomize as Isaac Gym's `randomization_params` say, see `sim.isaac_randomization`.

        The environment draws by itself whenever an episode begins, so that further calls with the same parameters
        change nothing. Other parameters than before build the simulation anew, and every episode begins again.

        Raises:
            ValueError: What is unknown or wrong in the parameters.
            NotImplementedError: `actor_params_generator` is set.
        """
        if self.actor_params_generator is not None:
            raise NotImplementedError("samples of actor_params_generator are not used: terms of one group vary jointly")
        self.last_step = self.control_steps * self.control_freq_inv
        if self.first_randomization or self.last_step - self.last_rand_step >= dr_params.get("frequency", 1):
            self.last_rand_step = self.last_step
        self.first_randomization = False
        terms = self._read_randomization(dr_params)
        if terms != tuple(self.env.terms):
            length = self.env.max_episode_length
            self.close()
            self._build(self._task(), terms)
            self.env.max_episode_length = length
            if self.sim_initialized:
                self.begin_everywhere()

    def _read_randomization(self, dr_params: Mapping[str, Any]) -> tuple[RandomizationTerm, ...]:
        task = self._task()
        if not isinstance(task, ArmTask):
            raise ValueError(
                f"randomization_params are read for arms; {task.name!r} has terms of its own: leave them out"
            )
        terms, notes = read_isaac_randomization(dr_params, task.scene)
        if notes and notes != self.randomization_notes:
            warnings.warn("; ".join(notes), stacklevel=2)
        self.randomization_notes = notes
        return terms

    def get_actor_params_info(
        self, dr_params: Mapping[str, Any], env: int
    ) -> tuple[list[float], list[str], list[float], list[float]] | None:
        """Nominal values, names, lower and upper ends of what `actor_params` randomizes; None without them."""
        if "actor_params" not in dr_params:
            return None
        task = self._task()
        terms = self._read_randomization({"actor_params": dr_params["actor_params"]})
        variables = scene_variables(task.scene) if isinstance(task, ArmTask) else {}
        values: list[float] = []
        names: list[str] = []
        lows: list[float] = []
        highs: list[float] = []
        for term in terms:
            bounded = term.distribution != "gaussian"
            for index, value in enumerate(variables[term.parameter].nominal):
                values.append(value)
                names.append(f"{term.parameter}_{index}")
                lows.append(term.low if bounded else -np.inf)
                highs.append(term.high if bounded else np.inf)
        return values, names, lows, highs

    def begin_everywhere(self) -> None:
        """Let the next step begin an episode everywhere."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the environment holds."""
        if hasattr(self.env, "close"):  # quadrotors hold nothing
            self.env.close()
