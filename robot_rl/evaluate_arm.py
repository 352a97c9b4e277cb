"""Running an arm's policy, or its task's scripted expert, in simulation: success, cycle time, return, cost."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

import policies
from policies.actions import action_size
from policies.types import ArmSetpoint, ArmState
from robot_rl.errors import UserError
from robot_rl.planes.settings import arm_controller
from robot_rl.seeing import Looks, build_seen, seen_by, with_images
from sim.randomization import RandomizationTerm
from sim.tasks.arm import ArmTask

_SIDE_BY_SIDE = {"mujoco": 256, "pybullet": 50}


def as_trained(task: ArmTask, policy: policies.Policy | None) -> ArmTask:
    """The task with actions and controller as a policy's bundle has them: another frame, say, or other gains.

    Raises:
        UserError: The policy moves something else, or its controller has settings that there are not.
    """
    if policy is None:
        return task
    try:
        task = dataclasses.replace(task, controller=arm_controller(policy.manifest, task.controller))
    except ValueError as error:
        raise UserError(str(error)) from error
    if policy.manifest.action == task.action:
        return task
    theirs = policy.manifest.action
    if theirs.name != task.action.name or action_size(theirs) != action_size(task.action):
        raise UserError(
            f"bundle {policy.manifest.name!r} gives {action_size(theirs)} actions {theirs.name!r}; task {task.name!r} "
            f"takes {action_size(task.action)} of {task.action.name!r}"
        )
    return dataclasses.replace(task, action=theirs)


@torch.no_grad()
def run_arm(
    policy: policies.Policy | None,
    task: ArmTask,
    terms: tuple[RandomizationTerm, ...],
    episodes: int,
    seed: int,
    engine: str,
) -> dict[str, Any]:
    """Metrics over so many first episodes; the same seed gives the same starts in every engine.

    Args:
        policy: The policy; None is the task's expert.
        task: What is to be done.
        terms: Its randomization.
        episodes: How many.
        seed: Of starts, robots and noise.
        engine: `mujoco` or `pybullet`.
    """
    parts: list[dict[str, Tensor]] = []
    size = min(_SIDE_BY_SIDE.get(engine, 256), episodes)
    for number, first in enumerate(range(0, episodes, size)):
        # Batches of one size for both engines' sake: the draws depend on it.
        parts.append(_run_batch(policy, task, terms, size, seed + 1000 * number, engine))
        if first + size >= episodes:
            break
    merged = {name: torch.cat([part[name] for part in parts])[:episodes] for name in parts[0]}
    success = merged["success"]
    cycle = merged["cycle_time"][success]
    result: dict[str, Any] = {
        "success_rate": float(success.float().mean()),
        "successes": int(success.sum()),
        "failure_rate": float(merged["failed"].float().mean()),
        "cycle_time_s": float(cycle.mean()) if len(cycle) else None,
        "episode_return": float(merged["return"].mean()),
    }
    if policy is not None and policy.manifest.images:
        result["looks"] = looks_of(policy)
    if "cost" in merged:
        result["constraint_cost"] = float(merged["cost"].mean())
        result["constraint_limit"] = task.cost_limit
    return result


def _run_batch(
    policy: policies.Policy | None,
    task: ArmTask,
    terms: tuple[RandomizationTerm, ...],
    count: int,
    seed: int,
    engine: str,
) -> dict[str, Tensor]:
    """One episode in each of `count` environments: what became of it."""
    shapes = {} if policy is None else policy.manifest.images
    env = build_seen(
        seen_by(task, shapes),
        count,
        cameras=tuple(shapes),
        looks=looks_of(policy),
        seed=seed,
        randomization=terms,
        engine=engine,
    )
    images = env.reset()["images"] if shapes else {}
    if policy is not None:
        policy.reset()
    over = torch.zeros(count, dtype=torch.bool)
    results = {
        "success": torch.zeros(count, dtype=torch.bool),
        "failed": torch.zeros(count, dtype=torch.bool),
        "cycle_time": torch.full((count,), torch.nan),
        "return": torch.zeros(count),
    }
    for k in range(env.max_episode_length):
        action = act(policy, task, with_images(env.measured, images), env.setpoint)
        observed, reward, reset, extras = env.step(action)
        images = observed.get("images", {})
        results["return"] += torch.where(over, 0.0, reward)
        if "cost" in extras:
            results["cost"] = results.get("cost", torch.zeros(count)) + torch.where(over, 0.0, extras["cost"])
        now = reset & ~over
        results["success"] |= now & extras["success"]
        results["failed"] |= now & ~extras["success"] & ~extras["time_outs"]
        results["cycle_time"] = torch.where(now, (k + 1) * env.period, results["cycle_time"])
        over |= reset
        if bool(over.all()):
            break
    env.close()
    return results


def looks_of(policy: policies.Policy | None) -> Looks:
    """What the cameras of a policy are used to: those of its own laboratory, or of any."""
    told = None if policy is None else policy.manifest.training.get("looks")
    return next((looks for looks in get_args(Looks) if looks == told), "varied")


def act(policy: policies.Policy | None, task: ArmTask, state: Any, setpoint: ArmSetpoint) -> Tensor:
    """Normalized action (N, A) of a policy through the runtime, or of the task's expert."""
    if policy is None:
        action: Tensor = task.expert(state, setpoint).float()
        return action
    numpy_state = {k: _numpy(v) for k, v in state.items()} if isinstance(state, dict) else _numpy(state)
    policy.step(numpy_state, _numpy(setpoint))
    assert policy.last_action is not None
    return torch.from_numpy(np.ascontiguousarray(policy.last_action))


def _numpy(record: ArmState | ArmSetpoint) -> Any:
    """A state or set-point of tensors as the same of numpy arrays."""

    def convert(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.numpy()
        return {k: convert(v) for k, v in value.items()} if isinstance(value, dict) else value

    return type(record)(**{f.name: convert(getattr(record, f.name)) for f in dataclasses.fields(record)})
