"""Joint impedance with reference limiting: springs between joints and their references, with a bounded pull.

    tau = K clip(q_ref - q + (D / K) q̇_ref) - D q̇ + tau_ff                       gravity not included

As in `cartesian_impedance`, the clip comes before the gain, so that no reference however far pulls a joint with more
than K × clip, and the reference's velocity counts within the clip. Array API, leading batch axes ``...``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from policies.types import Array


@dataclass(frozen=True, kw_only=True)
class JointImpedanceGains:
    """Stiffness, damping and bound of every joint, by default in proportion to its torque limit."""

    stiffness_per_torque: float = 7.0
    """1/rad, stiffness as a multiple of the joint's torque limit, where `stiffness` is None."""
    damping_time: float = 0.08
    """s, damping as a multiple of the stiffness, where `damping` is None."""
    stiffness: tuple[float, ...] | None = None
    """N m/rad per joint, positive."""
    damping: tuple[float, ...] | None = None
    """N m s/rad per joint."""
    clip: float = 0.25
    """rad, bound of the error, including `damping_time` times the reference's velocity."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointImpedanceArrays:
    """`JointImpedanceGains` as arrays ready for the tick; batch axes may carry gains per environment."""

    stiffness: Array
    """Shape (..., n), N m/rad."""
    damping: Array
    """Shape (..., n), N m s/rad."""
    lead: Array
    """Shape (..., n), s: D / K."""
    clip: float
    """rad."""


def joint_impedance_arrays(
    gains: JointImpedanceGains, torque_limit: Array, stiffness: Array = 1.0, damping: Array = 1.0
) -> JointImpedanceArrays:
    """Gains as arrays of the kind, type and device of `torque_limit`.

    Args:
        gains: The gains.
        torque_limit: Shape (n,), N m.
        stiffness: Factor (...) on the stiffness, e.g. one per environment; the damping stays.
        damping: Factor (...) on the damping.
    """
    xp = array_namespace(torque_limit)

    def array(value: object) -> Array:
        return xp.asarray(np.asarray(value), dtype=torque_limit.dtype, device=device(torque_limit))

    k = gains.stiffness_per_torque * torque_limit if gains.stiffness is None else array(gains.stiffness)
    d = gains.damping_time * k if gains.damping is None else array(gains.damping)
    k = array(stiffness)[..., None] * k
    d = array(damping)[..., None] * d
    return JointImpedanceArrays(stiffness=k, damping=d, lead=d / k, clip=gains.clip)


def joint_impedance(
    q: Array,
    qd: Array,
    q_ref: Array,
    qd_ref: Array | None,
    gains: JointImpedanceArrays,
    feedforward: Array | None = None,
) -> Array:
    """Joint torques that pull the joints to their references, gravity not included.

    Args:
        q: Shape (..., n), rad.
        qd: Shape (..., n), rad/s.
        q_ref: Shape (..., n), rad.
        qd_ref: Shape (..., n), rad/s; None: the reference rests.
        gains: Gains.
        feedforward: Shape (..., n), N m, added as it is.

    Returns:
        Shape (..., n), N m, not yet saturated.
    """
    xp = array_namespace(q)
    error = q_ref - q
    if qd_ref is not None:
        error = error + gains.lead * qd_ref
    torques = gains.stiffness * xp.clip(error, -gains.clip, gains.clip) - gains.damping * qd
    return torques if feedforward is None else torques + feedforward
