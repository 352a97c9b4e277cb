"""The native loop: a compiled policy in a thread of C that reads and writes the slots of `hardware.realtime.seqlock`.

Python starts it, looks at its statistics and stops it. In between the thread holds no lock of the interpreter and
calls nothing of it: a busy, frozen or collecting interpreter does not change its timing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hardware.realtime.histogram import Histogram
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter
from robot_rl.errors import UserError
from robot_rl.export_c.compiled import CompiledPolicy
from robot_rl.export_c.layout import Fields
from robot_rl.native.structures import MAX_INPUTS, CLoopConfig, Copy, CSlot, CStatistics


@dataclass(frozen=True, kw_only=True)
class Input:
    """A slot that the policy reads."""

    name: str
    """Of the slot."""
    dtype: np.dtype
    """Of its records."""
    target: str
    """`state` or `setpoint`: the structure that its fields are part of."""
    fields: Mapping[str, str | int]
    """For members of the structure, e.g. `objects.cube`, the record's field of the same numbers, or its byte."""
    max_age: float
    """s; an older state gives no command, an older set-point stands still."""
    stamp_field: str | int = ""
    """Field with the stamp of the measurement, or its byte; empty: the slot's own stamp."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The slot that the policy writes."""

    name: str
    """Of the slot."""
    blank: np.ndarray
    """A record, shape (), with everything that is the same in every command."""
    fields: Mapping[str, str | int]
    """As of `Input`."""
    stamp_field: str = ""
    """Field for the stamp of the state; empty: none."""


@dataclass(frozen=True, kw_only=True)
class NativeConfig:
    """How the thread runs."""

    rate_hz: float = 0.0
    """Of the thread; 0: the policy's control rate."""
    every: int = 1
    """The policy steps at every so many ticks; rate_hz / every is to be its control rate."""
    priority: int = 80
    """Of SCHED_FIFO where the system permits it; 0: normal."""
    lock_memory: bool = False
    """Keep this process in memory."""
    gap_periods: int = 3
    """Steps without a command after which the policy's memory begins anew."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeStatistics:
    """What the thread has counted so far."""

    ticks: int
    """Wake-ups."""
    commands: int
    """Commands written."""
    lost_periods: int
    """Deadlines at which no tick began."""
    refusals: Mapping[str, int]
    """Steps without a command, by reason."""
    resets: int
    """Times the policy's memory began anew."""
    granted: str
    """What the system permitted, in words."""
    wake_error: Histogram = field(repr=False)
    """Lateness of the wake-ups."""
    work: Histogram = field(repr=False)
    """Time from a wake-up to its command."""


