"""What every face of a control process does, whatever the robot: read how it stands, and ask something of it.

A face may consist of several processes, each with a client of its own: a slot belongs to whoever writes it first, and
a second process that tries is refused. None of this waits for the control process but `ask`, which waits for an answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hardware.realtime.histogram import Histogram
from hardware.realtime.seqlock import Reading, SlotReader, SlotWriter
from robot_rl.planes import records
from robot_rl.rebuild import to_json

Request = Literal["arm", "disarm", "recover", "estop"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the safety state."""

    stamp: float
    """s, `time.monotonic()`."""
    mode: str
    """From then on."""
    cause: str
    """Why."""
    latched: bool
    """Whether only `recover` leads on."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The safety state; ages are those at `stamp`."""

    stamp: float
    """s, when the control process wrote it: an old one means that it stands still."""
    mode: str
    """Of the arm's or the quadrotor's supervisor in `hardware.safety`; `stopped` once the process ended in order."""
    cause: str
    """Why, in words."""
    follow: str
    """`command`, `hold` or `brake`."""
    blend: float
    """Share of the command that is carried out, in [0, 1]."""
    latched: bool
    """Only `recover` leads on."""
    since: float
    """Stamp of the newest change of mode or cause."""
    changes: tuple[Change, ...]
    """The newest ones, oldest first."""
    command_sequence: int
    """Of the newest command that was taken; 0: none."""
    command_source: str
    """`policy` or `teleop`."""
    state_age: float
    """s; inf: no state yet."""
    command_age: float
    """s; inf: no command yet."""
    driver_fault: str
    """What the robot says; empty while it takes commands."""
    interventions: int
    """Of the filter before the driver, so far."""
    explanation: str
    """Its newest one in words."""
    ticks: int
    """Of the control loop."""
    lost_periods: int
    """That it missed."""
    realtime: str
    """What the system permitted."""
    request_id: int
    """Of the newest answered request."""
    request_ok: bool
    """Whether it was granted."""
    request_text: str
    """Why, or why not."""


