"""The arm's controller: latches a command at the policy's tick and turns it into torques at every controller tick.

The type of the command decides the mode:

- `CartesianTwist`: impedance of the tool. The target is the pose measured at the policy's tick plus twist × period;
  the reference goes there in a straight line over the period and then rests, so that a policy that dies leaves an arm
  that stands and pushes with no more than stiffness × clip.
- `JointPositions`: impedance of the joints, behind references that keep the limits of velocity, acceleration, jerk.
- `JointTorques`: as they are. Older than three periods, they are given up and the measured pose is held.

All torques keep the limits of their rate and of themselves. None includes gravity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from array_api_compat import array_namespace, device

from hardware.controllers.arm_config import ArmControllerConfig
from hardware.controllers.cartesian_impedance import (
    cartesian_impedance,
    impedance_arrays,
    pose_error,
    saturate,
)
from hardware.controllers.gripper import move_width, width_from_command
from hardware.controllers.joint_impedance import joint_impedance, joint_impedance_arrays
from hardware.controllers.joint_position import BatchInterpolator, joint_limits, symmetric_limit
from hardware.controllers.single_arm import Ramp, SingleArm, ramp_of_twist
from hardware.descriptions.arm import ArmDescription
from hardware.kinematics import ArmKinematics
from policies import rotation
from policies.types import Array, CartesianTwist, JointPositions, JointTorques

Set = Literal["compliant", "precise"]
Mode = Literal["cartesian", "joint", "torque"]
_MODES: dict[type, Mode] = {CartesianTwist: "cartesian", JointPositions: "joint", JointTorques: "torque"}
_STATE = (
    "_start", "_end", "_way", "_turn", "_twist", "_share", "_joint_reference", "_joint_target", "_torque", "_previous",
    "_width", "_width_target",
)  # fmt: skip
"""What lasts from tick to tick."""
_RAMP = ("_start", "_end", "_way", "_turn", "_twist")
"""What of it a twist sets."""


class ArmController:
    """Targets, previous torques and gripper width of one arm, or of a batch of them, between two ticks.

    Life cycle: `reset`, then `command` at the policy's rate and `torques` and `gripper_width` at the controller's.
    Arrays are of the kind, type and device of the first `reset`'s `q`.
    """

    # What the command asks for; the reference goes from start to end, its share of the way growing from 0 to 1.
    _start: Array  # (..., 7)
    _end: Array  # (..., 7)
    _way: Array  # (..., 3), m, from start to end
    _turn: Array  # (..., 4), half of the angle from start to end, and its axis
    _twist: Array  # (..., 6), velocity on the way
    _share: Array  # (...), periods since the command
    _joint_target: Array  # (..., n)
    _joint_reference: Array  # (..., n)
    _torque: Array  # (..., n)
    _width_target: Array  # (...), m
    # What the controller said last.
    _previous: Array  # (..., n), N m
    _width: Array  # (...), m

    def __init__(
        self, description: ArmDescription, config: ArmControllerConfig | None = None, batch: tuple[int, ...] = ()
    ) -> None:
        """Prepare; call `reset` before use.

        Args:
            description: The arm.
            config: Gains and bounds; None: the defaults.
            batch: Leading batch axes of every array.

        Raises:
            ValueError: The description lacks a limit, or the posture has the wrong length.
        """
        self.description = description
        self.config = ArmControllerConfig() if config is None else config
        self.batch = batch
        posture = description.home if self.config.posture is None else np.array(self.config.posture)
        if posture.shape != (description.num_joints,):
            raise ValueError(
                f"posture has {posture.size} angles; {description.interface.name!r} has {description.num_joints} joints"
            )
        self._limits = joint_limits(description, self.config.joint_limit_margin, self.config.joint_limit_fraction)
        self._constants = (posture, symmetric_limit(description, "torque"), symmetric_limit(description, "torque_rate"))
        self._mode: Mode = "cartesian"
        self._set: Set = "compliant"
        self._scales: tuple[Array, Array] = (1.0, 1.0)
        self._period = 1.0
        self._interpolator: BatchInterpolator | None = None
        self._like: Array | None = None
        self._alone = False
        self._single: SingleArm | None = None
        self._in_single = False

    # --- life cycle ---------------------------------------------------------------------------------------------

    def reset(self, kinematics: ArmKinematics, q: Array, mask: Array | None = None, width: Array | None = None) -> None:
        """Hold the measured pose; torques so far count as zero.

        Args:
            kinematics: Of the tool, at `q`.
            q: Shape (..., n), rad, measured.
            mask: Shape (...), bool, which of the batch; None: all.
            width: Shape (...), m, measured width of the gripper; None: open.
        """
        xp = array_namespace(q)
        if self._like is None:
            self._prepare(q)
            mask = None
        if width is None:
            width = xp.full(self.batch, self._max_width, dtype=q.dtype, device=device(q))
        self._keep(mask, self._held(kinematics, q) | {"_previous": xp.zeros_like(q)})
        self._keep(mask, {"_width": width, "_width_target": width})
        if mask is None:
            self._mode, self._interpolator = "cartesian", None
        elif self._interpolator is not None:
            self._interpolator.reset(q, mask)

    def use(self, gains: Set) -> None:
        """Choose the Cartesian gains, `compliant` or `precise`, from the next tick on."""
        if gains not in ("compliant", "precise"):
            raise ValueError(f"gains are {gains!r}; choose 'compliant' or 'precise'")
        self._set = gains
        self._update_gains()

    def scale_gains(self, stiffness: Array = 1.0, damping: Array = 1.0) -> None:
        """Multiply stiffness and damping of every mode by factors (...), e.g. one per environment."""
        self._scales = (stiffness, damping)
        self._update_gains()

    def state(self) -> dict[str, Array]:
        """Targets, previous torques and mode by name, for `load_state`; call `reset` first."""
        self._end_single()
        numbers = {"_mode": np.array(get_args(Mode).index(self._mode)), "_period": np.array(self._period)}
        return {name: getattr(self, name) for name in _STATE} | numbers

    def load_state(self, stored: Mapping[str, Array]) -> None:
        """Go on from what `state` returned; a joint reference goes on at rest from where it was."""
        for name in _STATE:
            setattr(self, name, stored[name])
        self._mode, self._period = get_args(Mode)[int(stored["_mode"])], float(stored["_period"])
        self._interpolator, self._in_single = None, False

    # --- policy's tick ------------------------------------------------------------------------------------------

    def command(
        self,
        command: CartesianTwist | JointPositions | JointTorques,
        kinematics: ArmKinematics,
        q: Array,
        period: float,
        mask: Array | None = None,
    ) -> Array:
        """Latch a command.

        The mode is one for the batch: a command of another type than the last makes arms outside the mask hold.

        Args:
            command: What to do from now on.
            kinematics: Of the tool, at `q`.
            q: Shape (..., n), rad, measured.
            period: s until the next command is expected, the same for the batch.
            mask: Shape (...), bool, which of the batch take the command; None: all.

        Returns:
            Shape (...), bool: where the command was refused because it is not finite. There the arm holds its last
            target (`CartesianTwist`, `JointPositions`) or makes no torque (`JointTorques`).
        """
        if type(command) not in _MODES:
            names = ", ".join(t.__name__ for t in _MODES)
            raise TypeError(f"a command of type {type(command).__name__}; an arm takes {names}")
        if self._alone and mask is None and self._mode == "cartesian" and isinstance(command, CartesianTwist):
            return self._command_one(command, kinematics, period)
        xp = self._xp
        values = xp.asarray(command.values, dtype=q.dtype, device=device(q))
        finite = xp.all(xp.isfinite(values), axis=-1)
        values = xp.where(finite[..., None], values, xp.zeros_like(values))
        mode = _MODES[type(command)]
        if mode != self._mode:
            self._keep(None, self._held(kinematics, q))
            self._mode, self._interpolator = mode, None
        if isinstance(command, CartesianTwist):
            self._keep(mask, self._ramp(values, command.frame, kinematics, period))
        elif isinstance(command, JointPositions):
            self._keep(mask, {"_joint_target": xp.where(finite[..., None], values, self._joint_target)})
            if self._interpolator is not None:
                self._interpolator.set_target(self._joint_target)
        else:
            self._keep(mask, {"_torque": values})
        gripper = xp.asarray(command.gripper, dtype=q.dtype, device=device(q))
        width = width_from_command(gripper, self._max_width)
        self._keep(mask, {
            "_width_target": xp.where(xp.isfinite(gripper), width, self._width_target),
            "_share": xp.zeros_like(self._share),
        })  # fmt: skip
        self._period = period
        return ~finite

    def _ramp(self, values: Array, frame: str, kinematics: ArmKinematics, period: float) -> dict[str, Array]:
        """Start, end and velocity of the reference that a twist asks for."""
        xp = self._xp
        position, orientation = kinematics.tool_position, kinematics.tool_orientation
        # An axis without a command keeps its last target, so that a constant load does not carry the arm away; one
        # that moves starts from where it is measured. A target out of the clip's reach is pulled to its edge.
        error = pose_error(self._end, position, orientation)
        leash = xp.minimum(xp.maximum(error, self._gains.clip_lower), self._gains.clip_upper)
        shift, tilt, linear, angular = leash[..., :3], leash[..., 3:], values[..., :3], values[..., 3:]
        zero = xp.zeros_like(shift)
        if frame == "tool":
            # Turned only: the twist displaces the tool's own point. The adjoint would also move the reference point.
            shift, tilt = (rotation.rotate_inverse(orientation, vector) for vector in (shift, tilt))
            shift, tilt = xp.where(linear == 0.0, shift, zero), xp.where(angular == 0.0, tilt, zero)
            shift, tilt, linear, angular = (
                rotation.rotate(orientation, vector) for vector in (shift, tilt, linear, angular)
            )
        else:
            shift, tilt = xp.where(linear == 0.0, shift, zero), xp.where(angular == 0.0, tilt, zero)
        start = position + shift
        start_orientation = rotation.multiply(rotation.from_rotation_vector(tilt), orientation)
        turned = rotation.multiply(rotation.from_rotation_vector(period * angular), start_orientation)
        end = start + period * linear
        if self._workspace is not None:
            end = xp.minimum(xp.maximum(end, self._workspace[0]), self._workspace[1])
        if self._slow is not None:
            lower, upper, speed = self._slow
            beyond = start - xp.minimum(xp.maximum(start, lower), upper)
            reach = xp.sqrt(xp.sum(beyond * beyond, axis=-1, keepdims=True)) + period * speed
            way = end - start
            length = xp.sqrt(xp.sum(way * way, axis=-1, keepdims=True))
            end = start + way * xp.minimum(reach / xp.maximum(length, reach), self._one)
        rate = xp.sqrt(xp.sum(angular * angular, axis=-1, keepdims=True))
        axis = angular / xp.where(rate > 0.0, rate, xp.ones_like(rate))
        return {
            "_start": xp.concat([start, start_orientation], axis=-1),
            "_end": xp.concat([end, rotation.normalize(turned)], axis=-1),
            "_way": end - start,
            "_turn": xp.concat([0.5 * period * rate, axis], axis=-1),
            "_twist": xp.concat([(end - start) / period, angular], axis=-1),
        }

    # --- controller's tick --------------------------------------------------------------------------------------

    def torques(self, kinematics: ArmKinematics, q: Array, qd: Array, dt: float) -> Array:
        """Torques (..., n) N m for the next `dt` s, within the limits, gravity not included.

        Args:
            kinematics: Of the tool, at `q`.
            q: Shape (..., n), rad, measured.
            qd: Shape (..., n), rad/s, measured.
            dt: s between calls.
        """
        if self._alone and self._mode == "cartesian":
            return self._in_numbers().torques(kinematics, q, qd, dt).reshape(q.shape)
        xp = self._xp
        if self._mode == "torque" and bool(xp.min(self._share) > self.config.torque_hold_periods):
            self._keep(None, self._held(kinematics, q))
            self._mode = "cartesian"
        if self._mode == "cartesian":
            pose = self._reference(xp.minimum(self._share, self._one))
            # Half a tick: rounding of the sum of ticks must not lengthen the ramp.
            moving = self._share < 1.0 - 0.5 * dt / self._period
            twist = self._twist * moving[..., None]
            wanted = cartesian_impedance(kinematics, q, qd, pose, twist, self._gains, self._posture)
        elif self._mode == "joint":
            if self._interpolator is None or self._interpolator.dt != dt:
                self._interpolator = BatchInterpolator(self._limits, dt, q)
                self._interpolator.reset(self._joint_reference)
                self._interpolator.set_target(self._joint_target)
            self._joint_reference, qd_ref, _ = self._interpolator.step()
            wanted = joint_impedance(q, qd, self._joint_reference, qd_ref, self._joint_gains)
        else:
            wanted = self._torque
        self._share = self._share + dt / self._period
        self._previous = saturate(wanted, self._previous, self._torque_limit, self._torque_rate_limit, dt)
        return self._previous

    def gripper_width(self, dt: float) -> Array:
        """Commanded width (...) m after another `dt` s, moving at the gripper's speed; 0 without a gripper."""
        if self._max_width == 0.0:
            return self._width
        if self._alone:
            width, target, step = float(self._width.item()), float(self._width_target.item()), self._max_speed * dt
            if width != target:
                self._width = np.full(self.batch, min(max(target, width - step), width + step))
            return self._width
        self._width = move_width(self._width, self._width_target, self._max_speed, dt)
        return self._width

    @property
    def target_pose(self) -> Array:
        """Where the tool shall be at the end of the period: (..., 7), position m and quaternion wxyz, base frame."""
        return self._shaped(self._single.ramp.end) if self._in_single and self._single is not None else self._end

    # --- one arm ------------------------------------------------------------------------------------------------

    def _in_numbers(self) -> SingleArm:
        """The Cartesian mode of one numpy arm, faster: it holds reference and torques until `_end_single`."""
        if self._single is None:
            self._single = SingleArm(self._gains, *self._constants)
        if not self._in_single:
            start, end, way, turn, twist = (getattr(self, name).ravel().tolist() for name in _RAMP)
            share, previous = float(self._share.ravel()[0]), self._previous.ravel().tolist()
            ramp = Ramp(start=start, end=end, way=way, turn=turn, twist=twist)
            self._single.begin(ramp, self._period, share, previous)
            self._in_single = True
        return self._single

    def _end_single(self) -> None:
        """Bring what the arm's own arrays say up to date, before they are read or changed."""
        if self._in_single and self._single is not None:
            single = self._single
            self._share, self._previous = np.full(self.batch, single.share), self._shaped(single.previous)
            for name in _RAMP:
                setattr(self, name, self._shaped(getattr(single.ramp, name[1:])))
        self._in_single = False

    def _shaped(self, numbers: list[float]) -> np.ndarray:
        return np.array(numbers).reshape(*self.batch, -1)

    def _command_one(self, command: CartesianTwist, kinematics: ArmKinematics, period: float) -> np.ndarray:
        """`command` of a twist in the Cartesian mode of one numpy arm, faster."""
        single = self._in_numbers()
        values = np.asarray(command.values, dtype=np.float64).ravel().tolist()
        finite = all(map(math.isfinite, values))
        ramp = ramp_of_twist(
            values if finite else [0.0] * 6,
            command.frame == "tool",
            single.ramp.end,
            kinematics.tool_position.ravel().tolist(),
            kinematics.tool_orientation.ravel().tolist(),
            single.clip,
            None if self._workspace is None else (self._workspace[0].tolist(), self._workspace[1].tolist()),
            None if self._slow is None else (self._slow[0].tolist(), self._slow[1].tolist(), self._slow[2]),
            period,
        )
        single.follow(ramp, period)
        gripper = float(np.asarray(command.gripper).ravel()[0])
        if math.isfinite(gripper):
            opened = min(max(gripper, -1.0), 1.0) + 1.0
            self._width_target = np.full(self.batch, 0.5 * self._max_width * opened)
        self._period = period
        return np.full(self.batch, not finite)

    # --- inside -------------------------------------------------------------------------------------------------

    def _reference(self, share: Array) -> Array:
        """Pose (..., 7) after a share (...) in [0, 1] of the way from start to end."""
        xp, start, turn = self._xp, self._start, self._turn
        half = share * turn[..., 0]
        w, sine = xp.cos(half), xp.sin(half)
        x, y, z = sine * turn[..., 1], sine * turn[..., 2], sine * turn[..., 3]
        sw, sx, sy, sz = start[..., 3], start[..., 4], start[..., 5], start[..., 6]
        # `rotation.multiply`, written out to stack only once.
        orientation = [
            w * sw - x * sx - y * sy - z * sz,
            w * sx + x * sw + y * sz - z * sy,
            w * sy - x * sz + y * sw + z * sx,
            w * sz + x * sy - y * sx + z * sw,
        ]
        position = start[..., :3] + share[..., None] * self._way
        return xp.concat([position, xp.stack(orientation, axis=-1)], axis=-1)

    def _held(self, kinematics: ArmKinematics, q: Array) -> dict[str, Array]:
        """Targets of every mode that rest where the arm is."""
        xp = self._xp
        pose = xp.concat([kinematics.tool_position, kinematics.tool_orientation], axis=-1)
        zeros = xp.zeros_like(pose)
        return {
            "_start": pose, "_end": pose, "_way": zeros[..., :3], "_turn": zeros[..., :4], "_twist": zeros[..., :6],
            "_joint_reference": q, "_joint_target": q, "_torque": xp.zeros_like(q), "_share": zeros[..., 0],
        }  # fmt: skip

    def _keep(self, mask: Array | None, values: dict[str, Array]) -> None:
        """Set attributes where `mask` (...) is true or everywhere; copies, since engines reuse their arrays."""
        xp = self._xp
        self._end_single()
        for name, value in values.items():
            if mask is None:
                setattr(self, name, xp.asarray(value, copy=True))
            else:
                chosen = mask if value.ndim == mask.ndim else mask[..., None]
                setattr(self, name, xp.where(chosen, value, getattr(self, name)))

    def _prepare(self, like: Array) -> None:
        """Bring constants to the kind, type and device of `like`."""
        xp = self._xp = array_namespace(like)
        self._alone = isinstance(like, np.ndarray) and like.dtype == np.float64 and like.size == like.shape[-1]
        self._like, self._one = like, xp.ones((), dtype=like.dtype, device=device(like))

        def array(value: object) -> Array:
            return xp.asarray(np.asarray(value, dtype=np.float64), dtype=like.dtype, device=device(like))

        self._posture, self._torque_limit, self._torque_rate_limit = (array(value) for value in self._constants)
        gripper = self.description.gripper
        self._max_width, self._max_speed = (gripper.max_width, gripper.max_speed) if gripper else (0.0, 0.0)

        def box(lower: tuple[float, ...] | None, upper: tuple[float, ...] | None) -> tuple[Array, Array]:
            return array(lower or (-np.inf,) * 3), array(upper or (np.inf,) * 3)

        config = self.config
        lower, upper = config.workspace_lower, config.workspace_upper
        self._workspace = None if lower is None and upper is None else box(lower, upper)
        self._slow: tuple[Array, Array, float] | None = None
        if config.slow_speed is not None:
            self._slow = (*box(config.slow_lower, config.slow_upper), config.slow_speed)
        self._update_gains()

    def _update_gains(self) -> None:
        if self._like is None:
            return
        self._end_single()
        self._single = None
        gains = self.config.compliant if self._set == "compliant" else self.config.precise
        self._gains = impedance_arrays(gains, self._like, *self._scales)
        self._joint_gains = joint_impedance_arrays(self.config.joint, self._torque_limit, *self._scales)
