"""Policy bundles on disk: writing one, checking one, finding one by name.

A bundle is a folder of four files: `manifest.json`, `policy.onnx`, `vectors.npz`, `card.md`. Reading
it runs no code from it: JSON against a schema, ONNX in onnxruntime, arrays without pickled objects.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import zipfile
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime

from policies import actions, manifest, observations
from policies.manifest import Manifest
from policies.types import RobotInterface
from policies.writing import whole_folder

ZOO = Path(__file__).parent / "zoo"
"""Bundles that ship with the package."""
MAX_FILE_BYTES = 512 * 1024 * 1024
"""A larger file in a bundle is refused before it is read."""
MIN_VECTORS = 64
"""Fewest stored observations with expected actions."""
ACTION_TOLERANCE = 1e-5
"""Largest difference of a normalized action to the stored one."""
_PLURAL = {"action": "actions", "next_memory": "memories"}


class BundleError(ValueError):
    """A bundle cannot be used; the message says why in one sentence."""


def list_zoo() -> list[str]:
    """Names of the bundles that ship with the package."""
    return sorted(path.parent.name for path in ZOO.glob("*/manifest.json"))


def find_bundle(path_or_name: str | Path) -> Path:
    """Folder of a bundle, by path or by zoo name.

    Raises:
        BundleError: There is none, with the nearest name.
    """
    for path in (Path(path_or_name), ZOO / str(path_or_name)):
        if (path / "manifest.json").is_file():
            return path
    if Path(path_or_name).is_dir():
        raise BundleError(f"{path_or_name} is no policy bundle: it has no manifest.json")
    near = get_close_matches(str(path_or_name), list_zoo(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"shipped bundles: {', '.join(list_zoo()) or 'none'}"
    raise BundleError(f"no policy bundle {str(path_or_name)!r}; {hint}")


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a network on one CPU thread: small networks lose time to more."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def write_bundle(
    folder: str | Path,
    contents: Manifest,
    network: bytes,
    inputs: np.ndarray,
    expected: np.ndarray,
    card: str,
    images: Mapping[str, np.ndarray] | None = None,
    state: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a bundle and check it; an existing bundle of that name is replaced whole or not at all.

    Args:
        folder: Where the bundle shall be.
        contents: The manifest; its `files` are filled in here.
        network: The ONNX model.
        inputs: Shape (K, D) float32, observations to store, K ≥ 64.
        expected: Shape (K, H, A) float32, the actions of the network that was trained.
        card: Text of `card.md`.
        images: Shape (K, H, W, 3) uint8 by camera, pictures to store beside the observations; the cameras are those of
            the manifest.
        state: Of a network with memory or noise: `memory` (K, M), `noise` (K, L), `next_memory` (K, M), float32.

    Raises:
        BundleError: What was written does not pass `check_bundle`, or `folder` holds something else.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "manifest.json").is_file()):
        raise BundleError(f"{folder} exists and is no policy bundle; it is not overwritten: give another path")
    with whole_folder(folder) as fresh:
        (fresh / "policy.onnx").write_bytes(network)
        pictures: dict[str, Any] = {f"image_{camera}": stored for camera, stored in (images or {}).items()}
        np.savez_compressed(
            fresh / "vectors.npz", observation=inputs, action=expected, **pictures, **dict[str, Any](state or {})
        )
        (fresh / "card.md").write_text(card)
        files = {p.name: _sha256(p) for p in sorted(fresh.iterdir())}
        contents = dataclasses.replace(contents, files=files)
        (fresh / "manifest.json").write_text(manifest.to_json(contents))
        if violations := check_bundle(fresh):
            raise BundleError(f"the bundle for {folder} would be broken: " + "; ".join(violations))
    return folder


def check_bundle(path_or_name: str | Path, robot: RobotInterface | None = None) -> list[str]:
    """Every violation of a bundle, in words; empty where it is sound.

    With `robot`, also every way in which the robot does not fit.
    """
    try:
        folder = find_bundle(path_or_name)
    except BundleError as error:
        return [str(error)]
    path = folder / "manifest.json"
    if path.stat().st_size > MAX_FILE_BYTES:
        return [f"manifest.json is larger than {MAX_FILE_BYTES} bytes"]
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return [f"manifest.json is not JSON: {error}"]
    if isinstance(data, dict) and data.get("schema_version") != manifest.SCHEMA_VERSION:
        return [
            f"manifest.json has schema version {data.get('schema_version')!r}; this version of robot_rl reads "
            f"{manifest.SCHEMA_VERSION}: export the policy again"
        ]
    if violations := manifest.schema_violations(data):
        return violations
    contents = manifest.from_json(data)
    violations = _file_violations(folder, contents)
    violations += _term_violations(contents)
    if robot is not None:
        violations += robot_violations(contents, robot)
    if not violations:
        violations += _network_violations(folder, contents)
    return violations


def read_manifest(path_or_name: str | Path, robot: RobotInterface | None = None) -> tuple[Path, Manifest]:
    """Folder and manifest of a bundle that passes `check_bundle`.

    Raises:
        BundleError: It does not pass, with every reason.
    """
    if violations := check_bundle(path_or_name, robot):
        raise BundleError(f"policy {str(path_or_name)!r} is refused: " + "; ".join(violations))
    folder = find_bundle(path_or_name)
    return folder, manifest.from_json(json.loads((folder / "manifest.json").read_text()))


def robot_violations(contents: Manifest, robot: RobotInterface) -> list[str]:
    """Every way in which a robot does not fit a manifest."""
    need = contents.robot
    if need.kind != robot.kind:
        return [f"the policy is for a robot of kind {need.kind!r}, but {robot.name!r} is of kind {robot.kind!r}"]
    problems = [
        f"robot {robot.name!r} has no actuator {name!r}; it has {', '.join(robot.actuators)}"
        for name in need.actuators
        if name not in robot.actuators
    ]
    if not problems and need.actuators != robot.actuators:
        problems.append(f"actuator order is {need.actuators} in the policy and {robot.actuators} on {robot.name!r}")
    problems += [
        f"robot {robot.name!r} does not measure {signal!r}, which the observation reads"
        for signal in need.signals
        if signal not in robot.signals
    ]
    if need.command not in robot.commands:
        problems.append(
            f"robot {robot.name!r} does not take the command {need.command!r}; it takes {', '.join(robot.commands)}"
        )
    if contents.control_rate_hz > robot.command_rate_hz:
        problems.append(
            f"the policy runs at {contents.control_rate_hz:g} Hz, but {robot.name!r} takes commands at most at "
            f"{robot.command_rate_hz:g} Hz"
        )
    return problems


def _file_violations(folder: Path, contents: Manifest) -> list[str]:
    problems = []
    for name, checksum in contents.files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            problems.append(f"{name} is missing or is not a plain file")
        elif path.stat().st_size > MAX_FILE_BYTES:
            problems.append(f"{name} is larger than {MAX_FILE_BYTES} bytes")
        elif _sha256(path) != checksum:
            problems.append(f"{name} does not have the checksum of the manifest: it was changed or cut off")
    known = {"manifest.json", *contents.files}
    problems += [f"{p.name} is not listed in the manifest" for p in sorted(folder.iterdir()) if p.name not in known]
    return problems


def _term_violations(contents: Manifest) -> list[str]:
    problems = []
    for term in contents.observation:
        try:
            signature = inspect.signature(observations.find_term(term).function)
            signature.bind(None, None, {}, period=1.0, **term.parameters)
        except (ValueError, TypeError) as error:
            problems.append(f"observation term {term.name!r}: {error}")
    if not problems:
        problems += _observation_violations(contents)
    try:
        size = actions.action_size(contents.action)
        if size != contents.action_size:
            problems.append(f"action_size is {contents.action_size}, but {contents.action.name} has {size}")
        actions.to_command(contents.action, np.zeros(size))
    except (ValueError, TypeError) as error:
        problems.append(f"action: {error}")
    if contents.action.name != contents.robot.command:
        problems.append(f"action is {contents.action.name!r}, but robot.command is {contents.robot.command!r}")
    return problems


def _observation_violations(contents: Manifest) -> list[str]:
    """What sizes, memory and signals of known terms with the right parameters say against the manifest."""
    problems = []
    size = observations.observation_size(contents.observation)
    if size != contents.observation_size:
        problems.append(f"observation_size is {contents.observation_size}, but the terms make {size}")
    if observations.memory_specs(contents.observation) != dict(contents.memory):
        problems.append("memory does not match what the observation terms keep")
    needed = observations.needed_signals(contents.observation)
    if missing := sorted(set(needed) - set(contents.robot.signals)):
        problems.append(f"robot.signals lacks {', '.join(missing)}, which the terms read")
    if contents.images and "images" not in contents.robot.signals:
        problems.append(f"robot.signals lacks images, but the network sees {', '.join(contents.images)}")
    return problems


def _network_violations(folder: Path, contents: Manifest) -> list[str]:
    names = [*contents.execution.inputs(), *contents.execution.outputs()]
    names += [f"image_{camera}" for camera in contents.images]
    try:
        with np.load(folder / "vectors.npz", allow_pickle=False) as stored:
            vectors = {name: stored[name] for name in names}
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        return [f"vectors.npz cannot be read: {error}"]
    if problem := _vector_violation(vectors, contents):
        return [problem]
    try:
        session = open_session(folder / "policy.onnx")
    except Exception as error:  # onnxruntime's errors have no common base class
        return [f"policy.onnx cannot be loaded: {error}"]
    outputs = contents.execution.outputs()
    inputs = {name: vectors[name] for name in names if name not in outputs}
    given = {i.name for i in session.get_inputs()}
    made = tuple(o.name for o in session.get_outputs())
    if given != set(inputs) or made != outputs:
        return [
            f"policy.onnx has inputs {sorted(given)} and outputs {list(made)}; "
            f"expected {_quoted(sorted(inputs, reverse=True))} in and {_quoted(outputs)} out"
        ]
    typed = {name: v if name.startswith("image_") else v.astype(np.float32) for name, v in inputs.items()}
    try:
        results = dict(zip(outputs, session.run(list(outputs), typed), strict=True))
    except Exception as error:  # likewise
        return [f"policy.onnx does not run on its stored observations: {error}"]
    return _result_violations(results, vectors, contents)


def _vector_violation(vectors: Mapping[str, np.ndarray], contents: Manifest) -> str:
    """What is wrong with the shapes and types of the stored vectors; empty where nothing is."""
    inputs, expected = vectors["observation"], vectors["action"]
    if inputs.dtype.kind != "f" or expected.dtype.kind != "f":
        return f"vectors.npz: observation is {inputs.dtype} and action is {expected.dtype}; expected float32"
    if inputs.ndim != 2 or len(inputs) < MIN_VECTORS or inputs.shape[1] != contents.observation_size:
        return (
            f"vectors.npz: observation has shape {inputs.shape}, expected (≥ {MIN_VECTORS}, "
            f"{contents.observation_size})"
        )
    length = contents.execution.memory_length(contents.observation_size)
    sizes = {"memory": length, "next_memory": length, "noise": contents.execution.noise_size}
    for name in sizes.keys() & vectors.keys():
        found, wanted = vectors[name], (len(inputs), sizes[name])
        if found.dtype.kind != "f" or found.shape != wanted:
            return f"vectors.npz: {name} is {found.dtype} of shape {found.shape}; expected float32 {wanted}"
    for camera, shape in contents.images.items():
        picture, whole = vectors[f"image_{camera}"], (len(inputs), *shape, 3)
        if picture.dtype != np.uint8 or picture.shape != whole:
            return f"vectors.npz: image_{camera} is {picture.dtype} of shape {picture.shape}; expected uint8 {whole}"
    return ""


def _result_violations(
    results: Mapping[str, np.ndarray], vectors: Mapping[str, np.ndarray], contents: Manifest
) -> list[str]:
    """What the network makes of the stored inputs against what it made of them when it was written."""
    action, expected, horizon = results["action"], vectors["action"], contents.execution.horizon
    if action.ndim != 3 or action.shape[2] != contents.action_size or action.shape != expected.shape:
        return [
            f"policy.onnx gives {action.shape}, stored are {expected.shape}; expected (K, H, {contents.action_size})"
        ]
    if action.shape[1] != horizon:
        return [f"policy.onnx gives chunks of {action.shape[1]} actions; execution.horizon is {horizon}"]
    problems = []
    for name, result in results.items():
        if result.shape != vectors[name].shape:
            return [f"policy.onnx gives {name} of shape {result.shape}; stored is {vectors[name].shape}"]
        if not np.all(np.isfinite(result)):
            return [f"policy.onnx gives non-finite {_PLURAL[name]}: its weights are broken"]
        worst = float(np.abs(result - vectors[name]).max())
        if not worst <= ACTION_TOLERANCE:
            problems.append(
                f"policy.onnx differs from its stored {_PLURAL[name]} by {worst:.2g}, more than {ACTION_TOLERANCE:g}"
            )
    if np.abs(action).max() > 1.0 + 1e-6:
        problems.insert(0, f"policy.onnx gives an action of {np.abs(action).max():.3g}, outside [-1, 1]")
    return problems


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number, and as a limit it would never act")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe(contents: Manifest) -> dict[str, Any]:
    """The few facts of a manifest that a list shows."""
    keys = ("crash_rate", "steady_rmse_m", "tracking_rmse_m", "success_rate")
    scores = {key: contents.evaluation[key] for key in keys if contents.evaluation.get(key) is not None}
    return {"name": contents.name, "task": contents.task, "robot": contents.robot.name, **scores}
