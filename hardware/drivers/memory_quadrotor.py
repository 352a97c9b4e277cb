"""What the drivers of quadrotors behind shared memory have in common: two slots, and samples out of one of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hardware.descriptions import QuadrotorDescription
from hardware.drivers.driver import DriverError
from hardware.drivers.quadrotor import QuadrotorSample
from hardware.drivers.support import ContextManager
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter
from policies.types import QuadrotorState

STATE_FIELDS = ("position", "orientation", "linear_velocity", "angular_velocity")
"""Of a `QuadrotorState`, and of the records that have one."""
MOTION = [
    ("state_stamp", "f8"),  # of the measurement; 0: there was none yet
    ("position", "f8", 3), ("orientation", "f8", 4), ("linear_velocity", "f8", 3), ("angular_velocity", "f8", 3),
    ("attitude_stamp", "f8"), ("attitude", "f8", 4), ("rates", "f8", 3),  # of the inertial sensor, likewise
]  # fmt: skip
"""How the records of what a vehicle says begin."""


class MemoryConfig(Protocol):
    """What the settings of such a driver have."""

    @property
    def folder(self) -> str:
        """Of the robot's slots."""

    @property
    def timeout(self) -> float:
        """S to wait for the first sample."""


def state_of(record: np.void) -> QuadrotorState:
    """The state in a record that has `STATE_FIELDS`."""
    return QuadrotorState(*(record[name].copy() for name in STATE_FIELDS))


def motion_of(record: np.void) -> dict[str, Any]:
    """What `MOTION` says, as fields of a `QuadrotorSample`."""
    felt = record["attitude_stamp"] > 0.0
    return {
        "stamp": float(record["state_stamp"]),
        "state": state_of(record) if record["state_stamp"] > 0.0 else None,
        "attitude_stamp": float(record["attitude_stamp"]),
        "orientation": record["attitude"].copy() if felt else None,
        "angular_velocity": record["rates"].copy() if felt else None,
    }


class MemoryQuadrotor(ContextManager):
    """One vehicle; subclasses name the slots and read what else there is in a record."""

    said: tuple[str, np.dtype]
    """Name and records of the slot in which the vehicle speaks; they begin with `MOTION`."""
    told: tuple[str, np.dtype]
    """Of the slot in which it is told what to do."""

    def __init__(self, name: str, description: QuadrotorDescription, config: MemoryConfig) -> None:
        """Nothing is opened yet."""
        self.name, self.description = name, description
        self._folder, self._timeout = config.folder, config.timeout
        self._said: SlotReader | None = None
        self._told: SlotWriter | None = None
        self._newest: np.void | None = None
        self._sample: QuadrotorSample | None = None

    # What subclasses do

    def resume(self, folder: Path) -> None:
        """Before it is told anything: go on from what it was told last."""

    def to_sample(self, record: np.void) -> QuadrotorSample:
        """The sample in a record that begins with `MOTION`."""
        raise NotImplementedError

    def nothing_came(self, limit: str) -> str:
        """What to say when there was no sample within `limit`."""
        raise NotImplementedError

    # The driver

    def connect(self) -> None:
        """Attach, and wait for a sample that is younger than this call; nothing moves."""
        folder, begin = Path(self._folder), time.monotonic()
        try:
            self._said = SlotReader(folder, *self.said)
            self.resume(folder)
            self._told = SlotWriter(folder, *self.told)
            while (sample := self.read()) is None or max(sample.stamp, sample.attitude_stamp) < begin - 0.1:
                if time.monotonic() - begin > self._timeout:
                    raise DriverError(f"driver {self.name!r}: {self.nothing_came(f'{self._timeout:g} s')}")
                time.sleep(0.001)
        except SlotError as error:
            self.close()
            raise DriverError(f"driver {self.name!r}: {error}") from error
        except BaseException:
            self.close()
            raise

    def read(self) -> QuadrotorSample | None:
        """The newest sample; the same one again where there is none newer."""
        if self._said is None:
            raise DriverError(f"driver {self.name!r} is not connected")
        reading = self._said.read_new()
        if reading is not None:
            self._newest = reading.record
            self._sample = self.to_sample(reading.record)
        return self._sample

    def close(self) -> None:
        """Say nothing more: a vehicle in the air helps itself, or does what it was told before."""
        for slot in (self._said, self._told):
            if slot is not None:
                slot.close()
        self._said = self._told = None
        self._sample = self._newest = None

    def __exit__(self, *_: object) -> None:
        """Close; whoever wants the motors off says so before."""
        self.close()

    def tell(self, record: np.ndarray) -> None:
        """Write what it shall do.

        Raises:
            DriverError: It is not connected.
        """
        if self._told is None:
            raise DriverError(f"driver {self.name!r} is not connected")
        self._told.write(record)