class SlotsClient:
    """Reads everything, writes what it is asked to; one thread."""

    def __init__(self, folder: Path, layouts: Mapping[str, np.dtype]) -> None:
        """Attach to a robot's slots; the processes may come later.

        Args:
            folder: Of the slots, see `SlotFolder.path`.
            layouts: Of the records, by the slot's name.
        """
        self.folder = folder
        self._layouts = layouts
        self._readers: dict[str, SlotReader] = {}
        self._writers: dict[str, SlotWriter] = {}
        self._face = records.new(records.FACE)
        self._request_id = 0
        self._estops = 0

    # What there is to see

    def status(self) -> Status | None:
        """The newest status; None before the first."""
        reading = self.read("status")
        if reading is None:
            return None
        r = reading.record
        seen = min(int(r["changes"]), records.CHANGES)
        return Status(
            stamp=reading.stamp,
            mode=records.text(r["mode"]),
            cause=records.text(r["cause"]),
            follow=records.text(r["follow"]),
            blend=float(r["blend"]),
            latched=bool(r["latched"]),
            since=float(r["since"]),
            changes=tuple(
                Change(
                    stamp=float(r["change_stamps"][k]),
                    mode=records.text(r["change_modes"][k]),
                    cause=records.text(r["change_causes"][k]),
                    latched=bool(r["change_latched"][k]),
                )
                for k in reversed(range(seen))
            ),
            command_sequence=int(r["command_sequence"]),
            command_source=records.text(r["command_source"]),
            state_age=float(r["state_age"]),
            command_age=float(r["command_age"]),
            driver_fault=records.text(r["driver_fault"]),
            interventions=int(r["interventions"]),
            explanation=records.text(r["explanation"]),
            ticks=int(r["ticks"]),
            lost_periods=int(r["lost_periods"]),
            realtime=records.text(r["realtime"]),
            request_id=int(r["request_id"]),
            request_ok=bool(r["request_ok"]),
            request_text=records.text(r["request_text"]),
        )

    def histograms(self) -> dict[str, Histogram]:
        """Of the control loop since it began, by `records.HISTOGRAMS`, and `inference` of the policy; maybe none."""
        found = {}
        if (timing := self.read("timing")) is not None:
            found = {name: records.to_histogram(timing.record, name) for name in records.HISTOGRAMS}
        if (policy := self.read("policy")) is not None:
            found["inference"] = records.to_histogram(policy.record, "inference")
        return found

    def timing(self) -> dict[str, Any]:
        """Rate, ticks, lost periods, and count, mean, p50, p99, max in s of every histogram, as plain data."""
        timing = self.read("timing")
        if timing is None:
            return {}
        numbers = {"rate_hz": float(timing.record["rate_hz"])}
        numbers |= {name: int(timing.record[name]) for name in ("ticks", "lost_periods")}
        return {**numbers, **{name: histogram.to_dict() for name, histogram in self.histograms().items()}}

    def report(self) -> dict[str, Any]:
        """Counters of supervisor and filter by name."""
        reading = self.read("report")
        return {} if reading is None else records.to_report(reading.record)

    def policy(self) -> dict[str, Any]:
        """`bundle`, `rate_hz`, `ready`, `active`, `reason` (why there is no command), counts; empty before it began."""
        reading = self.read("policy")
        if reading is None:
            return {}
        record = reading.record
        words = {name: records.text(record[name]) for name in ("bundle", "reason", "realtime")}
        counts = {name: int(record[name]) for name in ("ticks", "commands", "lost_periods", "resets")}
        flags = {name: bool(record[name]) for name in ("ready", "active")}
        return {"stamp": reading.stamp, "rate_hz": float(record["rate_hz"]), **words, **flags, **counts}

    def read(self, slot: str) -> Reading | None:
        """The newest record of a slot; None before the first.

        Raises:
            SlotError: There is no such folder, or it is of another robot.
        """
        if slot not in self._readers:
            self._readers[slot] = SlotReader(self.folder, slot, self._layouts[slot])
        return self._readers[slot].read()

    # What it says

    def beat(self) -> None:
        """A sign of life: without one the control process holds the arm. Call it several times in its time limit."""
        self._writer("face").write(self._face)

    def activate_policy(self) -> None:
        """Let the policy give commands, from a fresh memory on."""
        self._face["policy_active"] = True
        self._face["episode"] += 1
        self.beat()

    def deactivate_policy(self) -> None:
        """No more commands of the policy: an active arm holds."""
        self._face["policy_active"] = False
        self.beat()

    def ask(self, request: Request, timeout: float = 1.0) -> tuple[bool, str]:
        """Arm, disarm, recover or stop; returns whether it was granted, and why or why not, in words."""
        number = self.request(request)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            status = self.status()
            if status is not None and status.request_id == number:
                return status.request_ok, status.request_text
            time.sleep(0.001)
        return (
            False,
            f"the control process did not answer {request!r} within {timeout:g} s: it stands still or has ended",
        )

    def request(self, request: Request) -> int:
        """As `ask`, without waiting: returns the number that `Status.request_id` will have."""
        writer = self._writer("request")
        if self._request_id == 0 and (before := self.read("request")) is not None:
            self._request_id, self._estops = int(before.record["id"]), int(before.record["estops"])
        self._request_id += 1
        self._estops += request == "estop"
        record = records.new(records.REQUEST)
        record["id"], record["kind"] = self._request_id, records.REQUESTS.index(request) + 1
        record["estops"] = self._estops
        writer.write(record)
        return self._request_id

    def set_wire(self, wire: Any) -> None:
        """Change what lies between the simulated robot and its driver, from its next tick on.

        Args:
            wire: The config of its wire, a dataclass.
        """
        record = records.new(records.SIMULATION_WIRE)
        record["json"] = to_json(wire).encode()
        self._writer("simulation_wire").write(record)

    # Life cycle

    def close(self) -> None:
        """Let go of the memory."""
        for slot in (*self._readers.values(), *self._writers.values()):
            slot.close()
        self._readers.clear()
        self._writers.clear()

    def _writer(self, slot: str) -> SlotWriter:
        if slot not in self._writers:
            self._writers[slot] = SlotWriter(self.folder, slot, self._layouts[slot])
        return self._writers[slot]
