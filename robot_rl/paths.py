"""Where files that are no Python live: in the checkout, else in the installed share folder."""

from __future__ import annotations

import os
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def share_folders() -> list[Path]:
    """Folders that may hold `config/` and `launch/`, best first.

    The checkout, if this file is in one; then `share/robot_rl` of every prefix above this file
    (virtual environment, user or target folder, colcon's install folder); then of `AMENT_PREFIX_PATH`.
    """
    prefixes = [*_HERE.parents, *map(Path, filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":")))]
    checkout = [_HERE.parent] if (_HERE.parent / "package.xml").is_file() else []
    return checkout + [prefix / "share" / "robot_rl" for prefix in prefixes]


def find_shared(relative: str) -> Path:
    """The first existing file or folder `relative`, e.g. `config/quadrotor.yaml`, in `share_folders`.

    Raises:
        FileNotFoundError: There is none; the message says where it was sought.
    """
    folders = share_folders()
    for folder in folders:
        if (folder / relative).exists():
            return folder / relative
    raise FileNotFoundError(
        f"{relative} is neither in the checkout nor installed; looked in {', '.join(map(str, folders))}; "
        "install the package with pip or colcon"
    )
