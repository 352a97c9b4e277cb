"""A reward on disk: a network and what is to be known about it. Reading runs no code from it: JSON and ONNX.

<name>/reward.json   kind, cameras, thresholds, report; SHA-256 of the network and of itself
       reward.onnx   inputs image_<camera> (N, h, w, 3) uint8
       encoder.safetensors   the encoder's weights, to begin another training with; not needed to run it
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from policies.bundle import open_session
from policies.writing import whole_folder
from robot_rl.errors import UserError
from robot_rl.hil.shrink import shrink

VERSION = 1
"""Of the form; a reader refuses others."""


def write_reward(folder: Path, kind: str, contents: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """Write a reward; one that is there is replaced whole or not at all.

    Args:
        folder: Where.
        kind: `success` or `progress`.
        contents: JSON-able; what is not finite becomes null.
        files: By name; `reward.onnx` among them.

    Raises:
        UserError: `folder` holds something else.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "reward.json").is_file() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and holds no reward; it is not overwritten: give another path")
    with whole_folder(folder) as fresh:
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        data = _plain({
            **contents, "version": VERSION, "kind": kind,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        })  # fmt: skip
        (fresh / "reward.json").write_text(json.dumps({**data, "checksum": _checksum(data)}, indent=2) + "\n")
    return folder


def read_reward(folder: Path, kind: str) -> tuple[dict[str, Any], onnxruntime.InferenceSession]:
    """Contents and network of a reward.

    Raises:
        UserError: There is none, it is of another kind or version, or a file was changed.
    """
    data = read_contents(folder)
    if data["kind"] != kind:
        raise UserError(f"{folder} is a reward of kind {data['kind']!r}; expected {kind!r}")
    try:
        return data, open_session(Path(folder) / "reward.onnx")
    except Exception as error:  # onnxruntime's errors have no common base class
        raise UserError(f"{folder}/reward.onnx cannot be loaded: {error}") from error


def read_contents(folder: Path) -> dict[str, Any]:
    """What `reward.json` says, after every checksum.

    Raises:
        UserError: As `read_reward`.
    """
    folder = Path(folder)
    path = folder / "reward.json"
    if not path.is_file():
        raise UserError(f"{folder} is no reward: it has no reward.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise UserError(f"{path} is no reward of version {VERSION}: train it again")
    if _checksum({key: value for key, value in data.items() if key != "checksum"}) != data.get("checksum"):
        raise UserError(f"{path} does not have its checksum: it was changed or cut off")
    for name, checksum in data["files"].items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
            raise UserError(f"{file} is missing or does not have the checksum of reward.json")
    return data


def prepare(images: Mapping[str, NDArray[np.uint8]], shapes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """The network's inputs from pictures (N, H, W, 3) uint8 by camera, shrunk to `shapes`.

    Raises:
        ValueError: A camera is missing or its pictures are smaller.
    """
    inputs = {}
    for camera, shape in shapes.items():
        if camera not in images:
            raise ValueError(f"no picture of camera {camera!r}; given are {', '.join(images) or 'none'}")
        inputs[f"image_{camera}"] = shrink(np.asarray(images[camera]), shape)
    return inputs


def _checksum(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON has no word for what is not finite, and tuples come back as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
