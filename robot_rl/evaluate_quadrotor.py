"""Flying a quadrotor's policy, or a controller, in simulation: throws to recover from, and the figure-eight."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardware import setpoints
from hardware.descriptions import load_quadrotor
from policies.types import QuadrotorSetpoint
from robot_rl.control import FlightPolicy
from sim import quadrotor
from sim.quadrotor_model import loop_model, measure, nominal_variables, pack, physical_parameters
from sim.randomization import RandomizationTerm, Randomizer
from sim.tasks import quadrotor as task_functions
from sim.tasks.quadrotor import QuadrotorTask, StartRanges

_CRASH_DISTANCE = 10.0
_FINAL_DISTANCE = 1.0
_HOVER_SECONDS = 10.0
_RAMP_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class FlightSettings:
    """What is flown; every field can be changed with `--set name=value` and is recorded."""

    size: float = 1.0
    """m, half-width of the figure-eight."""
    period: float = 5.5
    """s per figure-eight."""
    tilt: float = 1.5708
    """rad, largest tilt of a throw."""
    position: float = 0.5
    """m, each axis of a throw within ±."""
    linear_velocity: float = 1.0
    """m/s, each axis of a throw within ±."""
    angular_velocity: float = 1.0
    """rad/s, each axis of a throw within ±."""
    yaw: float = 3.1416
    """rad, heading of a throw within ± of the set-point's."""


def fly(
    policy: FlightPolicy,
    task: QuadrotorTask,
    terms: tuple[RandomizationTerm, ...],
    episodes: int,
    seed: int,
    settings: FlightSettings,
) -> dict[str, Any]:
    """Metrics of a policy: it is thrown and has to hover; one trained on `quadrotor-track` also flies the figure-eight.

    The figure-eight begins at rest.
    """
    metrics = _fly_hover(policy, task, terms, episodes, seed, settings)
    if task.path is not None:
        metrics.update(_fly_figure_eight(policy, task, terms, min(episodes, 256), seed, settings))
    return metrics


def _fly_hover(
    policy: FlightPolicy,
    task: QuadrotorTask,
    terms: tuple[RandomizationTerm, ...],
    episodes: int,
    seed: int,
    settings: FlightSettings,
) -> dict[str, Any]:
    start = StartRanges(
        position=settings.position,
        tilt=settings.tilt,
        linear_velocity=settings.linear_velocity,
        angular_velocity=settings.angular_velocity,
        yaw=settings.yaw,
        easy=0.0,
    )
    origin = torch.zeros(episodes, 3)

    def target(_: float) -> QuadrotorSetpoint:
        return setpoints.hover(origin, torch.zeros(episodes), like=origin)

    error = _fly(policy, dataclasses.replace(task, start=start), terms, target, _HOVER_SECONDS, episodes, seed)
    crashed = _crashed(error)
    steady = error[len(error) // 2 :, ~crashed]
    rmse = steady.square().mean(0).sqrt()
    return {
        "crash_rate": float(crashed.float().mean()),
        "crashes": int(crashed.sum()),
        "steady_rmse_m": float(steady.square().mean().sqrt()) if len(rmse) else None,
        "steady_rmse_median_m": float(rmse.median()) if len(rmse) else None,
    }


def _fly_figure_eight(
    policy: FlightPolicy,
    task: QuadrotorTask,
    terms: tuple[RandomizationTerm, ...],
    episodes: int,
    seed: int,
    settings: FlightSettings,
) -> dict[str, Any]:
    center = torch.zeros(episodes, 3)

    def target(at: float) -> QuadrotorSetpoint:
        return setpoints.figure_eight(
            torch.full((episodes,), at),
            center=center,
            size=settings.size,
            period=settings.period,
            ramp=_RAMP_SECONDS,
        )

    rest = dataclasses.replace(task, start=StartRanges(easy=1.0))
    duration = _RAMP_SECONDS + 2.0 * settings.period
    error = _fly(policy, rest, terms, target, duration, episodes, seed)
    crashed = _crashed(error)
    measured = error[round(_RAMP_SECONDS * task.control_rate_hz) :, ~crashed]
    return {
        "tracking_rmse_m": float(measured.square().mean().sqrt()) if not bool(crashed.all()) else None,
        "tracking_crash_rate": float(crashed.float().mean()),
    }


def _crashed(error: Tensor) -> Tensor:
    """Which flights (T, N) crashed, as CONTRACT.md defines it."""
    bad = ~torch.isfinite(error).all(0)
    return bad | (error > _CRASH_DISTANCE).any(0) | (error[-1] > _FINAL_DISTANCE)


@torch.no_grad()
def _fly(
    policy: FlightPolicy,
    task: QuadrotorTask,
    terms: tuple[RandomizationTerm, ...],
    target: Any,
    duration: float,
    episodes: int,
    seed: int,
) -> Tensor:
    """Distance (T, N) m of the true position from the set-point after each control period."""
    generator = torch.Generator().manual_seed(seed)
    description = load_quadrotor(task.robot)
    nominal = nominal_variables(description, torch.device("cpu"))
    randomizer = Randomizer(nominal, terms, episodes, generator)
    randomizer.reset(torch.ones(episodes, dtype=torch.bool))
    parameters = physical_parameters(randomizer.values, description)
    loop = loop_model(randomizer.values, task.period)
    simulation = task_functions.draw_start(task, parameters, target(0.0), generator)
    changing = any(term.when in ("step", "interval") for term in terms)
    policy.reset()
    errors = []
    for k in range(round(duration / task.period)):
        if changing:
            randomizer.step(task.period)
            parameters = physical_parameters(randomizer.values, description)
        current = pack(simulation.state)
        white = torch.randn(episodes, 13, generator=generator)
        measured = measure(current, simulation.previous, loop, white)
        policy.step(_to_numpy(measured), _to_numpy(target(k * task.period)))
        action = torch.from_numpy(np.ascontiguousarray(np.asarray(policy.last_action)))
        # The policy's own memory is inside `policy`; the simulation carries only the delayed actions.
        simulation = task_functions.advance(task, simulation, {}, current, action, parameters, loop, quadrotor.step)
        after = target((k + 1) * task.period)
        errors.append((simulation.state.position - after.position).norm(dim=-1))
    return torch.stack(errors)


def _to_numpy(record: Any) -> Any:
    """A state or set-point of tensors as the same of numpy arrays."""
    fields: Mapping[str, Any] = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return type(record)(**{k: None if v is None else v.numpy() for k, v in fields.items()})
