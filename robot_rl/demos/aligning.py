"""`robot-rl demos align`: recordings that have streams only become data sets with control steps.

All streams are kept beside the steps. `robot_rl.recording.align` says how streams are brought to one rate; a row for
which data are missing is left out, and splits the episode there.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from policies.writing import whole_folder
from robot_rl.demos.configs import AlignConfig
from robot_rl.demos.copying import check_out, copy_part, file_name
from robot_rl.demos.dataset import Demonstration
from robot_rl.errors import UserError, unknown_name
from robot_rl.recording import Column, load_recording
from robot_rl.recording.mapping import EpisodeMapping, mapped_episodes

_LEAST_STEPS = 2
"""Shorter pieces are left out."""


def run(config: AlignConfig) -> int:
    """Write the data set, whole or not at all."""
    check_out(config.out, config.path)
    mapping = load_mapping(config.mapping)
    files = sorted(config.path.rglob("*.mcap")) if config.path.is_dir() else [config.path]
    problems: list[str] = []
    found: list[Demonstration] = []
    for file in files:
        try:
            recording = load_recording(file)
            episodes = list(mapped_episodes(recording, mapping, problems))
        except UserError as error:
            problems.append(str(error))
            continue
        pieces = [episode for episode in episodes if len(episode) >= _LEAST_STEPS]
        found += [Demonstration(name=file.name, episode=one, recording=None, beside=recording) for one in pieces]
    if not found:
        why = problems[0] if problems else f"there are no *.mcap at {config.path}"
        raise UserError(f"nothing could be aligned: {why}")
    with whole_folder(config.out) as fresh:
        for number, one in enumerate(found):
            copy_part(fresh / file_name(number), one, 0, len(one.episode))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    steps = sum(len(one.episode) for one in found)
    sys.stdout.write(f"{config.out}: {len(found)} episodes, {steps} steps of {len(files)} recordings\n")
    return 0


def load_mapping(path: Path) -> EpisodeMapping:
    """Read a mapping from a YAML file.

    Raises:
        UserError: It is none; the message names the key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the mapping {path}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} holds no mapping; expected keys such as rate, observation and action")
    _check_keys(path, data, EpisodeMapping)
    try:
        return EpisodeMapping(
            rate=float(data["rate"]),
            observation=tuple(_column(path, one) for one in data["observation"]),
            action=tuple(_column(path, one) for one in data["action"]),
            action_low=tuple(float(value) for value in data["action_low"]),
            action_high=tuple(float(value) for value in data["action_high"]),
            cameras={str(name): _column(path, one, "nearest") for name, one in data.get("cameras", {}).items()},
            task=str(data.get("task", "recorded")),
            robot=str(data.get("robot", "recorded")),
        )
    except KeyError as error:
        raise UserError(f"{path} has no {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no mapping: {error}") from error


def _column(path: Path, data: Any, how: str = "hold") -> Column:
    if isinstance(data, str):
        data = {"topic": data}
    if not isinstance(data, Mapping):
        raise UserError(f"{path}: {data!r:.80} is no column; expected a topic, or topic, field, how and limit")
    _check_keys(path, data, Column)
    return Column(**{"how": how, **data})


def _check_keys(path: Path, data: Mapping[str, Any], kind: type) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    for name in data:
        if name not in known:
            raise UserError(f"{path}: {unknown_name('key', str(name), known)}")
