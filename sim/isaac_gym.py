"""The tasks with the interface of Isaac Gym: `VecTask` as in IsaacGymEnvs 1.5, on the environments of `sim.make`.

What differs from the interface of `sim.make`: buffers that are written in place, a `reset()` that resets nothing (the
first step begins the first episodes, whatever its action), integer flags, Isaac Gym's way to count an episode
(`max_episode_length` - 1 actions) and its configuration. The auto-reset is the same: that of the next step.

A task of one's own is a subclass that overrides, as in Isaac Gym, any of

- `pre_physics_step(actions)`: call the base method with other actions;
- `post_physics_step()`: call the base method, then change `obs_buf`, `states_buf`, `rew_buf` or set `reset_buf`;
- `reset_idx(env_ids)`: call the base method, then draw what else an episode begins with;
- `create_sim()`: set `self.env` to another batched environment.

Configuration keys of its own are listed in `extra_keys`. See docs/isaac_gym.md.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from sim.isaac_gym_base import IsaacGymBase

_BUFFERS = ("obs_buf", "states_buf", "rew_buf", "reset_buf", "timeout_buf", "progress_buf", "randomize_buf", "_ended")


class VecTask(IsaacGymBase):
    """N environments of a task behind Isaac Gym's interface."""

    metadata: ClassVar[dict[str, Any]] = {
        "render.modes": ["human", "rgb_array"],
        "video.frames_per_second": 24,
        "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP,
    }

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
        """Build the environments that `config` describes, see `sim.isaac_gym_config`.

        Args:
            config: Isaac Gym's task configuration.
            rl_device: Where what a learner gets is copied to.
            sim_device: Where the buffers live.
            graphics_device_id: Kept; pictures are drawn on the CPU.
            headless: Kept; there is no window, `robot-rl play` opens one.
            virtual_screen_capture: Kept; `render("rgb_array")` needs no screen.
            force_render: Kept; it is for the window.
        """
        super().__init__(
            config, rl_device, sim_device, graphics_device_id, headless, virtual_screen_capture, force_render
        )
        self._take_sizes()
        self.use_spaces_of("gymnasium")
        self.set_viewer()
        self.allocate_buffers()
        self.obs_dict: dict[str, Tensor] = {}

    def _take_sizes(self) -> None:
        given, env = self._given, self.env
        self.dt: float = env.period
        """s, one simulated step; a control step is `control_freq_inv` of them."""
        if given.dt is not None and abs(given.dt - self.dt) > 1e-3 * self.dt:
            raise ValueError(
                f"sim.dt is {given.dt} s; a step of {given.name!r} takes {self.dt:g} s: leave it out, and let "
                "env.controlFrequencyInv slow the policy down"
            )
        self.num_observations = self._size("numObservations", given.num_observations, env.num_obs, "post_physics_step")
        self.num_actions = self._size("numActions", given.num_actions, env.num_actions, "pre_physics_step")
        self.num_states = 0
        if given.num_states != 0:  # 0 asks for none
            self.num_states = self._size("numStates", given.num_states, env.num_states, "post_physics_step")
        if given.episode_length is not None:
            if given.episode_length < 2:
                raise ValueError(f"env.episodeLength is {given.episode_length}; expected at least 2: a reset, a step")
            env.max_episode_length = (given.episode_length - 1) * self.control_freq_inv
        self.max_episode_length = env.max_episode_length // self.control_freq_inv + 1
        """Isaac Gym's: the step that resets counts too."""

    def _size(self, key: str, given: int | None, own: int, hook: str) -> int:
        if given is None or given == own:
            return own
        if getattr(type(self), hook) is getattr(VecTask, hook):
            raise ValueError(f"env.{key} is {given}, but task {self._given.name!r} has {own}: leave it out")
        return given

    def allocate_buffers(self) -> None:
        """Set all buffers to their values before the first step."""
        count, where = self.num_envs, self.device
        self.obs_buf = torch.zeros(count, self.num_obs, device=where)
        self.states_buf = torch.zeros(count, self.num_states, device=where)
        self.rew_buf = torch.zeros(count, device=where)
        self.reset_buf = torch.ones(count, dtype=torch.int64, device=where)
        self.timeout_buf = torch.zeros(count, dtype=torch.int64, device=where)
        self.progress_buf = torch.zeros(count, dtype=torch.int64, device=where)
        self.randomize_buf = torch.zeros(count, dtype=torch.int64, device=where)
        self.extras: dict[str, Any] = {}
        # Where the environment has ended an episode itself and so begins the next one in its next step; where it did.
        self._ended = torch.zeros(count, dtype=torch.bool, device=where)
        self._begun = torch.zeros(count, dtype=torch.bool, device=where)

    def begin_everywhere(self) -> None:
        """Let the next step begin an episode everywhere."""
        self.reset_buf[:] = 1
        self._ended = torch.zeros_like(self._ended)

    # A step

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, Any]]:
        """Carry `actions` (N, num_actions) out for `control_freq_inv` simulated steps.

        Returns:
            `obs_dict` (`obs`, and `states` where there are any), `rew_buf`, `reset_buf` (1 with the last observation
            of an episode) and `extras`, with `time_outs`. Rewards and flags are the buffers themselves where
            `rl_device` is the simulation's.
        """
        if noise := self.dr_randomizations.get("actions"):
            actions = noise["noise_lambda"](actions)
        self.pre_physics_step(torch.clamp(actions, -self.clip_actions, self.clip_actions))
        self.simulate()
        self.post_physics_step()
        self.control_steps += 1
        self.timeout_buf = (self.progress_buf >= self.max_episode_length - 1) & (self.reset_buf != 0)
        if noise := self.dr_randomizations.get("observations"):
            self.obs_buf = noise["noise_lambda"](self.obs_buf)
        self.extras["time_outs"] = self.timeout_buf.to(self.rl_device)
        return self._observations(), self.rew_buf.to(self.rl_device), self.reset_buf.to(self.rl_device), self.extras

    def pre_physics_step(self, actions: Tensor) -> None:
        """Keep the clipped `actions` (N, num_actions) for `simulate`."""
        self.actions = actions.to(self.device).clone()

    def simulate(self) -> None:
        """Run the environment for `control_freq_inv` steps; what ends an episode early is what counts there."""
        rows, ended = self._advance()
        for _ in range(self.control_freq_inv - 1):
            later, now = self._advance()
            later["reward"] = rows["reward"] + later["reward"]
            for name, value in later.items():
                over = ended.reshape(-1, *[1] * (value.ndim - 1))
                rows[name] = torch.where(over, rows[name], value)
            ended = ended | now
        # With more than one step, what it began at the first one has moved on: it must begin again.
        single = self.control_freq_inv == 1
        self._begun = self._ended if single else torch.zeros_like(self._ended)
        self._ended = ended if single else torch.zeros_like(ended)
        self._rows, self._over = rows, ended

    def _advance(self) -> tuple[dict[str, Tensor], Tensor]:
        observations, reward, ended, extras = self.env.step(self.actions)
        self.extras.update({name: value for name, value in extras.items() if not isinstance(value, Tensor)})
        flags = {name: value for name, value in extras.items() if isinstance(value, Tensor) and name != "time_outs"}
        return {**flags, "reward": reward, **observations}, ended

    def post_physics_step(self) -> None:
        """Begin the episodes that are due; fill observations, rewards and flags."""
        self.progress_buf += 1
        self.randomize_buf += 1
        due = (self.reset_buf != 0) | self._begun
        rows = self._rows
        self._write(rows, slice(None))
        self.rew_buf[:] = rows.pop("reward").masked_fill(due, 0.0)
        self.reset_buf[:] = self._over
        self.extras.update({name: value & ~due for name, value in rows.items() if name not in ("obs", "states")})
        if bool(due.any()):
            self.reset_idx(due.nonzero()[:, 0])
        self._begun = torch.zeros_like(self._begun)
        self.reset_buf |= (self.progress_buf >= self.max_episode_length - 1).long()

    def _write(self, observations: Mapping[str, Tensor], rows: Any) -> None:
        self.obs_buf[rows, : self.env.num_obs] = observations["obs"][rows]
        if self.num_states > 0:
            self.states_buf[rows, : self.env.num_states] = observations["states"][rows]

    # Episodes

    def reset_idx(self, env_ids: Tensor) -> None:
        """Begin episodes in the environments `env_ids` (K) at once, their first observations in the buffers."""
        mask = torch.zeros_like(self._ended).index_fill(0, torch.as_tensor(env_ids, device=self.device).long(), True)
        due = mask & ~self._begun
        if bool(due.any()):
            self._write(self.env.begin(due), due.nonzero()[:, 0])
            self._ended = self._ended & ~due
        self.progress_buf[mask] = 0
        self.reset_buf[mask] = 0

    def reset(self) -> dict[str, Tensor]:
        """The present observations, zero before the first step; this resets nothing."""
        return self._observations()

    def reset_done(self) -> tuple[dict[str, Tensor], Tensor]:
        """Begin episodes where one has ended; observations and the indices of those."""
        ids = self.reset_buf.nonzero(as_tuple=False).flatten()
        if len(ids) > 0:
            self.reset_idx(ids)
        return self._observations(), ids

    def zero_actions(self) -> Tensor:
        """Actions (N, num_actions) of zeros on `rl_device`."""
        return torch.zeros(self.num_envs, self.num_actions, device=self.rl_device)

    def get_state(self) -> Tensor:
        """What only a critic may see (N, num_states)."""
        return torch.clamp(self.states_buf, -self.clip_obs, self.clip_obs).to(self.rl_device)

    def _observations(self) -> dict[str, Tensor]:
        self.obs_dict["obs"] = torch.clamp(self.obs_buf, -self.clip_obs, self.clip_obs).to(self.rl_device)
        if self.num_states > 0:
            self.obs_dict["states"] = self.get_state()
        return self.obs_dict

    def render(self, mode: str = "rgb_array") -> np.ndarray | None:
        """A picture (height, width, 3) uint8 of the first environment; None for `human`, as there is no window."""
        if mode != "rgb_array":
            return None
        draw = getattr(self.env, "render", None)
        if draw is None:
            raise NotImplementedError(f"task {self._given.name!r} has no camera to render with")
        return np.asarray(draw(0))

    # Between learner and environment

    def set_train_info(self, env_frames: int, *args: Any, **kwargs: Any) -> None:
        """Take how many frames the learner has trained on."""
        self.total_train_env_frames = env_frames

    def get_env_state(self) -> dict[str, Any]:
        """What a checkpoint keeps: counters, buffers, the simulation."""
        return {
            "control_steps": self.control_steps,
            "env_frames": self.total_train_env_frames,
            "buffers": {name: getattr(self, name).clone() for name in _BUFFERS},
            "simulation": self.env.state_dict(),
        }

    def set_env_state(self, env_state: Mapping[str, Any] | None) -> None:
        """Go on from what `get_env_state` returned; with another number of environments, only from its counters."""
        if env_state is None:
            return
        self.control_steps, self.total_train_env_frames = env_state["control_steps"], env_state["env_frames"]
        if len(env_state["buffers"]["rew_buf"]) == self.num_envs:
            for name, value in env_state["buffers"].items():
                setattr(self, name, value.to(self.device).clone())
            self.env.load_state_dict(env_state["simulation"])


