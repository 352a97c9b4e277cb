"""Files that say what a device's axes, keys or servos mean: reading one, and finding it by name or path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

Built = TypeVar("Built")


def read_file(what: str, path: Path, build: Callable[[str, Any], Built]) -> Built:
    """What `build` makes of a file's name, without its ending, and of its contents.

    Raises:
        ValueError: It cannot be read, or `build` refuses it; names the file, and `what` it should be.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the {what} {path}: {error}") from error
    try:
        return build(path.stem, data)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{what} {path}: {error}") from error


def shipped_or_own(what: str, name: str, folder: Path) -> Path:
    """The file in `folder` of that name, or the one whose path it is.

    Raises:
        ValueError: There is none; names those that ship.
    """
    shipped = sorted(path.stem for path in folder.glob("*.yaml"))
    if name in shipped:
        return folder / f"{name}.yaml"
    if not Path(name).is_file():
        raise ValueError(f"{what} {name!r} is neither a file nor one of {', '.join(shipped)}")
    return Path(name)
