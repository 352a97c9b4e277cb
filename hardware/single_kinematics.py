"""Forward kinematics of one arm in plain numbers: a third of the time that arrays take where there is no batch.

The control process computes it at every tick. The same frames and, to rounding, the same results as
`kinematics.forward_kinematics`, which calls it.
"""

from __future__ import annotations

import math

import numpy as np


class SingleChain:
    """What of one arm's kinematics does not depend on the joint angles."""

    def __init__(self, links: np.ndarray, tool: np.ndarray) -> None:
        """From transforms between frames whose z axis is the joint's.

        Args:
            links: Shape (n, 4, 4), from every link's frame to the one before it, at joint angle 0.
            tool: Shape (4, 4), from the tool to the last link's frame.
        """
        self._links = [tuple(link[:3].T.ravel().tolist()) for link in links]
        self._tool = tuple(tool[:3].T.ravel().tolist())
        """Columns x, y, z and origin, one after the other."""

    def solve(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tool position (3,), orientation (4,) and Jacobian (6, n) at joint angles `q` (n,) rad."""
        xx, xy, xz, yx, yy, yz, zx, zy, zz = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
        px = py = pz = 0.0
        joints = []
        for (ax, ay, az, bx, by, bz, cx, cy, cz, ox, oy, oz), angle in zip(self._links, q.tolist(), strict=True):
            px, py, pz = (
                px + xx * ox + yx * oy + zx * oz,
                py + xy * ox + yy * oy + zy * oz,
                pz + xz * ox + yz * oy + zz * oz,
            )
            ux, uy, uz = xx * ax + yx * ay + zx * az, xy * ax + yy * ay + zy * az, xz * ax + yz * ay + zz * az
            vx, vy, vz = xx * bx + yx * by + zx * bz, xy * bx + yy * by + zy * bz, xz * bx + yz * by + zz * bz
            zx, zy, zz = xx * cx + yx * cy + zx * cz, xy * cx + yy * cy + zy * cz, xz * cx + yz * cy + zz * cz
            # The joint turns about the new z.
            c, s = math.cos(angle), math.sin(angle)
            xx, xy, xz = c * ux + s * vx, c * uy + s * vy, c * uz + s * vz
            yx, yy, yz = c * vx - s * ux, c * vy - s * uy, c * vz - s * uz
            joints.append((zx, zy, zz, px, py, pz))
        ax, ay, az, bx, by, bz, cx, cy, cz, ox, oy, oz = self._tool
        tx, ty, tz = (
            px + xx * ox + yx * oy + zx * oz,
            py + xy * ox + yy * oy + zy * oz,
            pz + xz * ox + yz * oy + zz * oz,
        )
        turn = (
            *(xx * ax + yx * ay + zx * az, xy * ax + yy * ay + zy * az, xz * ax + yz * ay + zz * az),
            *(xx * bx + yx * by + zx * bz, xy * bx + yy * by + zy * bz, xz * bx + yz * by + zz * bz),
            *(xx * cx + yx * cy + zx * cz, xy * cx + yy * cy + zy * cz, xz * cx + yz * cy + zz * cz),
        )
        # Column k of a geometric Jacobian: (z × (p_tool - p_k), z) with z the axis of joint k in the base frame.
        columns = [
            (
                *(ay * (tz - z) - az * (ty - y), az * (tx - x) - ax * (tz - z), ax * (ty - y) - ay * (tx - x)),
                *(ax, ay, az),
            )
            for ax, ay, az, x, y, z in joints
        ]
        jacobian = np.array(list(zip(*columns, strict=True)))
        return np.array((tx, ty, tz)), np.array(_quaternion(*turn)), jacobian


def _quaternion(
    xx: float, xy: float, xz: float, yx: float, yy: float, yz: float, zx: float, zy: float, zz: float
) -> tuple[float, float, float, float]:
    """Quaternion wxyz of a rotation with columns x, y, z; its largest component is positive."""
    # The row of 4 q qᵀ with the largest diagonal never vanishes.
    squares = (1.0 + xx + yy + zz, 1.0 + xx - yy - zz, 1.0 - xx + yy - zz, 1.0 - xx - yy + zz)
    largest = squares.index(max(squares))
    if largest == 0:
        w, x, y, z = squares[0], yz - zy, zx - xz, xy - yx
    elif largest == 1:
        w, x, y, z = yz - zy, squares[1], xy + yx, zx + xz
    elif largest == 2:
        w, x, y, z = zx - xz, xy + yx, squares[2], yz + zy
    else:
        w, x, y, z = xy - yx, zx + xz, yz + zy, squares[3]
    scale = 1.0 / math.sqrt(w * w + x * x + y * y + z * z)
    return w * scale, x * scale, y * scale, z * scale
