"""`quadrotor-hover`: recover from a throw at any tilt up to 90° and hold a point.

The randomization spans eight published models of the same vehicle (docs/robots/crazyflie.md).
"""

from __future__ import annotations

from policies.actions import ActionConfig
from policies.manifest import Envelope
from policies.terms import TermConfig
from sim.randomization import RandomizationTerm
from sim.tasks.quadrotor import QuadrotorTask

RANDOMIZATION = (
    # The body: one percentile couples the size of the vehicle to its motors' lag.
    RandomizationTerm(parameter="mass", low=0.025, high=0.045),
    RandomizationTerm(parameter="inertia_ratio", low=0.0964, high=0.4, distribution="loguniform", group="size"),
    RandomizationTerm(parameter="inertia_pitch_ratio", low=0.95, high=1.1),
    RandomizationTerm(parameter="inertia_yaw_ratio", low=1.5, high=2.1),
    RandomizationTerm(
        parameter="rise_time", low=0.03, high=0.15, distribution="loguniform", group="size", coupling=0.6
    ),
    RandomizationTerm(
        parameter="fall_time", low=0.03, high=0.25, distribution="loguniform", group="size", coupling=0.6
    ),
    # The rotors.
    RandomizationTerm(parameter="thrust_to_weight", low=1.45, high=2.3),
    RandomizationTerm(parameter="thrust_linearity", low=0.0, high=0.1),
    RandomizationTerm(parameter="rotor_strength", low=0.99, high=1.01),
    RandomizationTerm(parameter="yaw_torque_ratio", low=0.0045, high=0.034, distribution="loguniform"),
    RandomizationTerm(parameter="battery_sag", low=0.0, high=0.01),
    RandomizationTerm(parameter="drag", low=0.3, high=2.0, operation="scale"),
    # The world.
    RandomizationTerm(parameter="force", low=-0.05, high=0.05),
    RandomizationTerm(parameter="torque", low=-2e-4, high=2e-4),
    RandomizationTerm(
        parameter="force_gust",
        low=0.0,
        high=0.004,
        distribution="gaussian",
        when="step",
        correlation_time=0.5,
    ),
    RandomizationTerm(
        parameter="torque_gust",
        low=0.0,
        high=1e-5,
        distribution="gaussian",
        when="step",
        correlation_time=0.2,
    ),
    # The loop: 0 to 20 ms in all.
    RandomizationTerm(parameter="action_latency", low=0.0, high=0.01),
    RandomizationTerm(parameter="observation_latency", low=0.0, high=0.01),
    # The sensors.
    RandomizationTerm(parameter="position_noise", low=0.0, high=0.003),
    RandomizationTerm(parameter="position_bias", low=-0.003, high=0.003),
    RandomizationTerm(parameter="orientation_noise", low=0.0, high=0.005),
    RandomizationTerm(parameter="orientation_bias", low=-0.01, high=0.01),
    RandomizationTerm(parameter="linear_velocity_noise", low=0.0, high=0.02),
    RandomizationTerm(parameter="linear_velocity_bias", low=-0.01, high=0.01),
    RandomizationTerm(parameter="angular_velocity_noise", low=0.0, high=0.05),
    RandomizationTerm(parameter="angular_velocity_bias", low=-0.01, high=0.01),
)

ACTION = ActionConfig(name="motor_speeds", parameters={"low": 0.0, "high": 2272.6})
"""Rotor speed in rad/s; `high` is the Crazyflie's max_speed."""

HOVER_ACTION = 0.5
"""Middle of the normalized actions at which the randomized vehicles hover (0.3 to 0.65)."""

TERMS = (
    TermConfig(name="position_error", parameters={"limit": 1.5}),
    TermConfig(name="linear_velocity_error", parameters={"limit": 6.0, "scale": 0.5}),
    TermConfig(name="up_direction"),
    TermConfig(name="yaw_error", parameters={"limit": 0.5}),
    TermConfig(name="angular_velocity", parameters={"scale": 0.1}),
    TermConfig(name="position_error_integral", parameters={"limit": 0.2, "clip": 0.3, "scale": 3.0}),
    TermConfig(name="angular_velocity_history", parameters={"length": 4, "scale": 0.1}),
    TermConfig(name="action_history", parameters={"length": 8, "size": 4, "initial": HOVER_ACTION}),
)

ENVELOPE = Envelope(
    geofence=((-3.0, 3.0), (-3.0, 3.0), (-0.2, 3.0)),
    max_tilt=2.1,
    tumble_time=0.5,
    max_speed=5.0,
    state_age=(0.1, 0.5, 2.0),
    command_age_periods=3.0,
)

TASK = QuadrotorTask(
    name="quadrotor-hover",
    terms=TERMS,
    action=ACTION,
    envelope=ENVELOPE,
    randomization=RANDOMIZATION,
)
