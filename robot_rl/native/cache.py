"""Policies compiled once for this machine: a folder per exported source, under the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

from robot_rl.errors import UserError
from robot_rl.export_c.compiled import compile_library, find_compiler
from robot_rl.export_c.writer import write_c

_LIBRARY = "libpolicy.so"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/robot_rl/native`, or that in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robot_rl" / "native"


def compiled(bundle: str | Path, folder: Path | None = None) -> Path:
    """The library of a bundle, exported and compiled where it is not there yet.

    The name of its folder is a checksum of the source, so that a changed bundle or export is another library.

    Args:
        bundle: Path or zoo name.
        folder: Of all libraries; None: `cache_folder()`.

    Raises:
        UserError: There is no C compiler, the policy needs something that C does not have, or the cache is not
            writable.
    """
    compiler = find_compiler()
    if compiler is None:
        raise UserError(
            "a native policy needs a C compiler (cc, gcc or clang) and there is none; install one, set CC, or leave "
            "native false"
        )
    folder = folder or cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as place:
            source = write_c(bundle, Path(place) / "c")
            found = folder / _checksum(source, compiler)
            if not (found / _LIBRARY).exists():
                compile_library(source, compiler)
                shutil.rmtree(found, ignore_errors=True)  # of a compilation that was cut off by hand
                try:
                    source.rename(found)
                except OSError:  # another process was faster
                    if not (found / _LIBRARY).exists():
                        raise
    except OSError as error:
        raise UserError(f"cannot keep compiled policies in {folder}: {error}; set XDG_CACHE_HOME") from error
    return found / _LIBRARY


def _checksum(source: Path, compiler: str) -> str:
    text = hashlib.sha256(f"{compiler} {platform.machine()}".encode())
    for path in sorted(source.iterdir()):
        text.update(path.name.encode() + b"\0" + path.read_bytes())
    return text.hexdigest()[:32]
