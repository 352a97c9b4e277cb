"""The structures of `policy_loop.h` for ctypes."""

from __future__ import annotations

import ctypes

from hardware.realtime.histogram import Histogram

MAX_INPUTS = 8
"""`POLICY_LOOP_INPUTS`."""


class Copy(ctypes.Structure):
    """`struct policy_copy`."""

    _fields_ = [(name, ctypes.c_int32) for name in ("record", "index", "count", "wide")]


class CSlot(ctypes.Structure):
    """`struct policy_slot`."""

    _fields_ = [
        ("memory", ctypes.c_void_p),
        ("blank", ctypes.c_void_p),
        ("copy", ctypes.POINTER(Copy)),
        ("max_age", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("record_size", "copies", "target", "stamp_at")),
    ]


class CLoopConfig(ctypes.Structure):
    """`struct policy_loop_config`."""

    _fields_ = [
        ("rate_hz", ctypes.c_double),
        *(
            (name, ctypes.c_int32)
            for name in ("every", "priority", "lock_memory", "gap", "still_index", "still_count", "inputs", "unused")
        ),
        ("input", CSlot * MAX_INPUTS),
        ("command", CSlot),
    ]


class CHistogram(ctypes.Structure):
    """`struct policy_histogram`."""

    _fields_ = [("bins", ctypes.c_int64 * Histogram.BINS), ("sum", ctypes.c_double), ("max", ctypes.c_double)]


class CStatistics(ctypes.Structure):
    """`struct policy_loop_statistics`."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("ticks", "commands", "lost", "inactive", "empty", "stale", "damaged", "refused", "resets")
        ),
        *((name, ctypes.c_int32) for name in ("fifo", "locked", "running", "unused")),
        ("wake", CHistogram),
        ("work", CHistogram),
    ]
