"""The Cartesian impedance of `cartesian_impedance.py` for one arm, in a third of its time.

One arm's tick is a few hundred multiplications; numpy spends most of it on the calls. Here numbers are Python's where
three or four belong together, and numpy's where a matrix is involved. A test holds both files to the same torques.
"""

from __future__ import annotations

import math

import numpy as np


def reference_pose(start: list[float], way: list[float], turn: list[float], share: float) -> list[float]:
    """Pose (7) after a share in [0, 1] of the way: see `ArmController`."""
    half = share * turn[0]
    w, sine = math.cos(half), math.sin(half)
    x, y, z = sine * turn[1], sine * turn[2], sine * turn[3]
    px, py, pz, sw, sx, sy, sz = start
    return [
        px + share * way[0],
        py + share * way[1],
        pz + share * way[2],
        w * sw - x * sx - y * sy - z * sz,
        w * sx + x * sw + y * sz - z * sy,
        w * sy - x * sz + y * sw + z * sx,
        w * sz + x * sy - y * sx + z * sw,
    ]


def pose_error(target: list[float], position: list[float], orientation: list[float]) -> list[float]:
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


def impedance_torques(
    jacobian: np.ndarray,
    q: np.ndarray,
    qd: np.ndarray,
    error: np.ndarray,
    stiffness: np.ndarray,
    damping: np.ndarray,
    posture: np.ndarray,
    nullspace: tuple[float, float, float],
    regularization: np.ndarray,
) -> np.ndarray:
    """Torques (n,) N m of a clipped error (6,): the second half of `cartesian_impedance`.

    Args:
        jacobian: Shape (6, n).
        q: Shape (n,), rad.
        qd: Shape (n,), rad/s.
        error: Shape (6,), m and rad, after the clip.
        stiffness: Shape (6,).
        damping: Shape (6,).
        posture: Shape (n,), rad.
        nullspace: Stiffness, damping and clip.
        regularization: Shape (6, 6).
    """
    transposed = jacobian.T
    wrench = stiffness * error - damping * (jacobian @ qd)
    if len(q) <= 6:
        return transposed @ wrench
    pull, drag, bound = nullspace
    away = np.minimum(np.maximum(posture - q, -bound), bound)
    wanted = pull * away - drag * qd
    undo = np.linalg.solve(jacobian @ transposed + regularization, jacobian @ wanted)
    return wanted + transposed @ (wrench - undo)
