"""An OpenGL context without a window, made only when somebody wants to see something.

Nothing of OpenGL is imported before that: simulation without cameras runs on machines that have no GL library.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from typing import Any

_LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
ADVICE = (
    "rendering needs an OpenGL library: on Debian or Ubuntu `apt-get install libegl1 libgl1-mesa-dri`, or "
    "`apt-get install libosmesa6` with MUJOCO_GL=osmesa"
)
"""What an error says where no image can be rendered."""


def open_context(width: int, height: int) -> Any:
    """A GL context that `make_current` and `free` can be called on.

    The environment variable MUJOCO_GL chooses `egl`, `osmesa` or `glfw`; without it EGL is taken if its library is
    there, else OSMesa. A process keeps to its first choice.

    Raises:
        RuntimeError: There is no GL library, or it does not work; says which packages to install.
    """
    if sys.platform != "linux":
        import mujoco

        return mujoco.GLContext(width, height)
    backend = _backend()
    # MuJoCo's loader of GL functions reads this when the first image is rendered.
    os.environ["MUJOCO_GL"] = backend
    # Software rendering in the calling thread: images are small, and helpers would take cores from the physics.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        return importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    except Exception as error:  # a missing driver shows as AttributeError, ImportError, OSError or an error of PyOpenGL
        problem = f"MUJOCO_GL={backend} does not work ({type(error).__name__}: {error})"
        raise RuntimeError(f"{problem}; {ADVICE}") from error


def _backend() -> str:
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in ("egl", "osmesa", "glfw"):
        return asked
    if asked in ("disable", "disabled", "off", "false", "0"):
        raise RuntimeError(f"MUJOCO_GL={asked} forbids rendering: unset it or set it to egl or osmesa; {ADVICE}")
    for backend, library in _LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return backend
    raise RuntimeError(f"neither {' nor '.join(_LIBRARIES.values())} was found; {ADVICE}")
