"""Quadrotor dynamics: a batched, differentiable pure function on torch.

Rigid body with quaternion attitude, four first-order rotors, polynomial thrust curve, linear
drag against wind, external force and torque; integrated with classical RK4. One
call advances any number of vehicles, each with its own parameters, on CPU or GPU, in the
precision of its inputs, under autograd or not.

Sources: rigid body and allocation as in Lee, Leok, McClamroch, "Geometric tracking control of a
quadrotor UAV on SE(3)" (2010), with the frames of `policies.types`; asymmetric motor lag as in
Eschmann, Albani, Loianno, "Learning to Fly in Seconds" (2024) and its successors.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from policies import rotation
from policies.types import QuadrotorState


@dataclass(frozen=True, kw_only=True, eq=False)
class QuadrotorParameters:
    """Physical parameters, each with the batch axes ``...`` of the state it is used with."""

    mass: Tensor
    """Shape (...), kg."""
    inertia: Tensor
    """Shape (..., 3), kg m², principal moments about the body axes."""
    rotor_positions: Tensor
    """Shape (..., 4, 3), m, body frame; order front-right, back-right, back-left, front-left."""
    rotor_yaw_signs: Tensor
    """Shape (..., 4), +1 where the rotor's reaction torque turns the body left (about +z)."""
    thrust_coefficients: Tensor
    """Shape (..., 4, 3): N, N s, N s²; thrust of a rotor is c0 + c1 Ω + c2 Ω²."""
    yaw_torque_ratio: Tensor
    """Shape (...), m: reaction torque divided by thrust."""
    rise_time: Tensor
    """Shape (...), s, time constant of a rotor that speeds up."""
    fall_time: Tensor
    """Shape (...), s, time constant of a rotor that slows down."""
    max_speed: Tensor
    """Shape (...), rad/s; set-points are clipped to [0, max_speed]."""
    drag: Tensor
    """Shape (..., 3), N s/m, linear drag along the body axes against the air."""
    wind: Tensor
    """Shape (..., 3), m/s, velocity of the air, world frame."""
    gravity: Tensor
    """Shape (...), m/s², downwards."""
    external_force: Tensor
    """Shape (..., 3), N, world frame."""
    external_torque: Tensor
    """Shape (..., 3), N m, body frame."""
    supply: Tensor
    """Shape (...), fraction of the commanded rotor speed that the battery's voltage allows."""

    def to(self, target: torch.device | torch.dtype) -> QuadrotorParameters:
        """Move every field to a device, or cast it."""
        return QuadrotorParameters(**{f.name: getattr(self, f.name).to(target) for f in fields(self)})


def rotor_thrusts(motor_speeds: Tensor, parameters: QuadrotorParameters) -> Tensor:
    """Thrust of each rotor (..., 4) N at `motor_speeds` (..., 4) rad/s."""
    c0, c1, c2 = parameters.thrust_coefficients.unbind(-1)
    return torch.addcmul(c0, motor_speeds, torch.addcmul(c1, c2, motor_speeds))


def hover_speed(parameters: QuadrotorParameters) -> Tensor:
    """Rotor speed (...) rad/s at which the mean rotor carries a quarter of the weight."""
    c0, c1, c2 = parameters.thrust_coefficients.mean(-2).unbind(-1)
    load = 0.25 * parameters.mass * parameters.gravity
    root = torch.sqrt(c1 * c1 - 4.0 * c2 * (c0 - load))
    # The form without cancellation also holds for a linear curve (c2 = 0).
    return 2.0 * (load - c0) / (c1 + root)


def wrench_matrix(parameters: QuadrotorParameters) -> Tensor:
    """Matrix (..., 4, 4) that maps rotor thrusts N to (collective thrust N, torque xyz N m)."""
    x, y, _ = parameters.rotor_positions.unbind(-1)
    yaw = parameters.rotor_yaw_signs * parameters.yaw_torque_ratio[..., None]
    return torch.stack([torch.ones_like(x), y, -x, yaw], dim=-2)


def step(
    state: QuadrotorState,
    motor_speed_setpoints: Tensor,
    parameters: QuadrotorParameters,
    dt: float,
) -> QuadrotorState:
    """Advance vehicles by `dt` s with constant rotor set-points.

    Args:
        state: Current state with `motor_speeds`; batch axes ``...``.
        motor_speed_setpoints: Shape (..., 4), rad/s, clipped to [0, max_speed].
        parameters: Physical parameters with the same batch axes.
        dt: Step in s; RK4 is accurate at 10 ms for a vehicle of the Crazyflie's size.

    Returns:
        The state after `dt`, its quaternion normalized and rotor speeds not below zero.
    """
    if state.motor_speeds is None:
        raise ValueError("QuadrotorState.motor_speeds is None; the simulator needs rotor speeds (..., 4) in rad/s")
    speeds = state.motor_speeds
    target, rate = _rotor_targets(speeds, motor_speed_setpoints, parameters)

    def derivative(y: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        _, q, v, w, n = y
        force, torque = _body_wrench(n, parameters)
        torque = torque + parameters.external_torque - torch.linalg.cross(w, parameters.inertia * w)
        acceleration = _acceleration(q, v, force, parameters)
        return v, 0.5 * _quaternion_rate(q, w), acceleration, torque / parameters.inertia, rate * (target - n)

    y0 = (state.position, state.orientation, state.linear_velocity, state.angular_velocity, speeds)
    k1 = derivative(y0)
    k2 = derivative(_advance(y0, k1, 0.5 * dt))
    k3 = derivative(_advance(y0, k2, 0.5 * dt))
    k4 = derivative(_advance(y0, k3, dt))
    p, q, v, w, n = (y + (dt / 6.0) * (a + 2.0 * (b + c) + d) for y, a, b, c, d in zip(y0, k1, k2, k3, k4, strict=True))
    q = q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)
    return QuadrotorState(p, q, v, w, n.clamp(min=0.0))


