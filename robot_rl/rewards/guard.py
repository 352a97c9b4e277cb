"""A physical check beside the classifier: measured signals that success needs, whatever a picture looks like.

A classifier can be fooled, by the operator's sleeve or by a policy that found out how; what the gripper measures
cannot in the same way. A guard is data, a JSON file or the entry of a task:

    {"bounds": [{"signal": "gripper_width", "low": 0.025, "high": 0.06}, {"signal": "tool_z", "low": 0.1}]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A signal must lie between two values, both included."""

    signal: str
    """Name as of `signals_of`."""
    low: float = -math.inf
    """In the unit of the signal."""
    high: float = math.inf
    """In the unit of the signal."""

    def __post_init__(self) -> None:
        if not self.low <= self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise UserError(
                f"the bounds of {self.signal!r} are {self.low} and {self.high}; expected low ≤ high, one of them finite"
            )


@dataclass(frozen=True)
class Guard:
    """Bounds that all must hold."""

    bounds: tuple[Bound, ...]
    """At least one."""

    def violations(self, signals: Mapping[str, float]) -> list[str]:
        """What speaks against success, in words. A signal that is not a number speaks against it.

        Raises:
            ValueError: A signal is not measured at all.
        """
        found = []
        for bound in self.bounds:
            if bound.signal not in signals:
                raise ValueError(f"the guard needs the signal {bound.signal!r}; measured are {', '.join(signals)}")
            value = signals[bound.signal]
            if not bound.low <= value <= bound.high:
                found.append(f"{bound.signal} is {value:.4g}, outside [{bound.low:g}, {bound.high:g}]")
        return found

    def holds(self, signals: Mapping[str, float]) -> bool:
        """Whether nothing speaks against success."""
        return not self.violations(signals)

    def to_data(self) -> dict[str, Any]:
        """It as JSON-able data; a side without a bound is left out."""
        rows = []
        for bound in self.bounds:
            sides = {"low": bound.low, "high": bound.high}
            rows.append({"signal": bound.signal, **{k: v for k, v in sides.items() if math.isfinite(v)}})
        return {"bounds": rows}

    @classmethod
    def from_data(cls, data: Any) -> Guard:
        """The guard that `to_data` wrote.

        Raises:
            UserError: It is none.
        """
        rows = data.get("bounds") if isinstance(data, dict) and set(data) == {"bounds"} else None
        if not isinstance(rows, list) or not rows:
            raise UserError(f'a guard is {data!r:.120}; expected {{"bounds": [...]}} with at least one')
        for row in rows:
            sides = {k: v for k, v in row.items() if k != "signal"} if isinstance(row, dict) else {}
            numbers = all(type(v) in (int, float) for v in sides.values())
            if not (sides and set(sides) <= {"low", "high"} and numbers and isinstance(row.get("signal"), str)):
                raise UserError(f'a bound of a guard is {row!r:.120}; expected "signal" and numbers "low", "high"')
        return cls(tuple(Bound(**row) for row in rows))

    @classmethod
    def load(cls, path: Path) -> Guard:
        """The guard of a JSON file.

        Raises:
            UserError: There is none.
        """
        try:
            return cls.from_data(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, OSError) as error:
            raise UserError(f"the guard {path} cannot be read: {error}") from error


def signals_of(state: Any) -> dict[str, float]:
    """What a measured `ArmState`, or one by arm name, says in single numbers.

    `gripper_width` m; `tool_x`, `tool_y`, `tool_z` m in the base frame; `tool_speed` m/s; where measured `force` N and
    `torque` N m at the tool. With several arms each is preceded by the arm's name: `left.gripper_width`. A batch of
    one is taken as one.
    """
    if isinstance(state, dict):
        return {f"{arm}.{name}": value for arm, one in state.items() for name, value in signals_of(one).items()}

    def flat(value: Any, size: int) -> np.ndarray:
        array = np.asarray(value, dtype=float).reshape(-1)
        if array.size != size:
            raise ValueError(f"a guard looks at one robot at a time; a signal of {size} numbers has {array.size}")
        return array

    pose, twist = flat(state.tool_pose, 7), flat(state.tool_twist, 6)
    signals = {
        "gripper_width": float(flat(state.gripper_width, 1)[0]),
        "tool_x": float(pose[0]),
        "tool_y": float(pose[1]),
        "tool_z": float(pose[2]),
        "tool_speed": float(np.linalg.norm(twist[:3])),
    }
    if state.wrench is not None:
        wrench = flat(state.wrench, 6)
        signals["force"] = float(np.linalg.norm(wrench[:3]))
        signals["torque"] = float(np.linalg.norm(wrench[3:]))
    return signals


GUARDS: dict[str, Guard] = {
    # The cube, 34 to 46 mm wide, is between the fingers, which stand 10 cm above where they grasped it, almost at rest:
    # a cube on its way up, or thrown, looks the same in a single picture.
    "arm-pick-lift": Guard(
        (
            Bound(signal="gripper_width", low=0.025, high=0.06),
            Bound(signal="tool_z", low=0.1),
            Bound(signal="tool_speed", high=0.08),
        )
    ),
}
"""Guards of the tasks that have one."""
