"""The Cartesian impedance of `cartesian_impedance.py` for one arm, in a quarter of its time.

One arm's tick is a few hundred multiplications; numpy spends most of it on the calls. Here numbers are Python's where
few belong together, and numpy's where a matrix is involved. A test holds both files to the same torques.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hardware.controllers.cartesian_impedance import ImpedanceArrays
from hardware.kinematics import ArmKinematics

Numbers = list[float]

_REST = [0.0] * 6
"""Twist of a reference that has arrived."""


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """What `ArmController` keeps of a reference, for one arm."""

    start: Numbers
    """Pose (7)."""
    end: Numbers
    """Pose (7)."""
    way: Numbers
    """m (3), from start to end."""
    turn: Numbers
    """Half of the angle from start to end, and its axis (4)."""
    twist: Numbers
    """Velocity (6) on the way."""


def ramp_of_twist(
    values: Numbers,
    in_tool_frame: bool,
    end: Numbers,
    position: Numbers,
    orientation: Numbers,
    clip: tuple[Numbers, Numbers],
    workspace: tuple[Numbers, Numbers] | None,
    slow: tuple[Numbers, Numbers, float] | None,
    period: float,
) -> Ramp:
    """The reference that a twist (6) asks for, see `ArmController`; `end` (7) is that of the reference before."""
    lower, upper = clip
    error = pose_error(end, position, orientation)
    leash = [low if e < low else high if e > high else e for e, low, high in zip(error, lower, upper, strict=True)]
    shift, tilt, linear, angular = leash[:3], leash[3:], values[:3], values[3:]
    turn = [1.0, 0.0, 0.0, 0.0]
    if in_tool_frame:
        turn = orientation
        shift, tilt = (_rotate([turn[0], -turn[1], -turn[2], -turn[3]], vector) for vector in (shift, tilt))
    shift = [s if v == 0.0 else 0.0 for s, v in zip(shift, linear, strict=True)]
    tilt = [t if v == 0.0 else 0.0 for t, v in zip(tilt, angular, strict=True)]
    if in_tool_frame:
        shift, tilt, linear, angular = (_rotate(turn, vector) for vector in (shift, tilt, linear, angular))
    start = [p + s for p, s in zip(position, shift, strict=True)]
    begin = _multiply(_from_rotation_vector(tilt), orientation)
    turned = _multiply(_from_rotation_vector([period * v for v in angular]), begin)
    norm = math.sqrt(sum(v * v for v in turned))
    goal = [s + period * v for s, v in zip(start, linear, strict=True)]
    if workspace is not None:
        goal = [min(max(g, low), high) for g, low, high in zip(goal, *workspace, strict=True)]
    if slow is not None:
        lower, upper, speed = slow
        inside = [min(max(s, low), high) for s, low, high in zip(start, lower, upper, strict=True)]
        reach = math.dist(start, inside) + period * speed
        length = math.dist(start, goal)
        if length > reach:
            goal = [s + (g - s) * (reach / length) for s, g in zip(start, goal, strict=True)]
    way = [g - s for g, s in zip(goal, start, strict=True)]
    rate = math.sqrt(sum(v * v for v in angular))
    axis = [v / rate if rate > 0.0 else v for v in angular]
    return Ramp(
        start=start + begin,
        end=goal + [v / norm for v in turned],
        way=way,
        turn=[0.5 * period * rate, *axis],
        twist=[w / period for w in way] + angular,
    )


class SingleArm:
    """An arm on its way: the reference, the gains and the torques so far.

    Life cycle: `begin`, `torques` at every tick, `follow` at every command.
    """

    def __init__(
        self, gains: ImpedanceArrays, posture: np.ndarray, torque_limit: np.ndarray, torque_rate_limit: np.ndarray
    ) -> None:
        """Prepare; call `begin` before use.

        Args:
            gains: Of one arm.
            posture: Shape (n,), rad.
            torque_limit: Shape (n,), N m.
            torque_rate_limit: Shape (n,), N m/s.
        """
        six = (gains.clip_lower, gains.clip_upper, gains.stiffness, gains.damping)
        self._axes: list[tuple[float, ...]] = list(zip(*(value.ravel().tolist() for value in six), strict=True))
        self.clip = (gains.clip_lower.ravel().tolist(), gains.clip_upper.ravel().tolist())
        self._lead = gains.lead.ravel().tolist()
        self._nullspace = (gains.nullspace_stiffness, gains.nullspace_damping, gains.nullspace_clip)
        self._regularization = float(gains.regularization[0, 0])
        self._posture, self._limit, self._rate = posture.tolist(), torque_limit.tolist(), torque_rate_limit.tolist()
        self._tick = 0.0
        self._bounds: list[tuple[float, float]] = []
        # Room for what would otherwise be made at every tick.
        n = len(self._posture)
        self._wanted, self._torques = np.zeros(n), np.zeros(n)
        self._force, self._six, self._square = np.zeros(6), np.zeros(6), np.zeros((6, 6))

    def begin(self, ramp: Ramp, period: float, share: float, previous: Numbers) -> None:
        """Go on with a reference after a share of its `period` s; `previous` (n) N m are the torques so far."""
        self.follow(ramp, period)
        self.share, self.previous = share, previous

    def follow(self, ramp: Ramp, period: float) -> None:
        """Take a new reference of `period` s."""
        self.ramp, self._period, self.share = ramp, period, 0.0
        self._feed = [a * b for a, b in zip(self._lead, ramp.twist, strict=True)]

    def torques(self, kinematics: ArmKinematics, q: np.ndarray, qd: np.ndarray, dt: float) -> np.ndarray:
        """As `ArmController.torques`, (n,)."""
        if dt != self._tick:
            self._tick, self._bounds = dt, [(m, r * dt) for m, r in zip(self._limit, self._rate, strict=True)]
        share, ramp, n = self.share, self.ramp, len(self._posture)
        self.share = share + dt / self._period
        pose = reference_pose(ramp.start, ramp.way, ramp.turn, share if share < 1.0 else 1.0)
        error = pose_error(
            pose, kinematics.tool_position.ravel().tolist(), kinematics.tool_orientation.ravel().tolist()
        )
        # Half a tick: rounding of the sum of ticks must not lengthen the ramp.
        feed = self._feed if share < 1.0 - 0.5 * dt / self._period else _REST
        jacobian, velocities = kinematics.jacobian.reshape(6, n), qd.reshape(n)
        twist = jacobian.dot(velocities, self._six).tolist()
        force = []
        for e, f, v, (low, high, k, d) in zip(error, feed, twist, self._axes, strict=True):
            e += f
            force.append(k * (low if e < low else high if e > high else e) - d * v)
        if n > 6:
            pull, drag, bound = self._nullspace
            self._wanted[:] = posture_torques = [
                pull * (-bound if (a := p - x) < -bound else bound if a > bound else a) - drag * v
                for p, x, v in zip(self._posture, q.ravel().tolist(), velocities.tolist(), strict=True)
            ]
            square = jacobian.dot(jacobian.T, self._square).tolist()
            undo = solve_spd(square, self._regularization, jacobian.dot(self._wanted, self._six).tolist())
            self._force[:] = [w - u for w, u in zip(force, undo, strict=True)]
        else:
            posture_torques = [0.0] * n
            self._force[:] = force
        torques = self._force.dot(jacobian, self._torques).tolist()
        # As `cartesian_impedance.saturate`.
        saturated = []
        for torque, extra, before, (most, step) in zip(
            torques, posture_torques, self.previous, self._bounds, strict=True
        ):
            torque += extra
            if torque > before + step:
                torque = before + step
            elif torque < before - step:
                torque = before - step
            saturated.append(most if torque > most else -most if torque < -most else torque)
        self.previous = saturated
        return np.array(saturated)


def reference_pose(start: Numbers, way: Numbers, turn: Numbers, share: float) -> Numbers:
    """Pose (7) after a share in [0, 1] of the way: see `ArmController`."""
    half, ux, uy, uz = turn
    px, py, pz, sw, sx, sy, sz = start
    if half == 0.0:
        return [px + share * way[0], py + share * way[1], pz + share * way[2], sw, sx, sy, sz]
    half *= share
    w, sine = math.cos(half), math.sin(half)
    x, y, z = sine * ux, sine * uy, sine * uz
    return [
        px + share * way[0],
        py + share * way[1],
        pz + share * way[2],
        w * sw - x * sx - y * sy - z * sz,
        w * sx + x * sw + y * sz - z * sy,
        w * sy - x * sz + y * sw + z * sx,
        w * sz + x * sy - y * sx + z * sw,
    ]


def pose_error(target: Numbers, position: Numbers, orientation: Numbers) -> Numbers:
    """Way (6) in m and rad from a pose to a target, as `cartesian_impedance.pose_error`."""
    px, py, pz, tw, tx, ty, tz = target
    qw, qx, qy, qz = orientation
    w = tw * qw + tx * qx + ty * qy + tz * qz
    x = tx * qw - tw * qx - ty * qz + tz * qy
    y = ty * qw - tw * qy - tz * qx + tx * qz
    z = tz * qw - tw * qz - tx * qy + ty * qx
    sine = math.sqrt(x * x + y * y + z * z + 1e-30)
    scale = 2.0 * math.atan(sine / (w + 1e-30)) / sine
    return [px - position[0], py - position[1], pz - position[2], x * scale, y * scale, z * scale]


def _multiply(left: Numbers, right: Numbers) -> Numbers:
    lw, lx, ly, lz = left
    rw, rx, ry, rz = right
    return [
        lw * rw - lx * rx - ly * ry - lz * rz,
        lw * rx + lx * rw + ly * rz - lz * ry,
        lw * ry - lx * rz + ly * rw + lz * rx,
        lw * rz + lx * ry - ly * rx + lz * rw,
    ]


def _rotate(quaternion: Numbers, vector: Numbers) -> Numbers:
    w, x, y, z = quaternion
    a, b, c = vector
    u, v, s = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return [a + w * u + y * s - z * v, b + w * v + z * u - x * s, c + w * s + x * v - y * u]


def _from_rotation_vector(vector: Numbers) -> Numbers:
    square = sum(v * v for v in vector)
    if square < 1e-24:
        return [1.0, *(0.5 * v for v in vector)]
    angle = math.sqrt(square)
    scale = math.sin(0.5 * angle) / angle
    return [math.cos(0.5 * angle), *(scale * v for v in vector)]


def solve_spd(matrix: list[Numbers], regularization: float, right: Numbers) -> Numbers:
    """Solution (6) for a symmetric, positive definite matrix (6, 6), `regularization` added to its diagonal.

    L D Lᵀ written out, in half of the time of `numpy.linalg.solve`; column by column, l_rc are L's below its diagonal.
    """
    a, b, c, d, e, f = matrix
    x0, x1, x2, x3, x4, x5 = right
    k = 1.0 / (a[0] + regularization)
    a1, a2, a3, a4, a5 = b[0], c[0], d[0], e[0], f[0]
    l1, l2, l3, l4, l5 = a1 * k, a2 * k, a3 * k, a4 * k, a5 * k
    k1 = 1.0 / (b[1] + regularization - l1 * a1)
    b2, b3, b4, b5 = c[1] - l2 * a1, d[1] - l3 * a1, e[1] - l4 * a1, f[1] - l5 * a1
    m2, m3, m4, m5 = b2 * k1, b3 * k1, b4 * k1, b5 * k1
    k2 = 1.0 / (c[2] + regularization - l2 * a2 - m2 * b2)
    c3, c4, c5 = d[2] - l3 * a2 - m3 * b2, e[2] - l4 * a2 - m4 * b2, f[2] - l5 * a2 - m5 * b2
    n3, n4, n5 = c3 * k2, c4 * k2, c5 * k2
    k3 = 1.0 / (d[3] + regularization - l3 * a3 - m3 * b3 - n3 * c3)
    d4, d5 = e[3] - l4 * a3 - m4 * b3 - n4 * c3, f[3] - l5 * a3 - m5 * b3 - n5 * c3
    o4, o5 = d4 * k3, d5 * k3
    k4 = 1.0 / (e[4] + regularization - l4 * a4 - m4 * b4 - n4 * c4 - o4 * d4)
    e5 = f[4] - l5 * a4 - m5 * b4 - n5 * c4 - o5 * d4
    p5 = e5 * k4
    k5 = 1.0 / (f[5] + regularization - l5 * a5 - m5 * b5 - n5 * c5 - o5 * d5 - p5 * e5)
    # Forward, then backward.
    x1 -= l1 * x0
    x2 -= l2 * x0 + m2 * x1
    x3 -= l3 * x0 + m3 * x1 + n3 * x2
    x4 -= l4 * x0 + m4 * x1 + n4 * x2 + o4 * x3
    x5 = (x5 - l5 * x0 - m5 * x1 - n5 * x2 - o5 * x3 - p5 * x4) * k5
    x4 = x4 * k4 - p5 * x5
    x3 = x3 * k3 - o4 * x4 - o5 * x5
    x2 = x2 * k2 - n3 * x3 - n4 * x4 - n5 * x5
    x1 = x1 * k1 - m2 * x2 - m3 * x3 - m4 * x4 - m5 * x5
    return [x0 * k - l1 * x1 - l2 * x2 - l3 * x3 - l4 * x4 - l5 * x5, x1, x2, x3, x4, x5]
