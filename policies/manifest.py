"""`manifest.json`: everything about a policy that its weights do not say.

The dataclasses here are the manifest in Python; `manifest.schema.json` beside them is the same for
any language, and a test holds the two together. `SCHEMA_VERSION` grows when a reader of an older
version would misread a newer file.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema

from policies.actions import ActionConfig
from policies.execution import Execution, execution_violations
from policies.pictures import View
from policies.terms import MemorySpec, TermConfig

SCHEMA_VERSION = 1
"""Version of the manifest that this code writes and reads."""


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """Limits that the supervisor enforces around a policy."""

    geofence: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    """(lower, upper) m of x, y, z in the odometry frame; leaving it ends the flight."""
    max_tilt: float
    """rad; more than this for longer than `tumble_time` is a tumble."""
    tumble_time: float
    """s."""
    max_speed: float
    """m/s that the robot can reach; a pose that jumps further is an outlier."""
    state_age: tuple[float, float, float]
    """Age of the robot's state in s at which it holds or levels, stops or descends, and cuts the motors."""
    command_age_periods: float
    """Age of the policy's output, in control periods, at which the fallback takes over."""
    arm: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further limits of an arm: fields of `hardware.safety.arm_envelope.ArmEnvelope` by name, as JSON data, but for the
    two ages above; those that are absent have their defaults there."""

    rules: tuple[Mapping[str, str], ...] = field(default=(), hash=False)
    """Rules in signal temporal logic for a quadrotor: `name`, `formula`, and `reaction`, `hold` or `brake`; an arm's
    are in `arm`."""

    def of_arm(self) -> dict[str, Any]:
        """All that the bundle says about an arm's limits, as JSON data for `ArmEnvelope`."""
        return {
            **self.arm,
            "state_age": list(self.state_age),
            "command_age_periods": self.command_age_periods,
        }


@dataclass(frozen=True, kw_only=True)
class RobotRequirement:
    """What a robot must be, sense and take to run the policy."""

    name: str
    """Robot that the policy was trained for."""
    kind: str
    """`quadrotor` or `arm`."""
    actuators: tuple[str, ...]
    """Joint or motor names in the order of the policy's action."""
    signals: tuple[str, ...]
    """Fields of the robot's state that the observation reads."""
    command: str
    """Action term that the robot must carry out."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A policy bundle's manifest."""

    schema_version: int
    """`SCHEMA_VERSION` of the writer."""
    name: str
    """Name of the bundle."""
    task: str
    """Task that it was trained on."""
    robot: RobotRequirement
    """What it needs of a robot."""
    control_rate_hz: float
    """Rate at which `step` must be called."""
    observation: tuple[TermConfig, ...]
    """Observation terms, in order."""
    observation_size: int
    """Length D of the network's input."""
    action: ActionConfig
    """Action term and its physical scale."""
    action_size: int
    """Length A of the network's output."""
    memory: Mapping[str, MemorySpec]
    """Memory that the terms keep from step to step."""
    envelope: Envelope
    """Limits for the supervisor."""
    training: Mapping[str, Any]
    """Algorithm, seed, config, randomization, source commit, versions."""
    evaluation: Mapping[str, Any]
    """Metrics of `robot-rl eval`, or empty."""
    files: Mapping[str, str]
    """SHA-256 of every other file of the bundle, by name."""
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """(H, W) pixels of the pictures that the network sees, by camera; its inputs are `image_<camera>`."""
    views: Mapping[str, View] = field(default_factory=dict)
    """What of each camera's picture that is; all of it, resized, for a camera that is not named."""
    execution: Execution = Execution()
    """How the network is run from step to step: chunks, memory, noise."""
    controller: Mapping[str, Any] = field(default_factory=dict)
    """What an arm's controller was set to in training: fields of `hardware.controllers.arm_config.ArmControllerConfig`
    by name, as JSON data; those that are absent have their defaults there."""

    def view(self, camera: str) -> View:
        """What the network sees of a camera's picture."""
        return self.views.get(camera, View())


@lru_cache(maxsize=1)
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((Path(__file__).parent / "manifest.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema)


def schema_violations(data: Any) -> list[str]:
    """Every way in which parsed JSON is not a manifest, each with the field's path."""
    violations = [
        f"manifest.json: {'.'.join(str(p) for p in error.absolute_path) or 'top level'}: {error.message}"
        for error in sorted(_validator().iter_errors(data), key=lambda e: [str(p) for p in e.absolute_path])
    ]
    return violations or [*_view_violations(data), *_execution_violations(data)]


def _execution_violations(data: Mapping[str, Any]) -> list[str]:
    found = execution_violations(_execution(data), data["action_size"])
    return [f"manifest.json: execution: {problem}" for problem in found]


def _execution(data: Mapping[str, Any]) -> Execution:
    given = data.get("execution", {})
    counts = ("horizon", "executed", "history", "memory_size", "noise_size")
    whole = {name: int(given[name]) for name in counts if name in given}  # 1.0 is an integer for JSON
    return Execution(**{**given, **whole, "switches": tuple(int(index) for index in given.get("switches", ()))})


def _view_violations(data: Mapping[str, Any]) -> list[str]:
    violations = []
    for camera, view in data.get("views", {}).items():
        if camera not in data.get("images", {}):
            violations.append(f"manifest.json: views.{camera}: the network sees no picture of that camera")
        try:
            _view(view)
        except ValueError as error:
            violations.append(f"manifest.json: views.{camera}: {error}")
    return violations


def _view(data: Mapping[str, Any]) -> View:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return View(**fields)


def from_json(data: Mapping[str, Any]) -> Manifest:
    """Build a manifest from JSON that has no `schema_violations`."""

    def bounds(values: list[list[float]]) -> Any:
        return tuple(tuple(float(v) for v in pair) for pair in values)

    envelope = {**data["envelope"], "geofence": bounds(data["envelope"]["geofence"])}
    envelope["state_age"] = tuple(float(v) for v in envelope["state_age"])
    envelope["rules"] = tuple(envelope.get("rules", ()))
    robot: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data["robot"].items()}
    memory = {k: MemorySpec(**{**v, "shape": tuple(v["shape"])}) for k, v in data["memory"].items()}
    converted = {
        "robot": RobotRequirement(**robot),
        "observation": tuple(TermConfig(**term) for term in data["observation"]),
        "action": ActionConfig(**data["action"]),
        "memory": memory,
        "envelope": Envelope(**envelope),
        "images": {camera: tuple(shape) for camera, shape in data.get("images", {}).items()},
        "views": {camera: _view(view) for camera, view in data.get("views", {}).items()},
        "execution": _execution(data),
    }
    return Manifest(**{**data, **converted})


def to_json(manifest: Manifest) -> str:
    """The manifest as JSON text; a metric that is not finite becomes null, for which JSON has a word."""
    data = dataclasses.asdict(manifest)
    data.update(training=_without_nan(data["training"]), evaluation=_without_nan(data["evaluation"]))
    if not data["envelope"]["arm"]:
        del data["envelope"]["arm"]  # readers that do not know it can run the policy
    if not data["envelope"]["rules"]:
        del data["envelope"]["rules"]
    if not data["images"]:
        del data["images"]  # readers that know no pictures can run the policy
    if not data["views"]:
        del data["views"]
    if manifest.execution == Execution():
        del data["execution"]
    if not data["controller"]:
        del data["controller"]
    return json.dumps(data, indent=2) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
