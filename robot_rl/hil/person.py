"""A live person as an operator: what a device says becomes the task's normalized action.

What the task's action lacks (a direction of rotation, say) the person cannot move either. Grippers keep what they were
last told until the button toggles them, so that a take-over does not drop what is held.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hardware.teleop.clutch import (
    Clutch,
    ClutchConfig,
    engage,
    follow,
    limited,
    mismatch,
    speed_share,
    target,
    twist_towards,
)
from hardware.teleop.device import Device, Follower, Sample
from policies import rotation
from policies.actions import TWIST_AXES, ActionConfig, action_size
from policies.arm_terms import arm_of
from robot_rl.errors import UserError
from robot_rl.hil.intervention import Decision, Intervention, InterventionConfig, Verdict, advance, begin
from robot_rl.hil.operators import Help, Mark
from robot_rl.hil.plant import Moment

_MARKS: dict[Verdict, Mark] = {
    "": "",
    "success": "success",
    "failure": "failure",
    "discard": "discard",
    "reset": "discard",  # a rollout ends both the same way: cut off, without a verdict
}


def _tell(message: str) -> None:
    sys.stderr.write(f"{message}\r\n")


class PersonOperator:
    """Somebody with a device. `look` never waits for them."""

    def __init__(
        self,
        device: Device,
        action: ActionConfig,
        period: float,
        *,
        config: InterventionConfig | None = None,
        clutch: ClutchConfig | None = None,
        demonstrates: bool = False,
        say: Callable[[str], None] = _tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Stand by.

        Args:
            device: What the person holds; stays theirs to close.
            action: Of the task.
            period: s between control steps.
            config: When they take over and hand back.
            clutch: How poses and leader arms are coupled.
            demonstrates: There is no policy to drive instead: while the person does not, the robot rests, and that is
                no part of the episode.
            say: Tells them something.
            clock: Seconds that only go forward.

        Raises:
            UserError: The device cannot say such actions.
        """
        self._device, self._action, self._period = device, action, period
        self._config, self._clutch_config = config or InterventionConfig(), clutch or ClutchConfig()
        self._demonstrates, self._say, self._clock = demonstrates, say, clock
        self._parameters: dict[str, Any] = dict(action.parameters)
        self._size = action_size(action)
        self._arms = str(self._parameters.get("arms", "")).split() or [""]
        if action.name == "cartesian_twist" and device.motion != "joints":
            self._axes = str(self._parameters["axes"]).split()
            grippers = [i for i in range(self._size) if self._axes[i % len(self._axes)] == "gripper"]
        elif action.name == "joint_position_targets" and device.motion == "joints":
            self._bounds = np.array([self._parameters[name].split() for name in ("low", "high")], dtype=np.float64)
            grippers = [self._size - 1]
        else:
            raise UserError(
                f"{device.name} says {device.motion}, from which no action {action.name!r} can be made; "
                "cartesian_twist takes a keyboard, gamepad or another device of velocities or poses, "
                "joint_position_targets a leader arm"
            )
        self._grippers = np.array(grippers, dtype=np.intp)
        self._told = ""
        self.state = Intervention()
        """Who drives."""
        self.arm = 0
        """Number of the arm that the device drives."""
        self._executed: np.ndarray | None = None
        self._open_clutch()

    def begin(self, episode: int, steps: int) -> None:
        """An episode begins: what was pressed since the last one does not count, but for a pause."""
        self.state = begin(self.state, self._device.read())
        self._executed = None
        self._open_clutch()

    def look(self, moment: Moment, policy_action: np.ndarray, value: float | None) -> Help:
        """What the person does now; the step in which they engage is already theirs."""
        sample, now = self._device.read(), self._clock()
        if self._executed is None:
            first = policy_action[self._grippers].astype(np.float64)
            self._executed = np.ones_like(first) if self._demonstrates else first
        decision = advance(self.state, sample, now, self._config, self._mismatch(moment, sample))
        if decision.says and decision.says != self._told:
            self._say(decision.says)
        self._told = decision.says
        self.state = decision.state
        mark = _MARKS[decision.verdict]
        if isinstance(self._device, Follower) and self._device.motion == "joints":
            self._device.follow(None if decision.moves else self._joints(moment))
        if decision.drives and "next_arm" in sample.pressed:
            self.arm = (self.arm + 1) % len(self._arms)
            self._open_clutch()
            self._say(f"you drive the arm {self._arms[self.arm] or 'that there is'}")
        if decision.drives or (mark and (decision.holds or self._demonstrates)):
            return Help(action=self._act(moment, sample, now, decision), mark=mark)
        self._open_clutch()
        if decision.holds or self._demonstrates:
            return Help(pause=True)
        self._executed = policy_action[self._grippers].astype(np.float64)
        return Help(mark=mark)

    def help(self) -> str:
        """What the device can do in this task."""
        lines = [self._device.help()]
        if self._device.motion != "joints":
            missing = [name for name in TWIST_AXES if name not in self._axes]
            if missing:
                lines.append(f"This task does not use: {', '.join(missing)}.")
        return "\n".join(lines)

    def _open_clutch(self) -> None:
        self._clutch: Clutch | None = None
        self._engaged_at: float | None = None
        self._hold: np.ndarray | None = None

    def _mismatch(self, moment: Moment, sample: Sample) -> str:
        if self._device.motion != "joints":
            return ""
        if sample.joints is None:
            return "the leader arm says nothing"
        return mismatch(sample.joints, self._joints(moment), self._clutch_config.tolerance)

    def _act(self, moment: Moment, sample: Sample, now: float, decision: Decision) -> np.ndarray:
        """The person's normalized action (A,)."""
        assert self._executed is not None
        if self._device.motion == "joints":
            action = self._joint_action(moment, sample, now, decision.moves)
        else:
            action = self._twist_action(moment, self._twist(moment, sample, now, decision.moves))
        if decision.drives and len(self._grippers):
            which = self.arm if len(self._grippers) > 1 else 0
            self._executed = self._executed.copy()
            if sample.gripper is not None and decision.moves:
                self._executed[which] = sample.gripper
            elif "gripper" in sample.pressed:
                self._executed[which] = -1.0 if self._executed[which] > 0.0 else 1.0
        action[self._grippers] = self._executed
        return action.astype(np.float32)

    def _twist(self, moment: Moment, sample: Sample, now: float, moves: bool) -> np.ndarray:
        """Velocity (6,) of the tool, base frame."""
        if moves and self._device.motion == "twist":
            return np.asarray(sample.twist, dtype=np.float64)
        if not moves or sample.pose is None:
            self._open_clutch()
            return np.zeros(6)
        pose, tool = np.asarray(sample.pose, dtype=np.float64), self._tool(moment)
        if self._clutch is None or self._engaged_at is None:
            self._clutch, self._engaged_at = engage(pose, tool), now
        wanted = target(self._clutch, pose, self._clutch_config.scale)
        share = speed_share(now - self._engaged_at, self._clutch_config)
        linear, angular = (float(self._parameters.get(name, 0.0)) for name in ("linear", "angular"))
        return limited(twist_towards(tool, wanted, self._period), share * linear, share * angular)

    def _twist_action(self, moment: Moment, twist: np.ndarray) -> np.ndarray:
        """The inverse of `cartesian_twist`, in the direction of `twist` where that is too fast."""
        action = np.zeros(self._size)
        if self._parameters.get("frame", "base") == "tool" and twist.any():
            turn = self._tool(moment)[3:]
            twist = np.concatenate([rotation.rotate_inverse(turn, twist[:3]), rotation.rotate_inverse(turn, twist[3:])])
        for place, name in enumerate(self._axes):
            scale = float(self._parameters.get("angular" if name.startswith("r") else "linear", 0.0))
            if name != "gripper" and scale > 0.0:
                action[self.arm * len(self._axes) + place] = twist[TWIST_AXES.index(name)] / scale
        return action / max(1.0, float(np.abs(action).max()))

    def _joint_action(self, moment: Moment, sample: Sample, now: float, moves: bool) -> np.ndarray:
        """The inverse of `joint_position_targets`."""
        measured = self._joints(moment)
        if moves and sample.joints is not None:
            if self._engaged_at is None:
                self._engaged_at = now
            share = speed_share(now - self._engaged_at, self._clutch_config)
            step = share * self._clutch_config.joint_speed * self._period
            self._hold, joints = None, follow(measured, np.asarray(sample.joints, np.float64), step)
        else:
            self._engaged_at = None
            # Latched: a target that is measured anew at every step would sink with its load.
            self._hold = joints = measured if self._hold is None else self._hold
        low, high = self._bounds
        return np.append(np.clip(2.0 * (joints - low) / (high - low) - 1.0, -1.0, 1.0), 0.0)

    def _tool(self, moment: Moment) -> np.ndarray:
        """Measured pose (7,) of the tool that is driven."""
        pose = arm_of(moment.state, self._arms[self.arm]).tool_pose
        return np.asarray(pose, dtype=np.float64).reshape(-1, 7)[0]

    def _joints(self, moment: Moment) -> np.ndarray:
        """Measured joint angles (n,) rad."""
        joints = np.asarray(arm_of(moment.state).joint_positions, dtype=np.float64)
        return joints.reshape(-1, joints.shape[-1])[0]
