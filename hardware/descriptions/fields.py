"""Checks that every kind of description file shares: known keys, shapes, finite numbers."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

import numpy as np


def check_keys(what: str, given: Any, expected: Collection[str]) -> None:
    """Refuse unknown and missing keys of a mapping.

    Raises:
        ValueError: Names the key, and the nearest one that exists.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{what}s are {given!r}; expected a mapping with {', '.join(expected)}")
    for key in given:
        if key not in expected:
            near = get_close_matches(str(key), expected, n=1)
            raise ValueError(f"unknown {what} {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    for key in expected:
        if key not in given:
            raise ValueError(f"{what} {key!r} is missing")


def read_array(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A float64 array of exactly this shape.

    Raises:
        ValueError: Other shape, no numbers, or not finite.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} is {value!r}; expected numbers of shape {shape}: {error}") from error
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise ValueError(f"{what} has shape {array.shape} or is not finite; expected {shape}")
    return array


def read_sourced(what: str, entry: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The value of an entry `{value, unit, source}`."""
    check_keys(f"{what} field", entry, ("value", "unit", "source"))
    return read_array(what, entry["value"], shape)
