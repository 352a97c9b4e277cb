"""Flying a bundle in simulation many times: the metrics of the contract.

The exported file runs through the runtime that flies it on a robot, batched: measured states go in,
commands come out. Nothing of the training code takes part.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tyro.conf import Positional

import policies
from hardware import setpoints
from hardware.descriptions import load_description
from policies.types import QuadrotorSetpoint
from robot_rl.errors import UserError, unknown_name
from sim import quadrotor
from sim.factory import find_randomization
from sim.quadrotor_model import loop_model, measure, nominal_variables, pack, physical_parameters
from sim.randomization import RandomizationTerm, Randomizer
from sim.tasks import TASKS
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


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Fly a bundle in simulation many times and print its metrics."""

    bundle: Positional[str]
    """Folder of a bundle, or the name of a shipped one."""
    episodes: int = 1000
    """Number of flights, side by side."""
    seed: int = 0
    """Seed of starts, vehicles and noise."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    set: tuple[str, ...] = ()
    """Settings as name=value, e.g. period=3.5: size, period, tilt, position, linear_velocity, …"""
    json: Path | None = None
    """File for the metrics."""


def evaluate(
    bundle: str | Path,
    *,
    episodes: int,
    seed: int,
    randomization: str = "default",
    settings: FlightSettings | None = None,
) -> dict[str, Any]:
    """Metrics of a bundle by the keys of the contract.

    Every quadrotor bundle is thrown and has to hover; one trained on `quadrotor-track` also flies the
    figure-eight from rest.
    """
    settings = settings or FlightSettings()
    policy = policies.load(bundle)
    if policy.manifest.task not in TASKS:
        raise unknown_name("task", policy.manifest.task, TASKS)
    task = TASKS[policy.manifest.task]
    terms = randomization_terms(task, randomization)
    started = time.process_time()
    hover = _fly_hover(policy, task, terms, episodes, seed, settings)
    metrics: dict[str, Any] = {
        "task": task.name,
        "bundle": policy.manifest.name,
        "engine": "torch",
        "randomization": randomization,
        "episodes": episodes,
        "seed": seed,
        "control_rate_hz": policy.manifest.control_rate_hz,
        "settings": dataclasses.asdict(settings),
        **hover,
    }
    if task.path is not None:
        metrics.update(_fly_figure_eight(policy, task, terms, min(episodes, 256), seed, settings))
    metrics["cpu_seconds"] = round(time.process_time() - started, 2)
    return metrics


def run(config: EvaluateConfig) -> int:
    """Evaluate and print; write JSON where asked for."""
    torch.set_num_threads(1)
    metrics = evaluate(
        config.bundle,
        episodes=config.episodes,
        seed=config.seed,
        randomization=config.randomization,
        settings=parse_settings(config.set),
    )
    text = json.dumps(metrics, indent=2) + "\n"
    if config.json is not None:
        config.json.parent.mkdir(parents=True, exist_ok=True)
        config.json.write_text(text)
    sys.stdout.write(text)
    return 0


def parse_settings(pairs: tuple[str, ...]) -> FlightSettings:
    """Settings from `name=value` texts."""
    known = {field.name for field in dataclasses.fields(FlightSettings)}
    values = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if name not in known:
            raise unknown_name("setting", name, known)
        try:
            values[name] = float(text)
        except ValueError:
            raise UserError(
                f"--set {pair!r}: {text!r} is not a number{'' if separator else '; write name=value'}"
            ) from None
    return FlightSettings(**values)


def randomization_terms(task: QuadrotorTask, name: str) -> tuple[RandomizationTerm, ...]:
    """The terms that `--randomization` names, what is wrong with it being the user's to fix."""
    try:
        return find_randomization(name, task.randomization)
    except ValueError as error:
        raise UserError(str(error)) from error


def _fly_hover(
    policy: policies.Policy,
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
    policy: policies.Policy,
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
    policy: policies.Policy,
    task: QuadrotorTask,
    terms: tuple[RandomizationTerm, ...],
    target: Any,
    duration: float,
    episodes: int,
    seed: int,
) -> Tensor:
    """Distance (T, N) m of the true position from the set-point after each control period."""
    generator = torch.Generator().manual_seed(seed)
    description = load_description(task.robot)
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
        action = torch.from_numpy(np.ascontiguousarray(policy.last_action))
        # The policy's own memory is inside `policy`; the simulation carries only the delayed actions.
        simulation = task_functions.advance(task, simulation, {}, current, action, parameters, loop, quadrotor.step)
        after = target((k + 1) * task.period)
        errors.append((simulation.state.position - after.position).norm(dim=-1))
    return torch.stack(errors)


def _to_numpy(record: Any) -> Any:
    """A state or set-point of tensors as the same of numpy arrays."""
    fields: Mapping[str, Any] = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return type(record)(**{k: None if v is None else v.numpy() for k, v in fields.items()})