class NativeLoop:
    """One compiled policy between slots, from `start` to `close`."""

    def __init__(
        self, policy: CompiledPolicy, folder: Path, inputs: Sequence[Input], output: Output, config: NativeConfig
    ) -> None:
        """Attach to the slots in `folder`; the first input is the state.

        Raises:
            SlotError: Another process writes the output's slot, or a slot has another layout.
            UserError: A structure's member has no field, or a field has another size.
        """
        self._running = False
        self._maps: list[mmap.mmap] = []
        self._keep: list[Any] = []
        self._slots: list[Any] = []
        self._library, layout = policy.library, policy.layout
        if not 1 <= len(inputs) <= MAX_INPUTS:
            raise UserError(f"{len(inputs)} inputs; the native loop takes 1 to {MAX_INPUTS}")
        try:
            self._slots = [SlotReader(folder, given.name, given.dtype) for given in inputs]
            self._slots.append(SlotWriter(folder, output.name, output.blank.dtype))
            members = {"state": layout.state, "setpoint": layout.setpoint}
            filled = {
                target: [m for given in inputs if given.target == target for m in given.fields] for target in members
            }
            needed = [name for name, _ in layout.state if name not in filled["state"]]
            needed += [name for name, _ in layout.setpoint if name not in filled["setpoint"] and layout.uses_setpoint]
            if needed:
                raise UserError(f"no slot gives the policy {', '.join(needed)}")
            self._config = CLoopConfig(
                rate_hz=config.rate_hz or policy.manifest.control_rate_hz * config.every,
                every=config.every,
                priority=config.priority,
                lock_memory=config.lock_memory,
                gap=config.gap_periods,
                inputs=len(inputs),
            )
            if layout.kind == "quadrotor":  # velocity and acceleration of its set-point
                self._config.still_index, self._config.still_count = 3, 6
            for k, given in enumerate(inputs):
                slot = self._slot(folder, given.name, given.dtype, given.fields, members[given.target])
                slot.max_age, slot.target = given.max_age, 0 if given.target == "state" else 1
                slot.stamp_at = _offset(given.dtype, given.stamp_field)
                self._config.input[k] = slot
            slot = self._slot(folder, output.name, output.blank.dtype, output.fields, layout.command)
            blank = ctypes.create_string_buffer(output.blank.tobytes(), output.blank.dtype.itemsize)
            self._keep.append(blank)
            slot.blank, slot.stamp_at = ctypes.addressof(blank), _offset(output.blank.dtype, output.stamp_field)
            self._config.command = slot
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Let the thread run."""
        problem = self._library.policy_loop_start(ctypes.byref(self._config))
        if problem:
            raise SlotError(f"the native loop does not start: {os.strerror(problem)}")
        self._running = True

    def activate(self, active: bool) -> None:
        """Whether it may give commands; it may from the start on."""
        self._library.policy_loop_activate(int(active))

    def reset(self) -> None:
        """Let the policy forget the past before its next step."""
        self._library.policy_loop_reset()

    def statistics(self) -> NativeStatistics:
        """What it has counted since `start`."""
        now = self._library.policy_loop_statistics_now
        now.restype = ctypes.POINTER(CStatistics)
        c = now().contents
        return NativeStatistics(
            ticks=c.ticks,
            commands=c.commands,
            lost_periods=c.lost,
            refusals={name: getattr(c, name) for name in ("inactive", "empty", "stale", "damaged", "refused")},
            resets=c.resets,
            granted=f"{_granted('SCHED_FIFO', c.fifo)}; {_granted('locked memory', c.locked)}",
            wake_error=Histogram.restore(np.array(c.wake.bins), c.wake.sum, c.wake.max),
            work=Histogram.restore(np.array(c.work.bins), c.work.sum, c.work.max),
        )

    def close(self) -> None:
        """Stop the thread and let go of the memory."""
        if self._running:
            self._library.policy_loop_stop()
            self._running = False
        self._keep.clear()
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        for slot in self._slots:
            slot.close()
        self._slots.clear()

    def __del__(self) -> None:
        self.close()  # or the thread would outlive its memory

    def __enter__(self) -> NativeLoop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _slot(self, folder: Path, name: str, dtype: np.dtype, fields: Mapping[str, str | int], members: Fields) -> Any:
        """The slot's file in memory once more, for C, and what is copied from and to it."""
        with open(folder / name, "r+b") as file:
            mapped = mmap.mmap(file.fileno(), 0)
        self._maps.append(mapped)
        anchor = ctypes.c_char.from_buffer(mapped)
        copies = _copies(dtype, fields, members)
        self._keep += [anchor, copies]
        return CSlot(
            memory=ctypes.addressof(anchor),
            copy=copies,
            copies=len(copies),
            record_size=np.dtype(dtype).itemsize,
        )


def _copies(dtype: np.dtype, fields: Mapping[str, str | int], members: Fields) -> Any:
    rows, index = [], 0
    for name, count in members:
        if name in fields:
            place = fields[name]
            wide = 1
            if isinstance(place, str):
                kind, offset = dtype.fields[place][:2]  # type: ignore[index]
                size = int(np.prod(kind.shape, dtype=int))
                if size < count or kind.base not in (np.float64, np.float32):
                    raise UserError(f"field {place!r} is {kind}; the policy needs {count} floats for {name}")
                wide = int(kind.base == np.float64)
            else:
                offset = place
            rows.append(Copy(record=offset, index=index, count=count, wide=wide))
        index += count
    return (Copy * len(rows))(*rows)


def _offset(dtype: np.dtype, name: str | int) -> int:
    if isinstance(name, int):
        return name
    return int(dtype.fields[name][1]) if name else -1  # type: ignore[index]


def _granted(what: str, answer: int) -> str:
    if answer == 0:
        return f"{what} not asked for"
    return what if answer > 0 else f"{what} refused ({os.strerror(-answer)})"