def make(
    seed: int,
    task: str,
    num_envs: int,
    sim_device: str,
    rl_device: str,
    graphics_device_id: int = -1,
    headless: bool = False,
    multi_gpu: bool = False,
    virtual_screen_capture: bool = False,
    force_render: bool = True,
    cfg: Mapping[str, Any] | None = None,
) -> VecTask:
    """Build a `VecTask` as `isaacgymenvs.make` does.

    Args:
        seed: Of everything random.
        task: Its name, see `sim.list_tasks`.
        num_envs: N; it goes before `cfg`.
        sim_device: Where the buffers live.
        rl_device: Where what a learner gets is copied to.
        graphics_device_id: Kept.
        headless: Kept; there is no window.
        multi_gpu: Every process of `torchrun` takes the GPU and the seed of its rank.
        virtual_screen_capture: Kept.
        force_render: Kept.
        cfg: Task configuration; by default the task's own.
    """
    if multi_gpu:
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        sim_device = rl_device = f"cuda:{rank}"
        seed += rank
    config = copy.deepcopy(dict(cfg or {}))
    config = {**config, "name": task, "seed": seed, "env": {**(config.get("env") or {}), "numEnvs": num_envs}}
    return VecTask(
        config,
        rl_device=rl_device,
        sim_device=sim_device,
        graphics_device_id=graphics_device_id,
        headless=headless,
        virtual_screen_capture=virtual_screen_capture,
        force_render=force_render,
    )
