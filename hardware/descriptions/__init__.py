"""Robot descriptions: physical facts as data, each with its unit and source."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from hardware.descriptions.arm import ArmDescription, Capsule, GripperDescription
from hardware.descriptions.arm_file import read_arm
from hardware.descriptions.quadrotor import QuadrotorDescription, read_quadrotor

__all__ = [
    "ArmDescription",
    "Capsule",
    "GripperDescription",
    "QuadrotorDescription",
    "list_descriptions",
    "load_arm",
    "load_description",
    "load_quadrotor",
]

_FOLDER = Path(__file__).parent
_KINDS = ("quadrotor", "arm")


def list_descriptions() -> list[str]:
    """Names of the robots that ship with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_description(name_or_path: str | Path) -> QuadrotorDescription | ArmDescription:
    """Read a robot description by name (`crazyflie`, `panda`) or from a YAML file.

    Those that ship with the package are read once per process and shared: nobody may write into their arrays.

    Raises:
        FileNotFoundError: No such robot; the message lists those that exist.
        ValueError: A field is missing, unknown, unphysical or has the wrong shape.
    """
    path = _find(name_or_path, _FOLDER)
    return _load_shipped(path) if path.parent == _FOLDER else _load(path)


def _load(path: Path) -> QuadrotorDescription | ArmDescription:
    try:
        data = _read(path)
        kind = data.get("kind") if isinstance(data, dict) else None
        if kind == "quadrotor":
            return read_quadrotor(data)
        if kind == "arm":
            return read_arm(data, _read_gripper_file(data, path.parent))
        raise ValueError(f"kind is {kind!r}; supported: {', '.join(repr(kind) for kind in _KINDS)}")
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


# Parsing YAML takes 20 ms, and tasks ask for their robot at the start of every episode.
_load_shipped = functools.cache(_load)


def load_arm(name_or_path: str | Path) -> ArmDescription:
    """Read an arm's description by name (`panda`) or from a YAML file.

    Raises:
        FileNotFoundError: No such robot; the message lists those that exist.
        ValueError: The file is wrong, or describes no arm.
    """
    description = load_description(name_or_path)
    if not isinstance(description, ArmDescription):
        raise ValueError(f"{name_or_path} is a {description.interface.kind}; an arm is needed, such as 'panda'")
    return description


def load_quadrotor(name_or_path: str | Path) -> QuadrotorDescription:
    """Read a quadrotor's description by name (`crazyflie`) or from a YAML file.

    Raises:
        FileNotFoundError: No such robot; the message lists those that exist.
        ValueError: The file is wrong, or describes no quadrotor.
    """
    description = load_description(name_or_path)
    if not isinstance(description, QuadrotorDescription):
        raise ValueError(
            f"{name_or_path} is an {description.interface.kind}; a quadrotor is needed, such as 'crazyflie'"
        )
    return description


def _find(name_or_path: str | Path, folder: Path) -> Path:
    """A path with a YAML suffix as it is; a name in `folder`, else among the robots that ship."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = folder / f"{name_or_path}.yaml"
        path = path if path.is_file() else _FOLDER / path.name
    elif not path.is_file():
        path = folder / path
    if not path.is_file():
        raise FileNotFoundError(
            f"no robot description {str(name_or_path)!r}; known robots: {', '.join(list_descriptions())}; "
            "or give the path of a .yaml file"
        )
    return path


def _read(path: Path) -> Any:
    """Content of a file, laid over that of its `base`: a variant states only what differs."""
    data = yaml.safe_load(path.read_text())
    if not (isinstance(data, dict) and "base" in data):
        return data
    name = data.pop("base")
    base = yaml.safe_load(_find(str(name), path.parent).read_text())
    if isinstance(base, dict) and "base" in base:
        raise ValueError(f"base is {name!r}, which is a variant of {base['base']!r} itself; name that one")
    return _merge(base, data)


def _merge(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merge(base[key], value) if key in base else value
    return merged


def _read_gripper_file(data: dict[str, Any], folder: Path) -> Any:
    name = data.get("gripper")
    if name is None:
        return None
    path = folder / str(name)
    if path.suffix not in {".yaml", ".yml"}:
        path = folder / "grippers" / f"{name}.yaml"
        path = path if path.is_file() else _FOLDER / "grippers" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in (_FOLDER / "grippers").glob("*.yaml"))
        raise ValueError(f"no gripper {name!r}; known grippers: {', '.join(known)}; or give the path of a .yaml file")
    return yaml.safe_load(path.read_text())
