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

    def vary(self, kinds: set[str]) -> None:
        """Say which kinds of variables vary: the others cost nothing."""
        self._scaled_gains = bool(kinds & {"gain_stiffness", "gain_damping"})
        self._scaled_motors = "motor_strength" in kinds

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
        arrival = self._latency_steps(values, "action_latency")
        sight = self.substeps - 1 - self._latency_steps(values, "observation_latency")
        # Masks of the environments in which something happens, by time step.
        due = {int(k): arrival == k for k in np.unique(arrival)}
        seen = {int(k): sight == k for k in np.unique(sight) if k < self.substeps - 1}
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
                    mask = None if len(due) == 1 else due[k]
                    controller.command(commands[name], kinematics, q, self.period, mask=mask)
                wanted = controller.torques(kinematics, q, qd, dt)
                torques[name] = wanted if strengths is None else wanted * strengths[name]
                if name in self._grippers:
                    widths[name] = controller.gripper_width(dt)
            self.engine.substep(torques, widths)
            for name in self._feeling:
                # An impact is over long before the period ends.
                force = np.linalg.norm(self.engine.wrench(name)[:, :3], axis=1)
                np.maximum(self.peak_force[name], force, out=self.peak_force[name])
            if self.on_substep is not None:
                self.on_substep(k)
            if k in seen:
                self._remember(seen[k])
        self.engine.refresh()

    def _scale_controllers(self, values: Mapping[str, Tensor]) -> dict[str, np.ndarray] | None:
        """Set the controllers' gains; returns the strength (N, 1) of the motors by arm, None where it is 1."""
        if not (self._scaled_gains or self._scaled_motors):
            return None
        strengths = {}
        for name, controller in self.controllers.items():
            own = values_of_arm(values, self.engine.scene, name)
            strengths[name] = own["motor_strength"].double().numpy()
            if self._scaled_gains:
                gains = [own[f"gain_{kind}"][:, 0].double().numpy() for kind in ("stiffness", "damping")]
                controller.scale_gains(*gains)
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
        """The same as states (N, ...) of float32 tensors, by arm."""
        objects = {name: to_tensor(truth[f"objects.{name}"]) for name in self.objects}
        states = {}
        for name in self.controllers:
            q, qd, jacobian = (truth[f"{name}.{key}"] for key in ("q", "qd", "jacobian"))
            states[name] = ArmState(
                joint_positions=to_tensor(q),
                joint_velocities=to_tensor(qd),
                tool_pose=to_tensor(truth[f"{name}.tool"]),
                tool_twist=to_tensor((jacobian @ qd[..., None])[..., 0]),
                gripper_width=to_tensor(truth[f"{name}.width"]),
                wrench=to_tensor(truth[f"{name}.wrench"]),
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
    return torch.from_numpy(np.asarray(array, dtype=np.float32).copy())
