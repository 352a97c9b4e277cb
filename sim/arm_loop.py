"""One control period of arms: a command arrives after its latency, the robot's own controllers run at every time step.

What sensors see may be older than the end of the period; the loop keeps what they saw then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardware.controllers.arm import ArmController
from hardware.descriptions import load_arm
from policies.types import ArmState
from sim.arm_randomization import values_of_arm
from sim.engines.base import ArmEngine
from sim.tasks.arm import ArmTask

Truth = dict[str, np.ndarray]
"""What sensors can see, by name: `<arm>.q`, `.qd`, `.jacobian`, `.tool`, `.width`, `.wrench`, and `objects.<name>`."""

_LATENCY_STEP = 5
"""Time steps to which latencies are rounded: 10 ms at 2 ms."""


class ArmLoop:
    """The controllers of N scenes and what lies on its way between them and a policy."""

    on_substep: Callable[[int], None] | None = None
    """Called after every time step with its number in the period: for those who look on, see `robot_rl.play`."""

    def __init__(self, task: ArmTask, engine: ArmEngine) -> None:
        """Build the controllers; call `begin` before `run`."""
        self.engine, self.period = engine, task.period
        self.substeps = round(task.period / engine.scene.timestep)
        """Time steps of physics and controllers in a control period."""
        descriptions = {mount.name: load_arm(mount.robot) for mount in engine.scene.arms}
        self.controllers = {
            name: ArmController(description, task.controller, (engine.num_envs,))
            for name, description in descriptions.items()
        }
        """By arm."""
        self.objects = [b.name for b in engine.scene.bodies if b.motion != "fixed" and not b.attached_to]
        """Names of what perception can see."""
        self._grippers = {
            mount.name for mount in engine.scene.arms if mount.gripper and descriptions[mount.name].gripper is not None
        }
        self.peak_force = {name: np.zeros(engine.num_envs) for name in self.controllers}
        """Largest contact force (N,) N at the tool in the last period, by arm; 0 without a force sensor."""
        self._feeling = [mount.name for mount in engine.scene.arms if mount.wrench]
        self._delayed: Truth = {}
        self._factors: dict[str, np.ndarray] = {}
        self.vary({"gain_stiffness", "motor_strength", "action_latency"})

    def vary(self, kinds: set[str]) -> None:
        """Say which kinds of variables vary: the others are nominal and cost nothing."""
        self._scaled_gains = bool(kinds & {"gain_stiffness", "gain_damping"})
        self._scaled_motors = "motor_strength" in kinds
        self._late = bool(kinds & {"action_latency", "observation_latency"})

    def begin(self, mask: np.ndarray) -> None:
        """Hold where the arms are, in the environments of `mask` (N,) bool."""
        for name, controller in self.controllers.items():
            width = self.engine.width(name)
            controller.reset(self.engine.kinematics(name), self.engine.joints(name)[0], mask, width)

    def run(self, command: Any, values: Mapping[str, Tensor]) -> None:
        """Carry a command, or one by arm name, out for one control period.

        Args:
            command: What `policies.actions.to_command` gives, fields (N, ...).
            values: Randomized variables (N, size) by name.
        """
        commands = command if isinstance(command, dict) else {next(iter(self.controllers)): command}
        dt = self.engine.scene.timestep
        due, seen = self._schedule(values)
        strengths = self._scale_controllers(values)
        for name in self._feeling:
            self.peak_force[name] = np.zeros(self.engine.num_envs)
        torques: dict[str, np.ndarray] = {}
        widths: dict[str, np.ndarray] = {}
        for k in range(self.substeps):
            for name, controller in self.controllers.items():
                kinematics = self.engine.kinematics(name)
                q, qd = self.engine.joints(name)
                if k in due:
                    controller.command(commands[name], kinematics, q, self.period, mask=due[k])
                wanted = controller.torques(kinematics, q, qd, dt)
                torques[name] = wanted if strengths is None else wanted * strengths[name]
                if name in self._grippers:
                    widths[name] = controller.gripper_width(dt)
            self.engine.substep(torques, widths)
            for name in self._feeling:
                # An impact is over long before the period ends.
                force = self.engine.wrench(name)[:, :3]
                peak = self.peak_force[name]
                np.maximum(peak, np.sqrt((force * force).sum(axis=1)), out=peak)
            if self.on_substep is not None:
                self.on_substep(k)
            if k in seen:
                self._remember(seen[k])
        self.engine.refresh()

    def _schedule(self, values: Mapping[str, Tensor]) -> tuple[dict[int, np.ndarray | None], dict[int, np.ndarray]]:
        """When commands arrive and when it is that sensors see: masks (N,) by time step, None for all of them."""
        if not self._late:
            return {0: None}, {}
        arrival = self._latency_steps(values, "action_latency")
        sight = self.substeps - 1 - self._latency_steps(values, "observation_latency")
        arrivals, sights = set(arrival.tolist()), set(sight.tolist()) - {self.substeps - 1}
        return {k: arrival == k if len(arrivals) > 1 else None for k in arrivals}, {k: sight == k for k in sights}

    def _scale_controllers(self, values: Mapping[str, Tensor]) -> dict[str, np.ndarray] | None:
        """Set the controllers' gains; returns the strength (N, 1) of the motors by arm, None where it is 1."""
        if not (self._scaled_gains or self._scaled_motors):
            return None
        strengths = {}
        for name, controller in self.controllers.items():
            own = values_of_arm(values, self.engine.scene, name)
            strengths[name] = own["motor_strength"].double().numpy()
            if self._scaled_gains:
                factors = [own[f"gain_{kind}"][:, 0].double().numpy() for kind in ("stiffness", "damping")]
                # They change with episodes, and a controller takes its time to change its gains.
                if not np.array_equal(factors, self._factors.get(name, ())):
                    controller.scale_gains(*factors)
                    self._factors[name] = np.array(factors)
        return strengths

    def _latency_steps(self, values: Mapping[str, Tensor], name: str) -> np.ndarray:
        steps = values[name][:, 0].numpy() / (self.engine.scene.timestep * _LATENCY_STEP)
        return np.clip(np.rint(steps).astype(int) * _LATENCY_STEP, 0, self.substeps - 1)

    # What there is to see

    def truth(self) -> Truth:
        """Copies of what perfect sensors would see at this instant."""
        truth = {}
        for name in self.controllers:
            kinematics = self.engine.kinematics(name)
            q, qd = self.engine.joints(name)
            truth[f"{name}.q"], truth[f"{name}.qd"] = q.copy(), qd.copy()
            truth[f"{name}.jacobian"] = kinematics.jacobian.copy()
            truth[f"{name}.tool"] = np.concatenate([kinematics.tool_position, kinematics.tool_orientation], axis=1)
            truth[f"{name}.width"] = self.engine.width(name)
            truth[f"{name}.wrench"] = self.engine.wrench(name)
        truth.update({f"objects.{name}": self.engine.pose(name) for name in self.objects})
        return truth

    def seen(self, truth: Truth, values: Mapping[str, Tensor], starting: np.ndarray) -> Truth:
        """What arrives of it now: older where observations are late; episodes that start are at rest."""
        if not self._delayed:
            return truth
        late = (self._latency_steps(values, "observation_latency") > 0) & ~starting
        shape = {name: late.reshape(-1, *[1] * (value.ndim - 1)) for name, value in truth.items()}
        return {name: np.where(shape[name], self._delayed[name], value) for name, value in truth.items()}

    def _remember(self, mask: np.ndarray) -> None:
        """Keep what sensors see now in the environments of `mask`: it is measured later."""
        for name, value in self.truth().items():
            if name not in self._delayed:
                self._delayed[name] = value.copy()
            self._delayed[name][mask] = value[mask]

    def states(self, truth: Truth) -> dict[str, ArmState]:
        """The same as states (N, ...) of float32 numpy arrays, by arm."""
        objects = {name: truth[f"objects.{name}"].astype(np.float32) for name in self.objects}
        states = {}
        for name in self.controllers:
            q, qd, jacobian = (truth[f"{name}.{key}"] for key in ("q", "qd", "jacobian"))
            states[name] = ArmState(
                joint_positions=q.astype(np.float32),
                joint_velocities=qd.astype(np.float32),
                tool_pose=truth[f"{name}.tool"].astype(np.float32),
                tool_twist=(jacobian @ qd[..., None])[..., 0].astype(np.float32),
                gripper_width=truth[f"{name}.width"].astype(np.float32),
                wrench=truth[f"{name}.wrench"].astype(np.float32),
                objects=objects,
            )
        return states

    # Storage

    def clear(self) -> None:
        """Forget what was seen."""
        self._delayed = {}

    def state(self) -> dict[str, np.ndarray]:
        """Everything but the engine that is needed to go on later, bit by bit."""
        stored = {f"delayed.{name}": value for name, value in self._delayed.items()}
        for arm, controller in self.controllers.items():
            stored.update({f"controller.{arm}.{name}": value for name, value in controller.state().items()})
        return stored

    def load_state(self, stored: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""

        def part(prefix: str) -> Truth:
            return {name[len(prefix) :]: value for name, value in stored.items() if name.startswith(prefix)}

        self._delayed = part("delayed.")
        for arm, controller in self.controllers.items():
            controller.load_state(part(f"controller.{arm}."))


def to_tensor(array: np.ndarray) -> Tensor:
    """A float32 copy."""
    return torch.from_numpy(array.astype(np.float32))


def to_tensors(state: ArmState) -> ArmState:
    """The state as tensors, which share memory with its arrays."""
    return _converted(state, torch.from_numpy)


def to_arrays(state: ArmState) -> ArmState:
    """The state as numpy arrays, which share memory with its tensors."""
    return _converted(state, Tensor.numpy)


def _converted(state: ArmState, convert: Callable[[Any], Any]) -> ArmState:
    return ArmState(
        joint_positions=convert(state.joint_positions),
        joint_velocities=convert(state.joint_velocities),
        tool_pose=convert(state.tool_pose),
        tool_twist=convert(state.tool_twist),
        gripper_width=convert(state.gripper_width),
        wrench=convert(state.wrench),
        objects={name: convert(pose) for name, pose in state.objects.items()},
    )
