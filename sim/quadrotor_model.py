"""From a description and randomized values to a quadrotor's physical parameters and sensors.

Randomization acts on a small set of *design variables* that stay physical in any combination:
thrust is set by the thrust-to-weight ratio, inertia by its ratio to mass × arm². Here they are
named, given their nominal value by a robot description, and turned into `QuadrotorParameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hardware.descriptions import QuadrotorDescription
from policies.types import QuadrotorState
from sim.quadrotor import QuadrotorParameters

VARIABLES: Mapping[str, str] = {
    "mass": "kg",
    "thrust_to_weight": "full thrust of all rotors divided by weight",
    "thrust_linearity": "share of a rotor's full thrust that is linear in its speed, the rest being quadratic",
    "rotor_strength": "(4) thrust of each rotor relative to the curve",
    "inertia_ratio": "Jx / (mass × arm²)",
    "inertia_pitch_ratio": "Jy / Jx",
    "inertia_yaw_ratio": "Jz / Jx",
    "yaw_torque_ratio": "m",
    "rise_time": "s",
    "fall_time": "s, never below the rise time",
    "drag": "(3) N s/m, body axes",
    "wind": "(3) m/s, world frame",
    "gravity": "m/s²",
    "force": "(3) constant force in weights, world frame",
    "force_gust": "(3) changing force in weights, world frame",
    "torque": "(3) constant torque in weights × m, body frame",
    "torque_gust": "(3) changing torque in weights × m, body frame",
    "battery_sag": "share of rotor speed lost at full load",
    "action_latency": "s",
    "observation_latency": "s",
    "position_noise": "m, standard deviation per axis",
    "position_bias": "(3) m",
    "orientation_noise": "rad, standard deviation per axis",
    "orientation_bias": "(3) rad",
    "linear_velocity_noise": "m/s, standard deviation per axis",
    "linear_velocity_bias": "(3) m/s",
    "angular_velocity_noise": "rad/s, standard deviation per axis",
    "angular_velocity_bias": "(3) rad/s",
}
"""Design variables and their units; a number in brackets is the length of a vector."""

_SENSORS = ("position", "orientation", "linear_velocity", "angular_velocity")


def nominal_variables(description: QuadrotorDescription, device: torch.device) -> dict[str, Tensor]:
    """Design variables of a described vehicle, perfect sensors and still air; each (size,) float32."""
    p = {name: torch.as_tensor(value) for name, value in description.parameters.items()}
    c0, c1, c2 = p["thrust_coefficients"]
    full_thrust = c0 + p["max_speed"] * (c1 + p["max_speed"] * c2)
    arm_squared = p["rotor_positions"][:, :2].square().sum(-1).mean()
    nominal = {
        "mass": p["mass"],
        "thrust_to_weight": 4.0 * full_thrust / (p["mass"] * 9.81),
        "thrust_linearity": c1 * p["max_speed"] / full_thrust,
        "rotor_strength": torch.ones(4),
        "inertia_ratio": p["inertia"][0] / (p["mass"] * arm_squared),
        "inertia_pitch_ratio": p["inertia"][1] / p["inertia"][0],
        "inertia_yaw_ratio": p["inertia"][2] / p["inertia"][0],
        "yaw_torque_ratio": p["yaw_torque_ratio"],
        "rise_time": p["rise_time"],
        "fall_time": p["fall_time"],
        "drag": p["drag"],
        "gravity": torch.tensor(9.81),
        "battery_sag": p["battery_sag"],
    }
    vectors = ("wind", "force", "force_gust", "torque", "torque_gust", *(f"{s}_bias" for s in _SENSORS))
    nominal.update({name: torch.zeros(3) for name in vectors})
    scalars = ("action_latency", "observation_latency", *(f"{s}_noise" for s in _SENSORS))
    nominal.update({name: torch.tensor(0.0) for name in scalars})
    return {name: torch.atleast_1d(nominal[name]).to(device=device, dtype=torch.float32) for name in VARIABLES}


def physical_parameters(values: Mapping[str, Tensor], description: QuadrotorDescription) -> QuadrotorParameters:
    """Parameters (N) of the vehicles whose design variables are `values`, name → (N, size)."""
    like = values["mass"]
    nominal = {name: torch.as_tensor(value).to(like) for name, value in description.parameters.items()}
    count = len(like)
    mass, gravity = values["mass"][:, 0], values["gravity"][:, 0]
    weight = mass * gravity
    max_speed = nominal["max_speed"].expand(count)
    arm_squared = nominal["rotor_positions"][:, :2].square().sum(-1).mean()
    jx = values["inertia_ratio"][:, 0] * mass * arm_squared
    inertia = torch.stack(
        [jx, jx * values["inertia_pitch_ratio"][:, 0], jx * values["inertia_yaw_ratio"][:, 0]], dim=-1
    )
    full_thrust = 0.25 * values["thrust_to_weight"][:, 0] * weight
    linear = values["thrust_linearity"][:, 0]
    offset = nominal["thrust_coefficients"][0].expand(count)
    curve = torch.stack(
        [offset, linear * full_thrust / max_speed, ((1.0 - linear) * full_thrust - offset) / max_speed**2],
        dim=-1,
    )
    return QuadrotorParameters(
        mass=mass,
        inertia=inertia,
        rotor_positions=nominal["rotor_positions"].expand(count, 4, 3),
        rotor_yaw_signs=nominal["rotor_yaw_signs"].expand(count, 4),
        thrust_coefficients=curve[:, None, :] * values["rotor_strength"][:, :, None],
        yaw_torque_ratio=values["yaw_torque_ratio"][:, 0],
        rise_time=values["rise_time"][:, 0],
        fall_time=torch.maximum(values["fall_time"], values["rise_time"])[:, 0],
        max_speed=max_speed,
        drag=values["drag"],
        wind=values["wind"],
        gravity=gravity,
        external_force=(values["force"] + values["force_gust"]) * weight[:, None],
        external_torque=(values["torque"] + values["torque_gust"]) * weight[:, None],
        supply=torch.ones_like(mass),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LoopModel:
    """What lies between a policy and the rigid body: sensor errors, delays, the battery."""

    noise: Tensor
    """Shape (N, 13), standard deviations of position, quaternion, velocity and body rates."""
    bias: Tensor
    """Shape (N, 13), constant errors of the same."""
    staleness: Tensor
    """Shape (N, 1), age of the measured state in control periods, at most 1."""
    action_weights: Tensor
    """Shape (N, 3, 1): share of the newest, last and last-but-one action in what acts over a period."""
    battery_sag: Tensor
    """Shape (N), share of rotor speed lost when all rotors run at full speed."""


def loop_model(values: Mapping[str, Tensor], period: float) -> LoopModel:
    """Sensor errors, latencies and battery of N vehicles whose design variables are `values`.

    A constant latency acts inside a control period: what acts is the mean of the actions over that
    period, which to a rotor much slower than the period is the delayed action.
    """
    half = 0.5  # a rotation by a small vector r has the quaternion (1, r/2)
    zero = torch.zeros_like(values["mass"])
    noise = torch.cat(
        [
            values["position_noise"].expand(-1, 3),
            # On all four elements: normalizing takes the radial part away, the same at every attitude.
            half * values["orientation_noise"].expand(-1, 4),
            values["linear_velocity_noise"].expand(-1, 3),
            values["angular_velocity_noise"].expand(-1, 3),
        ],
        dim=-1,
    )
    bias = torch.cat(
        [
            values["position_bias"],
            zero,
            half * values["orientation_bias"],
            values["linear_velocity_bias"],
            values["angular_velocity_bias"],
        ],
        dim=-1,
    )
    staleness = values["observation_latency"] / period
    latency = values["action_latency"] / period
    if bool((staleness > 1.0).any()) or bool((latency > 2.0).any()):
        raise ValueError(
            f"observation_latency up to {float(values['observation_latency'].max()):g} s or action_latency up to "
            f"{float(values['action_latency'].max()):g} s is longer than the {period:g} s or {2 * period:g} s "
            "that are simulated at this control rate"
        )
    steps = torch.arange(3, device=latency.device, dtype=latency.dtype)
    weights = (1.0 - (latency - steps).abs()).clamp(min=0.0)
    return LoopModel(
        noise=noise,
        bias=bias,
        staleness=staleness,
        action_weights=weights[..., None],
        battery_sag=values["battery_sag"][:, 0],
    )


def pack(state: QuadrotorState) -> Tensor:
    """Position, quaternion, velocity and body rates as one tensor (..., 13)."""
    return torch.cat([state.position, state.orientation, state.linear_velocity, state.angular_velocity], dim=-1)


def measure(current: Tensor, previous: Tensor, model: LoopModel, white: Tensor) -> QuadrotorState:
    """What the sensors say: delayed, biased and noisy, rotor speeds unknown.

    Args:
        current: Packed true state (N, 13) now.
        previous: Packed true state (N, 13) one control period ago.
        model: Errors and delays.
        white: Standard normal samples (N, 13).
    """
    packed = torch.lerp(current, previous, model.staleness)
    p, q, v, w = (packed + (model.bias + model.noise * white)).split([3, 4, 3, 3], dim=-1)
    return QuadrotorState(p, q / torch.linalg.vector_norm(q, dim=-1, keepdim=True), v, w)
