"""`check_vec_env`: does a batched environment keep the contract? For tests and for who writes one.

The contract: `reset(seed=None) → obs` begins episodes everywhere;
`step(actions) → (obs, reward, reset, extras)`; tensors are float32 or flags on `env.device`, finite and the
caller's own; the auto-reset is that of `NEXT_STEP`; `extras["time_outs"]` tells time limits from failures;
a seed reproduces a run bit by bit.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

_SIZES = ("num_envs", "num_obs", "num_states", "num_actions", "max_episode_length")
_OTHERS = ("device", "period", "observation_space", "action_space", "metadata")
_BEYOND = 20
"""Steps after the first auto-reset that runs are compared over."""


def check_vec_env(env: Any, *, steps: int | None = None, seed: int = 0) -> list[str]:
    """Every violation of the contract, in words; empty where there is none.

    Args:
        env: The environment; it is reset several times.
        steps: Length of the longest run; an episode and a bit by default.
        seed: Of the runs.
    """
    missing = [name for name in (*_SIZES, *_OTHERS, "reset", "step") if not hasattr(env, name)]
    if missing:
        return [f"it has no {name!r}" for name in missing]
    problems = _attribute_problems(env)
    if problems:
        return problems
    length = env.max_episode_length + 8 if steps is None else steps
    actions = _random_actions(env, length, seed)
    try:
        reference, found = _run(env, actions, seed)
        problems += found
        if problems:
            return problems  # what follows compares runs, which says little about a broken one
        # Comparisons only need to reach past the first auto-reset.
        first_reset = next((i for i, row in enumerate(reference) if bool(row["reset"].any())), 0)
        cut = min(len(reference), first_reset + _BEYOND)
        problems += _difference_problems(env, actions[:cut], seed, reference[:cut])
        problems += _reset_problems(env, seed)
        problems += _refusal_problems(env)
    except Exception as error:  # a checker reports, whatever happens
        problems.append(f"a call fails: {type(error).__name__}: {error}")
    return problems


def _attribute_problems(env: Any) -> list[str]:
    problems = []
    for name in _SIZES:
        value, least = getattr(env, name), 0 if name == "num_states" else 1
        if not isinstance(value, int) or value < least:
            problems.append(f"{name} is {value!r}; expected an int of at least {least}")
    if problems:
        return problems
    for name, size in (("observation_space", env.num_obs), ("action_space", env.num_actions)):
        shape = getattr(env, name).shape
        if shape != (size,):
            problems.append(f"{name} has shape {shape}; expected ({size},), that of one environment")
    if env.action_space.shape and not ((env.action_space.low == -1.0).all() and (env.action_space.high == 1.0).all()):
        problems.append("action_space is not [-1, 1]")
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.NEXT_STEP:
        problems.append(f"metadata['autoreset_mode'] is {mode}; expected NEXT_STEP")
    if not env.period > 0.0:
        problems.append(f"period is {env.period}; expected a positive number of seconds")
    return problems


def _random_actions(env: Any, length: int, seed: int) -> Tensor:
    """Actions (length, N, A), partly outside [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (length, env.num_envs, env.num_actions)
    return (2.4 * torch.rand(shape, generator=generator) - 1.2).to(env.device)


def _run(env: Any, actions: Tensor, seed: int) -> tuple[list[dict[str, Tensor]], list[str]]:
    """Copies of everything that came back at each step, and what was wrong with it."""
    record = []
    problems: dict[str, None] = {}
    observations = env.reset(seed=seed)
    problems.update(dict.fromkeys(_observation_problems(env, observations, "reset")))
    if problems:
        return [], list(problems)
    age = torch.zeros(env.num_envs, dtype=torch.int64, device=env.device)
    ended = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    endings = 0
    for action in actions:
        given = action.clone()
        kept = {name: (value, value.clone()) for name, value in observations.items()}
        result = env.step(action)
        if not isinstance(result, tuple) or len(result) != 4:
            return [], ["step returns something else than (obs, reward, reset, extras)"]
        observations, reward, reset, extras = result
        found = _observation_problems(env, observations, "step")
        found += _flag_problems(env, reward, reset, extras)
        if found:
            return [], list(dict.fromkeys([*problems, *found]))
        if not torch.equal(action, given):
            problems["step writes into the actions that it is given"] = None
        for name, (now, before) in kept.items():
            if not torch.equal(now, before):
                problems[f"obs[{name!r}] of the last step has changed: return fresh tensors"] = None
        late = extras["time_outs"]
        age = torch.where(ended, 0, age + 1)
        if bool((ended & reset).any()):
            problems["reset is true on the first observation of an episode: not NEXT_STEP"] = None
        if bool((ended & (reward != 0)).any()):
            problems["reward is not 0 in the step that only begins an episode"] = None
        if bool((late & ~reset).any()):
            problems["time_outs is true where reset is false"] = None
        if bool((late & (age != env.max_episode_length)).any()):
            early = int(age[late].min())
            problems[f"a time-out at age {early}; max_episode_length is {env.max_episode_length}"] = None
        if bool(((age >= env.max_episode_length) & ~reset).any()):
            problems[f"an episode goes on after max_episode_length {env.max_episode_length} steps"] = None
        ended = reset.clone()
        endings += int(reset.sum())
        record.append(
            {"reward": reward.clone(), "reset": reset.clone(), "late": late.clone()}
            | {name: value.clone() for name, value in observations.items()}
        )
    if endings == 0 and len(actions) > env.max_episode_length:
        problems[f"no episode ended within {len(actions)} steps"] = None
    return record, list(problems)


def _observation_problems(env: Any, observations: Any, origin: str) -> list[str]:
    if not isinstance(observations, dict) or "obs" not in observations:
        return [f"{origin} returns no dict with 'obs'"]
    problems = []
    if (env.num_states > 0) != ("states" in observations):
        problems.append(f"{origin}: num_states is {env.num_states}, but the keys are {sorted(observations)}")
    for name, size in (("obs", env.num_obs), ("states", env.num_states)):
        if name in observations:
            problems += _tensor_problems(
                f"{origin}: {name}", observations[name], (env.num_envs, size), torch.float32, env.device
            )
    return problems


def _flag_problems(env: Any, reward: Any, reset: Any, extras: Any) -> list[str]:
    problems = _tensor_problems("reward", reward, (env.num_envs,), torch.float32, env.device)
    problems += _tensor_problems("reset", reset, (env.num_envs,), torch.bool, env.device)
    if not isinstance(extras, dict) or "time_outs" not in extras:
        return [*problems, "extras has no 'time_outs'"]
    return problems + _tensor_problems(
        "extras['time_outs']", extras["time_outs"], (env.num_envs,), torch.bool, env.device
    )


def _tensor_problems(
    name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> list[str]:
    if not isinstance(value, Tensor):
        return [f"{name} is a {type(value).__name__}; expected a torch.Tensor"]
    problems = []
    if value.shape != shape:
        problems.append(f"{name} has shape {tuple(value.shape)}; expected {shape}")
    if value.dtype != dtype:
        problems.append(f"{name} is {value.dtype}; expected {dtype}")
    if value.device.type != torch.device(device).type:
        problems.append(f"{name} is on {value.device}; expected {device}")
    if value.requires_grad:
        problems.append(f"{name} requires gradients")
    if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
        problems.append(f"{name} is not finite")
    return problems


def _difference_problems(env: Any, actions: Tensor, seed: int, reference: list[dict[str, Tensor]]) -> list[str]:
    """Compare the reference run with others that must, or must not, be equal to it."""
    problems = []
    again, _ = _run(env, actions, seed)
    if where := _first_difference(reference, again):
        problems.append(f"two runs with seed {seed} differ: {where}")
    other, _ = _run(env, actions, seed + 1)
    if not _first_difference(reference[:1], other[:1]):
        problems.append(f"seeds {seed} and {seed + 1} give the same first step")
    clipped, _ = _run(env, actions.clamp(-1.0, 1.0), seed)
    if where := _first_difference(reference, clipped):
        problems.append(f"actions outside [-1, 1] are not clipped: {where}")
    ignored = actions.clone()
    for number, row in enumerate(reference[:-1]):
        ignored[number + 1, row["reset"]] *= -1.0
    unaware, _ = _run(env, ignored, seed)
    if where := _first_difference(reference, unaware):
        problems.append(f"the action of the step that begins an episode is not ignored: {where}")
    if where := _first_difference(reference, _spoiling_run(env, actions, seed)):
        problems.append(f"writing into what step returned changes the environment: {where}")
    return problems


def _spoiling_run(env: Any, actions: Tensor, seed: int) -> list[dict[str, Tensor]]:
    """A run in which every returned tensor is overwritten as soon as it is copied."""
    record = []
    for value in env.reset(seed=seed).values():
        value.fill_(torch.nan)
    for action in actions:
        observations, reward, reset, extras = env.step(action)
        parts = {"reward": reward, "reset": reset, "late": extras["time_outs"], **observations}
        record.append({name: value.clone() for name, value in parts.items()})
        for value in parts.values():
            value.fill_(True if value.dtype == torch.bool else torch.nan)
    return record


def _reset_problems(env: Any, seed: int) -> list[str]:
    """`reset` begins episodes at once, and the first action after it acts."""
    problems = []
    after = []
    for value in (-1.0, 1.0):
        env.reset(seed=seed)
        action = torch.full((env.num_envs, env.num_actions), value, device=env.device)
        for _ in range(2):  # a latency may hold the first action back
            observations, _, reset, _ = env.step(action)
        after.append((observations["obs"], reset))
    same = (after[0][0] == after[1][0]).all(-1) & ~after[0][1]
    if bool(same.any()):
        problems.append(f"the first actions after reset have no effect in {int(same.sum())} environments")
    env.reset(seed=seed)
    action = torch.zeros(env.num_envs, env.num_actions, device=env.device)
    for _ in range(min(3, env.max_episode_length - 1)):
        env.step(action)
    env.reset()
    ended = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    for _ in range(env.max_episode_length - 1):
        _, _, reset, extras = env.step(action)
        if bool((extras["time_outs"] & ~ended).any()):
            problems.append("reset does not begin episodes: one timed out too early after it")
            break
        ended |= reset
    return problems


def _refusal_problems(env: Any) -> list[str]:
    wrong = torch.zeros(env.num_envs, env.num_actions + 1, device=env.device)
    env.reset()
    try:
        env.step(wrong)
    except ValueError:
        return []
    except Exception as error:
        return [f"actions of a wrong shape raise {type(error).__name__}; expected a ValueError"]
    return [f"step takes actions of the wrong shape {tuple(wrong.shape)}"]


def _first_difference(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]]) -> str:
    """Where two records differ first, empty where they do not."""
    for number, (x, y) in enumerate(zip(a, b, strict=True)):
        for name in x:
            if not torch.equal(x[name], y[name]):
                return f"{name} at step {number}"
    return ""
