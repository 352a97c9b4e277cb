"""An observer that takes no part: it sees each order on its way to a simulated robot, and what the robot measures.

`python -m robot_rl.bench.faults.observer FOLDER ROBOT OUT` looks at the two slots between driver and robot twice as
often as they are written. On SIGUSR1 it writes what it has seen since the last time to OUT, a numpy file; it ends on
SIGTERM. Nothing of what the control process says about itself goes in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from hardware.descriptions import ArmDescription, load_description
from hardware.drivers import bridged_quadrotor
from hardware.drivers.simulated import SENSORS, TORQUES, sensors_dtype, torques_dtype
from hardware.realtime.scheduling import RealtimeConfig, become_realtime
from hardware.realtime.seqlock import SlotReader

PRIORITY = 75
"""Above the simulated robot, below the control process."""
_PERIOD = 5e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What was seen of a robot, T orders and S samples; `ArmObserved` and `QuadrotorObserved` judge it."""

    sequence: np.ndarray
    """Shape (T,): numbers of the orders."""
    seen: np.ndarray
    """Shape (T,), s, `time.monotonic()`."""
    orders: np.ndarray
    """Shape (T,), records of what the robot is told."""
    sampled: np.ndarray
    """Shape (S,), s, when each sample was seen."""
    samples: np.ndarray
    """Shape (S,), records of what it measures."""

    @property
    def missed(self) -> int:
        """Orders that passed unseen."""
        return int(np.sum(np.maximum(np.diff(self.sequence), 1) - 1)) if len(self.sequence) else 0


Kind = TypeVar("Kind", bound=Observed)


class Observer(Generic[Kind]):
    """The observer's process."""

    def __init__(self, folder: Path, robot: str, out: Path, kind: type[Kind]) -> None:
        """Start it and wait until it looks; `kind` judges what it sees."""
        self._out, self._kind = out, kind
        command = [sys.executable, "-m", "robot_rl.bench.faults.observer", str(folder), robot, str(out)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._wait(lambda: time.sleep(0.005))
        self._load()

    def take(self, meanwhile: Callable[[], object] = lambda: time.sleep(0.005)) -> Kind:
        """All that it has seen since the last time; `meanwhile` is called over and over until it is there."""
        self._process.send_signal(signal.SIGUSR1)
        self._wait(meanwhile)
        return self._load()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def _wait(self, meanwhile: Callable[[], object]) -> None:
        end = time.monotonic() + 60.0
        while not self._out.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the observer ended with status {self._process.returncode}")
            meanwhile()

    def _load(self) -> Kind:
        with np.load(self._out) as data:
            found = self._kind(**{name: data[name] for name in Observed.__dataclass_fields__})
        self._out.unlink()
        return found


def main(folder: Path, robot: str, out: Path) -> int:
    """Look until told to end."""
    description = load_description(robot)
    if isinstance(description, ArmDescription):
        joints = description.num_joints
        orders, sensors, names = torques_dtype(joints), sensors_dtype(joints), (TORQUES, SENSORS)
    else:
        orders, sensors = bridged_quadrotor.MOTORS_RECORD, bridged_quadrotor.SENSORS_RECORD
        names = bridged_quadrotor.MOTORS, bridged_quadrotor.SENSORS
    asked, ended = [True], [False]
    signal.signal(signal.SIGUSR1, lambda *_: asked.__setitem__(0, True))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.__setitem__(0, True))
    become_realtime(RealtimeConfig(priority=0 if os.environ.get("ROBOT_RL_REALTIME") == "0" else PRIORITY))
    with SlotReader(folder, names[0], orders) as told, SlotReader(folder, names[1], sensors) as samples:
        seen: list[tuple[int, float, bytes]] = []
        sampled: list[tuple[float, bytes]] = []
        while not ended[0] and os.getppid() != 1:
            now = time.monotonic()
            if (order := told.read_new()) is not None:
                seen.append((order.sequence, now, order.record.tobytes()))
            if (sample := samples.read_new()) is not None:
                sampled.append((now, sample.record.tobytes()))
            if asked[0]:
                asked[0] = False
                _write(out, seen, sampled, orders, sensors)
                seen, sampled = seen[-1:], []  # the last order again: the next one is compared with it
            time.sleep(_PERIOD)
    return 0


def _write(out: Path, seen: list, sampled: list, orders: np.dtype, sensors: np.dtype) -> None:
    fresh = out.with_suffix(".part")
    with fresh.open("wb") as file:
        np.savez(
            file,
            sequence=np.array([each[0] for each in seen], np.int64),
            seen=np.array([each[1] for each in seen], float),
            orders=np.frombuffer(b"".join(each[2] for each in seen), orders),
            sampled=np.array([each[0] for each in sampled], float),
            samples=np.frombuffer(b"".join(each[1] for each in sampled), sensors),
        )
    fresh.rename(out)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
