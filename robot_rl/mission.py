"""Missions of a quadrotor: named phases, each a set-point as a function of time. No ROS.

Every mission begins where the vehicle stands, with a take-off along a smooth segment, so that the
policy's first error is zero and the first motion is not violent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hardware import setpoints
from policies.types import QuadrotorSetpoint

KINDS = ("hover", "figure-eight", "waypoints", "demo")
"""Missions by name."""


@dataclass(frozen=True, kw_only=True)
class MissionConfig:
    """What to fly."""

    kind: str = "hover"
    """One of `KINDS`."""
    height: float = 1.0
    """m above the start at which to hover and to fly figures."""
    max_speed: float = 0.7
    """m/s in take-off, way-points and return."""
    max_acceleration: float = 1.0
    """m/s² in the same."""
    hover_time: float = 4.0
    """s of hovering in the demo before the figure-eight."""
    size: float = 1.0
    """m, half the length of the figure-eight along x."""
    figure_period: float = 5.5
    """s per figure-eight."""
    periods: float = 2.0
    """Figure-eights of the demo; the figure-eight mission goes on until it is ended."""
    ramp: float = 2.0
    """s in which a figure-eight comes up to speed, and down again."""
    points: Sequence[float] = (1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0)
    """Way-points x, y, z, x, y, z, … in m in the world, flown over and over."""
    dwell: float = 1.0
    """s of rest at each way-point."""
    landing_speed: float = 0.3
    """m/s at most on the way down."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Phase:
    """A part of a mission."""

    name: str
    """What the vehicle does, e.g. `takeoff`."""
    duration: float
    """s; infinite for the last phase of a mission that goes on until it is ended."""
    sample: Callable[[float], QuadrotorSetpoint]
    """Set-point at a time in s since the phase began."""


def plan(config: MissionConfig, start: np.ndarray, yaw: float) -> tuple[Phase, ...]:
    """The phases of a mission from a vehicle that stands at `start` (3,) m with heading `yaw` rad.

    Raises:
        ValueError: The kind is unknown, or there are no whole way-points.
    """
    start = np.asarray(start, dtype=np.float64)
    top = start + np.array([0.0, 0.0, config.height])
    takeoff = _move("takeoff", start, top, yaw, config.max_speed, config.max_acceleration)
    if config.kind == "hover":
        return takeoff, _hover("hover", top, yaw, math.inf)
    if config.kind == "figure-eight":
        return takeoff, Phase(name="figure_eight", duration=math.inf, sample=lambda t: _eight(config, top, yaw, t))
    if config.kind == "waypoints":
        return takeoff, _round_trip(config, top, yaw)
    if config.kind == "demo":
        return takeoff, *_demo(config, start, top, yaw)
    raise ValueError(f"unknown mission {config.kind!r}; known: {', '.join(KINDS)}")


def at(phases: Sequence[Phase], time: float) -> tuple[str, QuadrotorSetpoint, bool]:
    """(phase, set-point, whether the mission is over) at `time` s since its start."""
    for phase in phases:
        if time < phase.duration:
            return phase.name, phase.sample(max(0.0, time)), False
        time -= phase.duration
    return phases[-1].name, phases[-1].sample(phases[-1].duration), True


def _demo(config: MissionConfig, start: np.ndarray, top: np.ndarray, yaw: float) -> tuple[Phase, ...]:
    steady = config.ramp + config.periods * config.figure_period
    end, _, _ = _ramp_down(steady + config.ramp, steady, config.ramp)
    last = _eight(config, top, yaw, end).position
    # A hand's breadth below the ground, so that the vehicle touches it also with a small error in height.
    ground = start - np.array([0.0, 0.0, 0.05])
    return (
        _hover("hover", top, yaw, config.hover_time),
        Phase(
            name="figure_eight",
            duration=steady + config.ramp,
            sample=lambda t: _warped(config, top, yaw, *_ramp_down(t, steady, config.ramp)),
        ),
        _move("return", last, top, yaw, config.max_speed, config.max_acceleration),
        _hover("return", top, yaw, 1.0),
        _move("landing", top, ground, yaw, config.landing_speed, config.max_acceleration),
        _hover("landing", ground, yaw, 1.0),
    )


def _move(
    name: str, start: np.ndarray, goal: np.ndarray, yaw: float, max_speed: float, max_acceleration: float
) -> Phase:
    distance = np.linalg.norm(goal - start)
    limits = {"max_speed": max_speed, "max_acceleration": max_acceleration}
    duration = max(0.5, float(setpoints.segment_duration(distance, **limits)))
    return Phase(
        name=name,
        duration=duration,
        sample=lambda t: setpoints.segment(np.asarray(t), start=start, goal=goal, duration=duration, start_yaw=yaw),
    )


def _hover(name: str, position: np.ndarray, yaw: float, duration: float) -> Phase:
    still = setpoints.hover(position, yaw, like=position)
    return Phase(name=name, duration=duration, sample=lambda _: still)


def _eight(config: MissionConfig, center: np.ndarray, yaw: float, time: float) -> QuadrotorSetpoint:
    return setpoints.figure_eight(
        np.asarray(time),
        center=center,
        size=config.size,
        period=config.figure_period,
        ramp=config.ramp,
        yaw=yaw,
    )


def _ramp_down(time: float, steady: float, ramp: float) -> tuple[float, float, float]:
    """Clock of a figure that slows down to rest in `ramp` s after `steady`: (s, ds/dt, d²s/dt²)."""
    done = time - steady
    if done <= 0.0 or ramp <= 0.0:
        return min(time, steady), float(done <= 0.0), 0.0
    lost, rate, change = setpoints.ramp_time(np.asarray(done), ramp)
    return time - float(lost), 1.0 - float(rate), -float(change)


def _warped(
    config: MissionConfig, center: np.ndarray, yaw: float, s: float, rate: float, change: float
) -> QuadrotorSetpoint:
    """The figure-eight on its own clock `s`, with the derivatives that follow from it."""
    point = _eight(config, center, yaw, s)
    return replace(
        point,
        velocity=rate * point.velocity,
        acceleration=rate * rate * point.acceleration + change * point.velocity,
    )


def _round_trip(config: MissionConfig, top: np.ndarray, yaw: float) -> Phase:
    values = np.asarray(config.points, dtype=np.float64)
    if values.size < 3 or values.size % 3 or not np.all(np.isfinite(values)):
        raise ValueError(f"way-points have {values.size} values, expected finite x, y, z of one or more points")
    points = np.vstack([top, values.reshape(-1, 3), top])
    departures, durations = setpoints.plan_waypoints(
        points, max_speed=config.max_speed, max_acceleration=config.max_acceleration, dwell=config.dwell
    )
    lap = float(departures[-1] + durations[-1]) + config.dwell
    yaws = np.full(len(points), yaw)
    return Phase(
        name="waypoints",
        duration=math.inf,
        sample=lambda t: setpoints.waypoints(
            np.asarray(t % lap), points=points, departures=departures, durations=durations, yaws=yaws
        ),
    )
