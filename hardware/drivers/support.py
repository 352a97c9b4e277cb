"""What drivers share: settings given as text, the vendor's library when it is needed, the robot's clock."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib
import math
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from hardware.drivers.driver import DriverError

Config = TypeVar("Config")
Self = TypeVar("Self", bound="ContextManager")


class ContextManager:
    """`with driver:` connects, and stops and closes whatever happened."""

    def connect(self) -> None:
        """Open the wire; frees it again if that fails."""
        raise NotImplementedError

    def stop(self) -> None:
        """The robot's own safe stop."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop and free the wire."""
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop and close."""
        try:
            self.stop()
        finally:
            self.close()


def read_settings(driver: str, config: type[Config], settings: Mapping[str, str]) -> Config:
    """A driver's config from text, as it comes from a command line or a parameter file.

    Raises:
        DriverError: A key is unknown or missing, or a value is not of its type; names driver, key and value.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    for key in settings:
        if key not in fields:
            raise DriverError(f"driver {driver!r} has no setting {key!r}; it has: {', '.join(fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in settings:
            raise DriverError(f"driver {driver!r} needs the setting {name!r}, e.g. {name}=192.168.1.10")
    hints = get_type_hints(config)
    values = {key: _read_value(driver, key, str(text), hints[key]) for key, text in settings.items()}
    try:
        return config(**values)
    except ValueError as error:
        raise DriverError(f"driver {driver!r}: {error}") from error


def _read_value(driver: str, key: str, text: str, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        if text not in get_args(hint):
            raise DriverError(f"setting {key!r} of driver {driver!r} is {text!r}; one of {', '.join(get_args(hint))}")
        return text
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise DriverError(f"setting {key!r} of driver {driver!r} is {text!r}; true or false")
        return text.lower() == "true"
    try:
        value = hint(text)
    except ValueError as error:
        raise DriverError(f"setting {key!r} of driver {driver!r} is {text!r}, no {hint.__name__}") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise DriverError(f"setting {key!r} of driver {driver!r} is {text!r}; it must be finite")
    return value


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high]; a config calls it in `__post_init__`."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must lie within [{low}, {high}]")


def import_sdk(module: str, *, driver: str, package: str, extra: str) -> ModuleType:
    """The vendor's library, or one sentence that says how to get it.

    Raises:
        DriverError: It is not installed, or does not load on this machine.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (module, module.split(".")[0]):
            why = "which is not installed"
        else:
            why = f"which does not load here ({error})"
        raise DriverError(f"driver {driver!r} needs {package}, {why}: pip install 'robot_rl[{extra}]'") from error


def command_values(driver: str, values: Any, count: int) -> np.ndarray:
    """A command's array as finite float64 of shape (count,).

    Raises:
        DriverError: Its shape is another, or it is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,):
        raise DriverError(f"driver {driver!r} got a command of shape {array.shape}; expected ({count},)")
    if not np.all(np.isfinite(array)):
        raise DriverError(f"driver {driver!r} got a command that is not finite: {array.tolist()}")
    return array


def abandon(thing: Any) -> None:
    """Never free an object of a vendor's library whose destructor hangs or aborts on a dead wire."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class RobotClock:
    """Turns the robot's time into `time.monotonic()` of this machine.

    The offset is the smallest delay seen, as the delay only ever adds; it may grow by `drift`, as clocks differ.
    """

    def __init__(self, drift: float = 2e-4) -> None:
        self.drift = drift
        self._offset = math.inf
        self._last = -math.inf

    def stamp(self, robot_time: float, now: float) -> float:
        """The time of a sample on this machine's clock, never later than `now`."""
        elapsed = robot_time - self._last
        if not 0.0 <= elapsed < 10.0:  # first sample, or the robot was started anew
            self._offset, elapsed = math.inf, 0.0
        self._last = robot_time
        self._offset = min(self._offset + self.drift * elapsed, now - robot_time)
        return robot_time + self._offset
