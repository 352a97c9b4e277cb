"""How fast the parts run, as ratios and rates of one run: simulators, controllers, cameras, policies.

Every measurement is repeated; best and median are given, with CPU seconds beside wall seconds, because on a
busy machine the wall clock measures the neighbours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import torch

import policies
import sim
from policies.actions import to_command
from policies.types import QuadrotorSetpoint, QuadrotorState


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Measure the speed of simulators, controllers, cameras and policies."""

    num_envs: int = 1024
    """Quadrotors in the batch."""
    num_arms: int = 256
    """Arms in the batch."""
    steps: int = 100
    """Environment steps of one measurement; arms take a tenth of it."""
    inferences: int = 2000
    """Single policy steps that are timed one by one."""
    frames: int = 300
    """Pictures of one measurement."""
    repeats: int = 3
    """Measurements of each kind."""


def measure_environment(task: str, config: SpeedConfig) -> dict[str, float]:
    """Steps per second of one environment under random actions, with observations, rewards and resets."""
    arms = task.startswith("arm")
    count, steps = (config.num_arms, max(1, config.steps // 10)) if arms else (config.num_envs, config.steps)
    env = sim.make(task, num_envs=count, device="cpu", seed=0, randomization="default")
    env.reset()
    actions = 0.1 * torch.randn(count, env.num_actions, generator=torch.Generator().manual_seed(0))

    def work() -> None:
        for _ in range(steps):
            env.step(actions)

    return _rates(work, count * steps, config.repeats)


def measure_arms(count: int, config: SpeedConfig) -> dict[str, float]:
    """What controllers and environment add to the raw physics of `count` Pandas, on one thread, in one run.

    `arm-push` at 10 Hz control and 2 ms physics: 50 time steps, each with kinematics and impedance control. The bare
    loop calls `mujoco.mj_step` as often, on the same model, from the posture and the objects of an environment, without
    torques: nobody's own loop does less.
    """
    env: Any = sim.make("arm-push", num_envs=count, randomization="none")
    env.reset()
    action = torch.full((count, env.num_actions), 0.3)
    env.step(action)
    command = to_command(env.task.action, action.double().numpy())
    model, data = env.engine.model, mujoco.MjData(env.engine.model)
    data.qpos[:] = env.engine.batch.bind("qpos")[0]
    mujoco.mj_forward(model, data)

    def bare() -> None:
        for _ in range(env.loop.substeps):
            mujoco.mj_step(model, data)

    parts: dict[str, Callable[[], object]] = {
        "raw_ms": lambda: env.engine.batch.step(nstep=env.loop.substeps),
        "controlled_ms": lambda: env.loop.run(command, env.view.values),
        "environment_ms": lambda: env.step(action),
        "bare_loop_ms": bare,
    }
    # In turns, so that what else the machine does falls on all of them.
    times: dict[str, list[float]] = {name: [] for name in parts}
    rounds = 4 * config.repeats if count == 1 else config.repeats
    for _ in range(rounds):
        for name, part in parts.items():
            begin = time.process_time()
            part()
            times[name].append(1e3 * (time.process_time() - begin))
    result = {name: min(values) for name, values in times.items()}
    result["controlled_per_raw"] = result["controlled_ms"] / result["raw_ms"]
    result["environment_per_raw"] = result["environment_ms"] / result["raw_ms"]
    result["controlled_per_bare_loop"] = result["controlled_ms"] / (count * result["bare_loop_ms"])
    result["environment_per_bare_loop"] = result["environment_ms"] / (count * result["bare_loop_ms"])
    result["raw_steps_per_cpu_s"] = 1e3 * count * env.loop.substeps / result["raw_ms"]
    result["environment_steps_per_cpu_s"] = 1e3 * count / result["environment_ms"]
    return result


def measure_cameras(config: SpeedConfig) -> dict[str, float]:
    """Pictures of 128 × 128 per CPU second of one core, of a Panda, a table and a cube."""
    from sim.cameras import Cameras

    env: Any = sim.make("arm-pick-lift", num_envs=4, randomization="none")
    with Cameras(env.engine) as cameras:

        def colour() -> None:
            for i in range(config.frames):
                cameras.render(i % 4, "front")

        def depth() -> None:
            for i in range(config.frames):
                cameras.render_depth(i % 4, "front")

        rgb, both = _rates(colour, config.frames, config.repeats), _rates(depth, config.frames, config.repeats)
    return {"rgb_per_cpu_s": rgb["median_per_cpu_s"], "rgb_and_depth_per_cpu_s": both["median_per_cpu_s"]}


def measure_policy(name: str, config: SpeedConfig) -> dict[str, float]:
    """Latency of single policy steps, as the policy node makes them, in µs."""
    policy = policies.load(name)
    policy.reset()
    zero = np.zeros(3)
    state = QuadrotorState(zero, np.array([1.0, 0.0, 0.0, 0.0]), zero, zero)
    setpoint = QuadrotorSetpoint(zero, zero, zero, np.zeros(()))
    durations = []
    for _ in range(config.inferences):
        begin = time.perf_counter()
        policy.step(state, setpoint)
        durations.append(1e6 * (time.perf_counter() - begin))
    p50, p99 = np.percentile(durations, [50, 99])
    return {"p50_us": float(p50), "p99_us": float(p99), "max_us": float(max(durations))}


def run(config: SpeedConfig) -> dict[str, Any]:
    """Measure everything."""
    results: dict[str, Any] = {}

    def note(name: str, values: dict[str, float]) -> None:
        results[name] = values
        print(f"{name}: " + ", ".join(f"{key} {value:,.3g}" for key, value in values.items()), flush=True)

    for task in ("quadrotor-hover", "arm-reach", "arm-push", "arm-pick-lift"):
        note(f"environment {task}", measure_environment(task, config))
    note(f"{config.num_arms} arms", measure_arms(config.num_arms, config))
    note("1 arm", measure_arms(1, config))
    try:
        note("cameras", measure_cameras(config))
    except RuntimeError as error:  # no GL library: the sentence names the packages
        print(f"cameras: left out: {error}")
    for name in ("quadrotor-hover", "quadrotor-track"):
        note(f"policy {name}", measure_policy(name, config))
    return results


def _rates(work: Callable[[], None], count: int, repeats: int) -> dict[str, float]:
    """Repeat `work`, which does `count` things, after one run that is not counted."""
    work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "best_per_s": count / min(walls),
        "median_per_s": count / statistics.median(walls),
        "median_per_cpu_s": count / statistics.median(cpus),
    }
