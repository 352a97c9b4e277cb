"""The batched environment of arms: an engine, the robot's own controllers, a task's functions.

Torch tensors in and out, with the auto-reset of `NEXT_STEP` (see `sim.environment`). In every control period the
policy's command goes to the very controllers that run on the robot, which are called at the physics rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor

from policies import actions as action_terms
from policies import observations
from policies.types import ArmSetpoint, ArmState
from sim.adr import AutomaticRandomization, terms_in
from sim.arm_loop import ArmLoop, to_arrays, to_tensor, to_tensors
from sim.arm_randomization import ModelVariables, expand_terms, nominal_variables, scene_variables, values_of_arm
from sim.arm_sensors import disturb, hold_lost, measure, noise_size
from sim.engines.base import ArmEngine, Placement
from sim.randomization import RandomizationTerm, Randomizer
from sim.tasks.arm import ArmTask, ArmView
from sim.trees import tree_fill, tree_leaves

if TYPE_CHECKING:
    from sim.camera_observations import CameraObservations
    from sim.cameras import Cameras

Observations = dict[str, Any]

_COUNTERS = ("progress", "held", "ended", "action", "previous_action", "goal")


class ArmEnv:
    """N copies of a scene with arms, each in its own episode of a task."""

    metadata: ClassVar[dict[str, Any]] = {
        "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP,
        "render_modes": ["rgb_array"],
    }
    _memory: dict[str, np.ndarray]

    def __init__(
        self,
        task: ArmTask,
        engine: ArmEngine,
        *,
        seed: int = 0,
        randomization: Sequence[RandomizationTerm] | None = None,
        reward: Literal["dense", "sparse"] = "dense",
        device: torch.device | str = "cpu",
        automatic: AutomaticRandomization | None = None,
        cameras: CameraObservations | None = None,
    ) -> None:
        """Build the environment and begin the first episodes.

        Args:
            task: What is to be done.
            engine: The simulated scenes; `sim.make` builds it.
            seed: Of everything random; the same seed gives the same run, bit by bit.
            randomization: Terms in place of the task's own.
            reward: `dense` shapes every step; `sparse` is 1 in the step that reaches the goal.
            device: Where tensors are returned; physics is on the CPU.
            automatic: Ranges that grow with success, see `sim.adr`.
            cameras: Adds `images` to the observations.
        """
        self.task, self.engine, self.reward_kind = task, engine, reward
        self.num_envs = engine.num_envs
        self.device = torch.device(device)
        declared = task.randomization if randomization is None else tuple(randomization)
        self.terms = expand_terms(declared, engine.scene)
        self.automatic, self.cameras = automatic, cameras
        self._model_variables = ModelVariables(engine, self.terms, automatic.names if automatic else ())
        self.num_obs = observations.observation_size(task.terms)
        self.num_actions = action_terms.action_size(task.action)
        self.max_episode_length = round(task.episode_length * task.control_rate_hz)
        """Control periods until a time-out."""
        self.period = task.period
        """s."""
        self._hold = max(1, round(task.hold * task.control_rate_hz))
        self.loop = ArmLoop(task, engine)
        """Controllers and latencies."""
        self._fresh = observations.initial_memory(task.terms, np.zeros((self.num_envs, 1), dtype=np.float32))
        self._memory = dict(self._fresh)
        self._free = [b.name for b in engine.scene.bodies if b.motion == "free" and not b.attached_to and not b.cable]
        self._overview: Cameras | None = None
        self._untouched = False
        self.seed = seed
        self.num_states = self.reset(seed=seed)["states"].shape[1]
        self._untouched = True

    # What it looks like

    @cached_property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Of one environment's `obs`."""
        return gymnasium.spaces.Box(-np.inf, np.inf, (self.num_obs,), np.float32)

    @cached_property
    def state_space(self) -> gymnasium.spaces.Box:
        """Of one environment's `states`."""
        return gymnasium.spaces.Box(-np.inf, np.inf, (self.num_states,), np.float32)

    @cached_property
    def action_space(self) -> gymnasium.spaces.Box:
        """Of one environment."""
        return gymnasium.spaces.Box(-1.0, 1.0, (self.num_actions,), np.float32)

    @property
    def view(self) -> ArmView:
        """The truth (N, ...), for evaluation; a policy must not see it."""
        return self._view

    @property
    def measured(self) -> ArmState | dict[str, ArmState]:
        """The measured state (N, ...) of the arm, or by name where there are several: what a policy gets to see."""
        return _only({name: to_tensors(state) for name, state in self._measured.items()})

    @property
    def setpoint(self) -> ArmSetpoint:
        """Set-points (N, ...)."""
        return ArmSetpoint(tool_pose=self._view.goal)

    def randomization_table(self) -> list[dict[str, str]]:
        """One row per randomization term: what, how, when, and whether it does anything."""
        return self._randomizer.table(self._model_variables.effects)

    # Episodes

    @torch.no_grad()
    def reset(self, *, seed: int | None = None) -> Observations:
        """Begin a new episode everywhere; with `seed`, the first one of a new environment with that seed.

        Returns:
            `obs` (N, num_obs) and, for a critic only, `states` (N, num_states), float32; with cameras `images`,
            (N, H, W, 3) uint8 by camera.
        """
        if seed is None and self._untouched:
            seed = self.seed  # the episodes that began with the environment have not been used
        self._untouched = False
        if seed is not None:
            self._seed(seed)
        everywhere = np.ones(self.num_envs, dtype=bool)
        self._progress = np.zeros(self.num_envs, dtype=np.int64)
        self._held = np.zeros(self.num_envs, dtype=np.int64)
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._action = np.zeros((self.num_envs, self.num_actions))
        self._previous_action = self._action.copy()
        self._goal = np.tile([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], (self.num_envs, 1))
        self._start = {name: np.zeros((self.num_envs, 7)) for name in self.loop.objects}
        self.loop.clear()
        self._begin_episodes(everywhere)
        return self._observe(everywhere)

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[Observations, Tensor, Tensor, dict[str, Any]]:
        """Carry normalized `actions` (N, num_actions) out for one control period.

        They are clipped to [-1, 1]. Where the last step ended an episode, they are ignored.

        Returns:
            Observations as from `reset`; reward (N) float32; reset (N) bool, true on the last observation
            of an episode; extras with `time_outs` (N) bool, true where the time limit ended it, `success` (N)
            bool, true where the goal was held, `cost` (N) where the task has constraints, and `log`, the mean of
            each term of reward and cost.
        """
        if actions.shape != (self.num_envs, self.num_actions):
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}; expected ({self.num_envs}, {self.num_actions})"
            )
        self._untouched = False
        self._previous_action = self._action
        actions = actions.detach().cpu()
        if self._disturbed["action"]:
            actions = disturb(actions, self._values, "action")
        self._action = actions.numpy().astype(np.float64).clip(-1.0, 1.0)
        self._randomizer.step(self.period)
        self._model_variables.step(self._values)
        self.loop.run(action_terms.to_command(self.task.action, self._action), self._values)
        starting = self._ended.copy()
        anew = bool(starting.any())
        self._progress += 1
        if anew:
            self._begin_episodes(starting)
        returned = self._observe(starting)

        view = self._view
        reached = self.task.success(view).numpy() & ~starting
        self._held = np.where(reached, self._held + 1, 0)
        success = self._held >= self._hold
        failed = (self.task.failed(view).numpy() | self.engine.failed) & ~starting
        late = (self._progress >= self.max_episode_length) & ~starting
        names, terms = _stacked(self.task.reward(view))
        rewards = self._reward(terms, success & ~failed, failed)
        self._ended = success | failed | late
        if self.automatic is not None:
            won = torch.from_numpy(success & ~failed).float()
            self.automatic.report(torch.from_numpy(self._ended), won, self._randomizer)
        # Where an episode begins nothing has been done yet.
        acting = torch.from_numpy(~starting) if anew else None
        extras: dict[str, Any] = {
            "time_outs": torch.from_numpy(late & ~success & ~failed).to(self.device),
            "success": torch.from_numpy(success & ~failed).to(self.device),
            "log": _means("reward", names, terms, acting),
        }
        if self.task.costs is not None:
            names, costs = _stacked(self.task.costs(view))
            extras["cost"] = (costs.sum(0) if acting is None else torch.where(acting, costs.sum(0), 0.0)).to(
                self.device
            )
            extras["log"].update(_means("cost", names, costs, None))
        if acting is not None:
            rewards = torch.where(acting, rewards, 0.0)
        return returned, rewards.to(self.device), torch.from_numpy(self._ended.copy()).to(self.device), extras

    @torch.no_grad()
    def begin(self, mask: Tensor) -> Observations:
        """Begin a new episode at once in the environments of `mask` (N) bool: the next action acts there.

        For faces with another auto-reset than `NEXT_STEP`. The other environments stay as they are.

        Returns:
            Observations as from `reset`, of use only where `mask` is true: elsewhere the sensors' noise is another.
        """
        starting, memory = mask.cpu().numpy(), self._memory
        self._untouched = False
        self._begin_episodes(starting)
        self._ended = self._ended & ~starting
        returned = self._observe(starting)
        self._memory = _merge(starting, self._memory, memory)
        return returned

    def _reward(self, terms: Tensor, success: np.ndarray, failed: np.ndarray) -> Tensor:
        if self.reward_kind == "sparse":
            return torch.from_numpy(success).float()
        reward = terms.sum(0)
        if success.any():
            reward = reward + self.task.success_bonus * torch.from_numpy(success).float()
        if failed.any():
            reward = reward - self.task.failure_penalty * torch.from_numpy(failed).float()
        return reward

    def _begin_episodes(self, mask: np.ndarray) -> None:
        """Put the first instant of a new episode into the environments of `mask` (N,)."""
        ids = mask.nonzero()[0]
        self._randomizer.reset(torch.from_numpy(mask))
        if self.automatic is not None:
            self.automatic.begin(torch.from_numpy(mask), self._randomizer)
        self._values = self._randomizer.values
        self._model_variables.begin(ids, self._values)
        chosen = {name: value[ids] for name, value in self._values.items()}
        start = self.task.start(len(ids), self._start_generator, chosen)
        self.engine.place(ids, Placement(joints=start.joints, widths=start.widths, poses=start.poses))
        if start.goal is not None:
            self._goal[ids] = start.goal
        for name in self.loop.objects:
            self._start[name][ids] = self.engine.pose(name)[ids]
        self._show_episodes()
        self.loop.begin(mask)
        if self.cameras is not None:
            self.cameras.reset(ids, self._look_generator)
        self._progress[ids] = 0
        self._held[ids] = 0
        self._action[ids] = 0.0
        self._previous_action[ids] = 0.0

    def _show_episodes(self) -> None:
        """Bring what the view says of whole episodes up to date; new tensors, since others may keep the old ones."""
        self._goal_view = to_tensor(self._goal)
        self._start_view = {name: to_tensor(value) for name, value in self._start.items()}

    # Observation

    def _observe(self, starting: np.ndarray) -> Observations:
        """Measure, assemble the observation, bring the view up to date."""
        anew = bool(starting.any())
        # Numpy until the end: with few environments a call of torch takes three times as long.
        truth = self.loop.truth()
        true = self.loop.states(truth)
        self._measured = self._measure(true, truth, starting)
        action = self._action.astype(np.float32)
        peaks = {name: np.where(starting, 0.0, v) if anew else v for name, v in self.loop.peak_force.items()}
        self._view = ArmView(
            arms={name: to_tensors(state) for name, state in true.items()},
            goal=self._goal_view,
            twists={name: to_tensor(self.engine.twist(name)) for name in self._free},
            start=self._start_view,
            action=torch.from_numpy(action),
            previous_action=to_tensor(self._previous_action),
            values=self._values,
            peak_force={name: to_tensor(value) for name, value in peaks.items()},
            time=to_tensor(self._progress * self.period),
        )
        if not starting.all():
            self._memory = observations.record_action(self._memory, action)
            if anew:
                self._memory = _merge(starting, self._fresh, self._memory)
        else:
            self._memory = dict(self._fresh)
        setpoint, before = ArmSetpoint(tool_pose=self._goal_view.numpy()), self._memory
        told, self._memory = observations.observe(
            self.task.terms, _only(self._measured), setpoint, self._memory, self.period
        )
        obs = torch.from_numpy(told)
        if self._disturbed["observation"]:
            obs = disturb(obs, self._values, "observation")
        if self._measured is true and self._memory is before:
            clean = told
        else:
            clean, _ = observations.observe(self.task.terms, _only(true), setpoint, self._memory, self.period)
        returned: dict[str, Any] = {
            "obs": obs.nan_to_num(0.0, 0.0, 0.0).to(self.device, torch.float32),
            "states": torch.from_numpy(self._privileged(clean)).nan_to_num(0.0, 0.0, 0.0).to(self.device),
        }
        if self.cameras is not None:
            images = self.cameras.images()
            returned["images"] = {name: torch.from_numpy(image).to(self.device) for name, image in images.items()}
        return returned

    def _measure(
        self, true: dict[str, ArmState], truth: dict[str, np.ndarray], starting: np.ndarray
    ) -> dict[str, ArmState]:
        """What sensors say, by arm; `true` itself where they are perfect."""
        seen = self.loop.seen(truth, self._values, starting)
        told = true if seen is truth else self.loop.states(seen)
        if not self._senses:
            return told
        generator, measured = self._noise_generator, {}
        for name, exact in told.items():
            size = noise_size(exact.joint_positions.shape[1], len(self.loop.objects))
            white = torch.randn(self.num_envs, size, generator=generator).numpy()
            values = values_of_arm(self._values, self.engine.scene, name)
            known = {kind: values[kind].numpy() for kind in self._sensor_kinds}
            noisy = measure(exact, seen[f"{name}.jacobian"].astype(np.float32), known, white)
            if self._loses_frames:
                lots = torch.rand(self.num_envs, 1 + len(self.loop.objects), generator=generator).numpy()
                noisy = hold_lost(noisy, self._last_seen.get(name, noisy), known, starting, lots)
                self._last_seen[name] = noisy
            measured[name] = noisy
        return measured

    def _privileged(self, clean: np.ndarray) -> np.ndarray:
        """What only a critic may see (N, num_states): the undisturbed observation, twists, every variable."""
        parts = [clean, *(twist.numpy() for twist in self._view.twists.values())]
        if self._spreads:
            values = torch.cat([self._values[name] for name in self._spreads], dim=-1)
            parts.append(((values - self._spread_center) / self._spread_size).numpy())
        time: np.ndarray = self._view.time.numpy()[:, None] / self.task.episode_length
        return np.concatenate([*parts, time], axis=-1)

    # Randomness and storage

    def _seed(self, seed: int) -> None:
        """Begin anew: randomization, starts and noise have a generator each."""
        root = torch.Generator().manual_seed(seed)
        seeds = torch.randint(2**62, (5,), generator=root).tolist()
        generators = [torch.Generator().manual_seed(s) for s in seeds[:4]]
        draws, self._start_generator, self._noise_generator, self._look_generator = generators
        nominal = nominal_variables(self.engine.scene, self.num_obs, self.num_actions)
        variables = scene_variables(self.engine.scene, self.num_obs, self.num_actions)
        widest = self.terms
        if self.automatic is not None:
            self.automatic.restart(seeds[4])
            widest = terms_in(self.terms, self.automatic.limits)
        self._randomizer = Randomizer(nominal, self.terms, self.num_envs, draws)
        self._values = self._randomizer.values
        # A critic sees those that vary, or will, in units of their spread.
        self._spreads = {
            term.parameter: (nominal[term.parameter], term.spread(nominal[term.parameter]))
            for term in widest
            if not term.has_zero_range and variables[term.parameter].where != "signal"
        }
        if self._spreads:
            self._spread_center = torch.cat([nominal for nominal, _ in self._spreads.values()])
            self._spread_size = torch.cat([spread.clamp(min=1e-6) for _, spread in self._spreads.values()])
        # What is left as it is takes no part: not even its rounding.
        names = {term.parameter for term in (*self.terms, *widest) if not term.does_nothing}
        self._sensor_kinds = {variable.kind for variable in variables.values() if variable.where == "sensor"}
        self._senses = any(variables[name].where == "sensor" for name in names)
        self._disturbed = {
            signal: any(variables[name].where == "signal" and name.startswith(signal) for name in names)
            for signal in ("observation", "action")
        }
        self._loses_frames = any(variables[name].kind in ("state_loss", "object_loss") for name in names)
        self.loop.vary({variables[name].kind for name in names})
        self._last_seen: dict[str, ArmState] = {}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that is needed to go on later, bit by bit, in an environment built alike."""
        stored = {f"engine.{name}": torch.from_numpy(value) for name, value in self.engine.state().items()}
        stored.update({f"loop.{name}": torch.from_numpy(value) for name, value in self.loop.state().items()})
        stored.update({f"memory.{name}": torch.from_numpy(value) for name, value in self._memory.items()})
        last_seen = {name: to_tensors(state) for name, state in self._last_seen.items()}
        stored.update({f"seen.{name}": value for name, value in tree_leaves(last_seen)})
        stored.update({f"start.{name}": torch.from_numpy(value) for name, value in self._start.items()})
        if self.cameras is not None:
            stored.update({f"cameras.{k}": torch.from_numpy(v) for k, v in self.cameras.state().items()})
        stored.update({name: torch.from_numpy(getattr(self, f"_{name}")) for name in _COUNTERS})
        stored.update(dict(tree_leaves({"randomizer": self._randomizer.state()})))
        if self.automatic is not None:
            stored.update({f"automatic.{name}": value for name, value in self.automatic.state_dict().items()})
        stored.update({f"generator.{name}": value.get_state() for name, value in self._generators().items()})
        return {name: value.clone() for name, value in stored.items()}

    def load_state_dict(self, stored: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: It is from an environment of another size or task.
        """

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {k[len(prefix) :]: v.numpy().copy() for k, v in stored.items() if k.startswith(prefix)}

        self._untouched = False
        tree = tree_fill({"randomizer": self._randomizer.state()}, stored)
        self._randomizer.load_state(tree["randomizer"])
        self._values = self._randomizer.values
        if self.automatic is not None:
            own = {name[len("automatic.") :]: value for name, value in stored.items() if name.startswith("automatic.")}
            self.automatic.load_state_dict(own, self._randomizer)
        for name, generator in self._generators().items():
            generator.set_state(stored[f"generator.{name}"].cpu())
        for name in _COUNTERS:
            setattr(self, f"_{name}", stored[name].numpy().copy())
        self._start = part("start.")
        self._show_episodes()
        self._memory = part("memory.")
        self.loop.load_state(part("loop."))
        self._model_variables.begin(np.arange(self.num_envs), self._values)
        self.engine.load_state(part("engine."))
        seen = {name[len("seen.") :]: value for name, value in stored.items() if name.startswith("seen.")}
        blank = {name: to_tensors(state) for name, state in self.loop.states(self.loop.truth()).items()}
        self._last_seen = {n: to_arrays(s) for n, s in tree_fill(blank, seen).items()} if seen else {}
        if self.cameras is not None:
            self.cameras.load_state(part("cameras."))

    def _generators(self) -> dict[str, torch.Generator]:
        return {
            "draws": self._randomizer.generator,
            "start": self._start_generator,
            "noise": self._noise_generator,
            "look": self._look_generator,
        }

    def close(self) -> None:
        """Give back what engine and cameras hold."""
        if self.cameras is not None:
            self.cameras.close()
        if self._overview is not None:
            self._overview.close()
        self.engine.close()

    def render(self, index: int = 0) -> np.ndarray:
        """A picture (480, 640, 3) uint8 of environment `index`, from before the table.

        Raises:
            RuntimeError: There is no GL library; the message names the packages.
        """
        from sim.cameras import Cameras, overview_camera  # state-only use needs no GL library

        if self._overview is None:
            self._overview = Cameras(self.engine)
        picture: np.ndarray = self._overview.render(index, overview_camera(self.engine.scene))
        return picture


def _only(states: dict[str, ArmState]) -> ArmState | dict[str, ArmState]:
    """The state of the only arm, or all by name."""
    return states if len(states) > 1 else next(iter(states.values()))


def _merge(mask: np.ndarray, new: Mapping[str, np.ndarray], old: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays (N, size) by name: `new` ones where `mask` (N,) is true, else `old` ones."""
    return {name: np.where(mask[:, None], value, old[name]) for name, value in new.items()}


def _stacked(terms: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
    """Names and values (terms, N) of a reward or cost; what is no number counts as 0."""
    return list(terms), torch.stack(list(terms.values())).nan_to_num(0.0, 0.0, 0.0)


def _means(kind: str, names: list[str], terms: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Mean of every term (terms, N) where `mask` (N,) is true or everywhere, by `<kind>/<name>`; 0 where nowhere."""
    if mask is not None:
        terms = terms[:, mask] if bool(mask.any()) else terms * 0.0
    return {f"{kind}/{name}": mean for name, mean in zip(names, terms.mean(1).unbind(), strict=True)}
