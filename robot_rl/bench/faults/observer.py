"""An observer that takes no part: it sees each torque on its way to the simulated arm, and what the arm measures.

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

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions import load_arm
from hardware.drivers.simulated import ORDERS, SENSORS, TORQUES, sensors_dtype, torques_dtype
from hardware.realtime.scheduling import RealtimeConfig, become_realtime
from hardware.realtime.seqlock import SlotReader

PRIORITY = 75
"""Above the simulated arm, below the control process."""
_PERIOD = 5e-4
_DT = 0.002


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What was seen of an arm with n joints, T torque orders and S samples."""

    sequence: np.ndarray
    """Shape (T,): numbers of the orders."""
    seen: np.ndarray
    """Shape (T,), s, `time.monotonic()`."""
    orders: np.ndarray
    """Shape (T,), records of `torques_dtype`."""
    sampled: np.ndarray
    """Shape (S,), s, when each sample was seen."""
    samples: np.ndarray
    """Shape (S,), records of `sensors_dtype`."""

    @property
    def missed(self) -> int:
        """Orders that passed unseen."""
        return int(np.sum(np.maximum(np.diff(self.sequence), 1) - 1)) if len(self.sequence) else 0

    def outside(self, robot: str) -> list[str]:
        """Every order that the robot should never have been given, in words."""
        description = load_arm(robot)
        limit, rate = (symmetric_limit(description, name) for name in ("torque", "torque_rate"))
        found = []
        before: tuple[int, np.ndarray] | None = None
        for number, order in zip(self.sequence.tolist(), self.orders, strict=True):
            torques = np.asarray(order["torques"], float)
            if ORDERS[int(order["order"])] == "stop":
                before = (number, np.zeros_like(torques))  # from the brakes torques begin at nothing
                continue
            if not np.all(np.isfinite(torques)) or not -1.0 <= float(order["gripper"]) <= 1.0:
                found.append(f"order {number} is not finite: {torques.tolist()}, gripper {float(order['gripper'])}")
                before = None
                continue
            if np.any(np.abs(torques) > limit + 1e-9):
                found.append(f"order {number} is beyond the torque limits: {torques.round(2).tolist()} N m")
            if before is not None:
                allowed = (number - before[0]) * _DT * rate + 1e-6
                if np.any(np.abs(torques - before[1]) > allowed):
                    step = np.abs(torques - before[1]).round(3).tolist()
                    found.append(f"order {number} changes by {step} N m, allowed {allowed.round(3).tolist()}")
            before = (number, torques)
        return found

    def fastest(self, robot: str) -> float:
        """Largest share of a joint's velocity limit that was measured, in samples that are numbers."""
        shares = np.abs(self.samples["joint_velocities"]) / symmetric_limit(load_arm(robot), "velocity")
        return float(np.max(shares, where=np.isfinite(shares), initial=0.0))

    def braked_after(self, begin: float) -> float | None:
        """S from `begin` to the first sample with closed brakes, or the order to close them; None: never."""
        times = [*self.sampled[(self.sampled >= begin) & self.samples["braked"]][:1]]
        times += [*self.seen[(self.seen >= begin) & (self.orders["order"] == ORDERS.index("stop"))][:1]]
        return float(min(times)) - begin if times else None


class Observer:
    """The observer's process."""

    def __init__(self, folder: Path, robot: str, out: Path) -> None:
        """Start it and wait until it looks."""
        self._out = out
        command = [sys.executable, "-m", "robot_rl.bench.faults.observer", str(folder), robot, str(out)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._wait(lambda: time.sleep(0.005))
        self._load()

    def take(self, meanwhile: Callable[[], object] = lambda: time.sleep(0.005)) -> Observed:
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

    def _load(self) -> Observed:
        with np.load(self._out) as data:
            found = Observed(**{name: data[name] for name in Observed.__dataclass_fields__})
        self._out.unlink()
        return found


def main(folder: Path, robot: str, out: Path) -> int:
    """Look until told to end."""
    joints = load_arm(robot).num_joints
    orders, sensors = torques_dtype(joints), sensors_dtype(joints)
    asked, ended = [True], [False]
    signal.signal(signal.SIGUSR1, lambda *_: asked.__setitem__(0, True))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.__setitem__(0, True))
    become_realtime(RealtimeConfig(priority=0 if os.environ.get("ROBOT_RL_REALTIME") == "0" else PRIORITY))
    with SlotReader(folder, TORQUES, orders) as torques, SlotReader(folder, SENSORS, sensors) as samples:
        seen: list[tuple[int, float, bytes]] = []
        sampled: list[tuple[float, bytes]] = []
        while not ended[0] and os.getppid() != 1:
            now = time.monotonic()
            if (order := torques.read_new()) is not None:
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