def fast_step(
    state: QuadrotorState,
    motor_speed_setpoints: Tensor,
    parameters: QuadrotorParameters,
    dt: float,
) -> QuadrotorState:
    """`step` with one evaluation of the forces instead of four, for gradients in training.

    Rotor lag is integrated exactly and the forces are taken at the middle of the step, so that the
    result is of second order in `dt` and, unlike a semi-implicit Euler step, hides none of the loop's
    delay: a policy trained on that one oscillates on `step`. Same arguments and result as `step`.
    """
    if state.motor_speeds is None:
        raise ValueError("QuadrotorState.motor_speeds is None; the simulator needs rotor speeds (..., 4) in rad/s")
    target, rate = _rotor_targets(state.motor_speeds, motor_speed_setpoints, parameters)
    gap = state.motor_speeds - target
    decay = torch.exp(-dt * rate)
    mean_speeds = torch.addcmul(target, gap, (1.0 - decay) / (dt * rate))
    force, torque = _body_wrench(mean_speeds, parameters)
    torque = torque + parameters.external_torque
    w, v = state.angular_velocity, state.linear_velocity
    response = 0.5 * dt / parameters.inertia
    # The gyroscopic torque is that of the rates at the middle, predicted with those at the start.
    w_middle = w + response * (torque - torch.linalg.cross(w, parameters.inertia * w))
    change = response * (torque - torch.linalg.cross(w_middle, parameters.inertia * w_middle))
    half_turn = _quaternion_rate(state.orientation, (0.25 * dt) * (w + change))
    middle = state.orientation + half_turn
    q = middle + half_turn
    q = q / torch.linalg.vector_norm(q, dim=-1, keepdim=True)
    to_world = rotation.to_matrix(middle)
    half = (0.5 * dt / parameters.mass)[..., None]
    weight = torch.nn.functional.pad((parameters.mass * parameters.gravity)[..., None], (2, 0))
    push = half * (parameters.external_force - weight)
    thrust = torch.nn.functional.pad(force, (2, 0))
    # Drag is diagonal in the body frame, so that the air speed at the middle can be solved for there.
    air = torch.addcmul(((v + (push - parameters.wind))[..., :, None] * to_world).sum(-2), half, thrust)
    drag = parameters.drag / (1.0 + half * parameters.drag)
    body_force = torch.addcmul(thrust, drag, air, value=-1.0)
    kick = torch.addcmul(push, half, (to_world * body_force[..., None, :]).sum(-1))
    v_middle = v + kick
    return QuadrotorState(
        torch.add(state.position, v_middle, alpha=dt),
        q,
        v_middle + kick,
        torch.add(w, change, alpha=2.0),
        torch.addcmul(target, gap, decay),
    )


def _rotor_targets(speeds: Tensor, setpoints: Tensor, parameters: QuadrotorParameters) -> tuple[Tensor, Tensor]:
    """Speed (..., 4) that each rotor tends to and the rate (..., 4) 1/s at which it does."""
    target = torch.minimum(setpoints.clamp(min=0.0), parameters.max_speed[..., None])
    target = target * parameters.supply[..., None]
    # A first-order lag never crosses its target, so which time constant acts is fixed for a step.
    time_constant = torch.where(target > speeds, parameters.rise_time[..., None], parameters.fall_time[..., None])
    return target, 1.0 / time_constant


def _body_wrench(speeds: Tensor, parameters: QuadrotorParameters) -> tuple[Tensor, Tensor]:
    """Collective thrust (..., 1) N and torque (..., 3) N m of the rotors, body frame."""
    wrench = (wrench_matrix(parameters) * rotor_thrusts(speeds, parameters)[..., None, :]).sum(-1)
    return wrench[..., :1], wrench[..., 1:]


def _quaternion_rate(q: Tensor, w: Tensor) -> Tensor:
    """Twice the time derivative (..., 4) of a quaternion at body rates `w` (..., 3): q ⊗ (0, w)."""
    qw, qx, qy, qz = q.unbind(-1)
    x, y, z = w.unbind(-1)
    return torch.stack(
        [
            -(qx * x + qy * y + qz * z),
            qw * x + qy * z - qz * y,
            qw * y + qz * x - qx * z,
            qw * z + qx * y - qy * x,
        ],
        dim=-1,
    )


def _acceleration(q: Tensor, v: Tensor, thrust: Tensor, parameters: QuadrotorParameters) -> Tensor:
    """Acceleration (..., 3) m/s², world frame, of thrust along body z, drag, gravity, external force."""
    to_world = rotation.to_matrix(q)
    air = ((v - parameters.wind)[..., :, None] * to_world).sum(-2)
    body_force = torch.nn.functional.pad(thrust, (2, 0)) - parameters.drag * air
    force = (to_world * body_force[..., None, :]).sum(-1)
    weight = torch.nn.functional.pad((parameters.mass * parameters.gravity)[..., None], (2, 0))
    return (force + (parameters.external_force - weight)) / parameters.mass[..., None]


def _advance(y: tuple[Tensor, ...], k: tuple[Tensor, ...], h: float) -> tuple[Tensor, ...]:
    return tuple(a + h * b for a, b in zip(y, k, strict=True))
