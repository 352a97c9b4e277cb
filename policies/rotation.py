"""Rotations as quaternions ``wxyz`` (body to world), for numpy and torch alike.

Written with the array-API namespace of the input, batched over leading axes.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from policies.types import Array


def normalize(quaternion: Array) -> Array:
    """Scale a quaternion (..., 4) to unit length."""
    xp = array_namespace(quaternion)
    return quaternion / xp.sqrt(xp.sum(quaternion * quaternion, axis=-1, keepdims=True))


def multiply(left: Array, right: Array) -> Array:
    """Hamilton product of two quaternions (..., 4): `right` is applied first."""
    xp = array_namespace(left)
    lw, lx, ly, lz = (left[..., i] for i in range(4))
    rw, rx, ry, rz = (right[..., i] for i in range(4))
    return xp.stack(
        [
            lw * rw - lx * rx - ly * ry - lz * rz,
            lw * rx + lx * rw + ly * rz - lz * ry,
            lw * ry - lx * rz + ly * rw + lz * rx,
            lw * rz + lx * ry - ly * rx + lz * rw,
        ],
        axis=-1,
    )


def conjugate(quaternion: Array) -> Array:
    """Inverse of a unit quaternion (..., 4)."""
    xp = array_namespace(quaternion)
    return xp.concat([quaternion[..., :1], -quaternion[..., 1:]], axis=-1)


def rotate(quaternion: Array, vector: Array) -> Array:
    """Rotate vectors (..., 3) by unit quaternions (..., 4): body to world."""
    xp = array_namespace(quaternion)
    axis = quaternion[..., 1:]
    twice = 2.0 * xp.linalg.cross(axis, vector)
    return vector + quaternion[..., :1] * twice + xp.linalg.cross(axis, twice)


def rotate_inverse(quaternion: Array, vector: Array) -> Array:
    """Rotate vectors (..., 3) by the inverse of unit quaternions (..., 4): world to body."""
    return rotate(conjugate(quaternion), vector)


def to_matrix(quaternion: Array) -> Array:
    """Rotation matrix (..., 3, 3) of a unit quaternion (..., 4); its columns are body axes."""
    xp = array_namespace(quaternion)
    w, x, y, z = (quaternion[..., i] for i in range(4))
    entries = [
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    ]  # fmt: skip
    return xp.reshape(xp.stack(entries, axis=-1), (*quaternion.shape[:-1], 3, 3))


def skew(vector: Array) -> Array:
    """The matrix (..., 3, 3) of the cross product with a vector (..., 3) from the left."""
    xp = array_namespace(vector)
    x, y, z = (vector[..., i] for i in range(3))
    zero = xp.zeros_like(x)
    return xp.reshape(xp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1), (*vector.shape[:-1], 3, 3))


def adjoint(quaternion: Array, position: Array) -> Array:
    """Matrix (..., 6, 6) that gives a twist (linear, angular) of frame b in frame a: [[R, [p]× R], [0, R]].

    `quaternion` (..., 4) and `position` (..., 3) m are the pose of b in a. The linear part of a twist is the velocity
    of the body's point at the origin of the frame, so the adjoint changes axes **and** the point. Where the same
    point is meant before and after, as with the velocity of a tool's tip, only the axes turn: the linear and the
    angular part are rotated each. With [p]× R at the lower left, which belongs to twists ordered (angular, linear), a
    straight motion would come out as a rotation.
    """
    xp = array_namespace(quaternion)
    turn = to_matrix(quaternion)
    upper = xp.concat([turn, skew(position) @ turn], axis=-1)
    lower = xp.concat([xp.zeros_like(turn), turn], axis=-1)
    return xp.concat([upper, lower], axis=-2)


def yaw_of(quaternion: Array) -> Array:
    """Heading (...) rad of the body's x axis about the world's z axis."""
    xp = array_namespace(quaternion)
    w, x, y, z = (quaternion[..., i] for i in range(4))
    return xp.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def from_yaw(yaw: Array) -> Array:
    """Quaternion (..., 4) of a rotation by `yaw` (...) rad about the world's z axis."""
    xp = array_namespace(yaw)
    zero = xp.zeros_like(yaw)
    return xp.stack([xp.cos(0.5 * yaw), zero, zero, xp.sin(0.5 * yaw)], axis=-1)


def from_rotation_vector(vector: Array) -> Array:
    """Quaternion (..., 4) of a rotation by |vector| rad about `vector` (..., 3)."""
    xp = array_namespace(vector)
    square = xp.sum(vector * vector, axis=-1, keepdims=True)
    # sin(x/2)/x is 1/2 at 0; a harmless angle there keeps root and ratio, and their gradients, finite.
    tiny, one = square < 1e-24, xp.ones_like(square)
    angle = xp.sqrt(xp.where(tiny, one, square))
    cosine = xp.where(tiny, one, xp.cos(0.5 * angle))
    scale = xp.where(tiny, 0.5 * one, xp.sin(0.5 * angle) / angle)
    return xp.concat([cosine, vector * scale], axis=-1)


def to_rotation_vector(quaternion: Array) -> Array:
    """The rotation vector (..., 3) rad, at most π long, of unit quaternions (..., 4): the shorter way around."""
    xp = array_namespace(quaternion)
    w = quaternion[..., 0:1]
    sign = xp.where(w < 0.0, -xp.ones_like(w), xp.ones_like(w))
    w, vector = w * sign, quaternion[..., 1:] * sign
    sine = xp.linalg.vector_norm(vector, axis=-1, keepdims=True)
    # Near zero the angle is twice the sine.
    factor = xp.where(sine > 1e-6, 2.0 * xp.atan2(sine, w) / sine.clip(1e-6), 2.0 * xp.ones_like(sine))
    return vector * factor


def tilt_of(quaternion: Array) -> Array:
    """Angle (...) rad between the body's z axis and the world's z axis, 0 to pi."""
    xp = array_namespace(quaternion)
    cosine = 1.0 - 2.0 * (quaternion[..., 1] ** 2 + quaternion[..., 2] ** 2)
    return xp.acos(xp.clip(cosine, -1.0, 1.0))
