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
from sim.arm_loop import ArmLoop, to_tensor
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
    _memory: dict[str, Tensor]

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
        return self._measured

    @property
    def setpoint(self) -> ArmSetpoint:
        """Set-points (N, ...)."""
        return self._setpoint

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
        self._action = actions.double().clamp(-1.0, 1.0).numpy().copy()
        self._randomizer.step(self.period)
        self._model_variables.step(self._values)
        self.loop.run(action_terms.to_command(self.task.action, self._action), self._values)
        starting = self._ended.copy()
        self._progress += 1
        if starting.any():
            self._begin_episodes(starting)
        returned = self._observe(starting)

        view = self._view
        reached = self.task.success(view).numpy() & ~starting
        self._held = np.where(reached, self._held + 1, 0)
        success = self._held >= self._hold
        failed = (self.task.failed(view).numpy() | self.engine.failed) & ~starting
        late = (self._progress >= self.max_episode_length) & ~starting
        terms = {name: value.nan_to_num(0.0, 0.0, 0.0) for name, value in self.task.reward(view).items()}
        rewards = self._reward(terms, success & ~failed, failed)
        self._ended = success | failed | late
        if self.automatic is not None:
            won = torch.from_numpy(success & ~failed).float()
            self.automatic.report(torch.from_numpy(self._ended), won, self._randomizer)
        acting = torch.from_numpy(~starting)
        extras: dict[str, Any] = {
            "time_outs": torch.from_numpy(late & ~success & ~failed).to(self.device),
            "success": torch.from_numpy(success & ~failed).to(self.device),
            "log": {
                **{f"reward/{name}": value[acting].mean() if bool(acting.any()) else value.mean() * 0.0
                   for name, value in terms.items()},
            },
        }  # fmt: skip
        if self.task.costs is not None:
            costs = {name: value.nan_to_num(0.0, 0.0, 0.0) for name, value in self.task.costs(view).items()}
            extras["cost"] = torch.where(acting, torch.stack(list(costs.values())).sum(0), 0.0).to(self.device)
            extras["log"].update({f"cost/{name}": value.mean() for name, value in costs.items()})
        rewards = torch.where(acting, rewards, 0.0).to(self.device)
        return returned, rewards, torch.from_numpy(self._ended.copy()).to(self.device), extras

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
        begun = torch.from_numpy(starting)[:, None]
        self._memory = {name: torch.where(begun, value, memory[name]) for name, value in self._memory.items()}
        return returned

    def _reward(self, terms: Mapping[str, Tensor], success: np.ndarray, failed: np.ndarray) -> Tensor:
        won, lost = torch.from_numpy(success).float(), torch.from_numpy(failed).float()
        if self.reward_kind == "sparse":
            return won
        shaped = torch.stack(list(terms.values())).sum(0)
        return shaped + self.task.success_bonus * won - self.task.failure_penalty * lost

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
        self.loop.begin(mask)
        if self.cameras is not None:
            self.cameras.reset(ids, self._look_generator)
        self._progress[ids] = 0
        self._held[ids] = 0
        self._action[ids] = 0.0
        self._previous_action[ids] = 0.0

    # Observation

    def _observe(self, starting: np.ndarray) -> Observations:
        """Measure, assemble the observation, bring the view up to date."""
        truth = self.loop.truth()
        seen = self.loop.seen(truth, self._values, starting)
        measured = {}
        for name, state in self.loop.states(seen).items():
            size = noise_size(state.joint_positions.shape[1], len(self.loop.objects))
            white = torch.randn(self.num_envs, size, generator=self._noise_generator)
            values = values_of_arm(self._values, self.engine.scene, name)
            measured[name] = measure(state, to_tensor(seen[f"{name}.jacobian"]), values, white)
            if self._loses_frames:
                lots = torch.rand(self.num_envs, 1 + len(self.loop.objects), generator=self._noise_generator)
                before = self._last_seen.get(name, measured[name])
                measured[name] = hold_lost(measured[name], before, values, torch.from_numpy(starting), lots)
                self._last_seen[name] = measured[name]
        self._measured = measured if len(measured) > 1 else next(iter(measured.values()))
        self._setpoint = ArmSetpoint(tool_pose=to_tensor(self._goal))
        self._view = ArmView(
            arms=self.loop.states(truth),
            goal=to_tensor(self._goal),
            twists={name: to_tensor(self.engine.twist(name)) for name in self._free},
            start={name: to_tensor(value) for name, value in self._start.items()},
            action=to_tensor(self._action),
            previous_action=to_tensor(self._previous_action),
            values=self._values,
            peak_force={name: to_tensor(np.where(starting, 0.0, v)) for name, v in self.loop.peak_force.items()},
            time=to_tensor(self._progress * self.period),
        )
        like = torch.zeros(self.num_envs, 1)
        fresh = observations.initial_memory(self.task.terms, like)
        mask = torch.from_numpy(starting)[:, None]
        old = getattr(self, "_memory", fresh)
        self._memory = {name: torch.where(mask, value, old[name]) for name, value in fresh.items()}
        if not starting.all():
            recorded = observations.record_action(self._memory, to_tensor(self._action))
            self._memory = {name: torch.where(mask, self._memory[name], value) for name, value in recorded.items()}
        obs, self._memory = observations.observe(
            self.task.terms, self._measured, self._setpoint, self._memory, self.period
        )
        if self._disturbed["observation"]:
            obs = disturb(obs, self._values, "observation")
        states = self._privileged()
        returned: dict[str, Any] = {
            "obs": obs.nan_to_num(0.0, 0.0, 0.0).to(self.device, torch.float32),
            "states": states.nan_to_num(0.0, 0.0, 0.0).to(self.device, torch.float32),
        }
        if self.cameras is not None:
            images = self.cameras.images()
            returned["images"] = {name: torch.from_numpy(image).to(self.device) for name, image in images.items()}
        return returned

    def _privileged(self) -> Tensor:
        """What only a critic may see (N, num_states): the undisturbed observation, twists, every variable."""
        true_arms = self._view.arms if len(self._view.arms) > 1 else self._view.arm
        memory = {name: value.clone() for name, value in self._memory.items()}
        clean, _ = observations.observe(self.task.terms, true_arms, self._setpoint, memory, self.period)
        scaled = [
            (self._values[name] - nominal) / spread.clamp(min=1e-6) for name, (nominal, spread) in self._spreads.items()
        ]
        time = self._view.time[:, None] / self.task.episode_length
        return torch.cat([clean, *self._view.twists.values(), *scaled, time], dim=-1)

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
        names = {term.parameter for term in self.terms}
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
        stored.update({f"memory.{name}": value for name, value in self._memory.items()})
        stored.update({f"seen.{name}": value for name, value in tree_leaves(self._last_seen)})
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
        self._memory = {name: torch.from_numpy(value) for name, value in part("memory.").items()}
        self.loop.load_state(part("loop."))
        self._model_variables.begin(np.arange(self.num_envs), self._values)
        self.engine.load_state(part("engine."))
        seen = {name[len("seen.") :]: value for name, value in stored.items() if name.startswith("seen.")}
        self._last_seen = tree_fill(self.loop.states(self.loop.truth()), seen) if seen else {}
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
