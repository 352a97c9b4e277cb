"""Random states and set-points of a policy's robot, to compare the policy in C with the one in Python."""

from __future__ import annotations

import numpy as np

from robot_rl.export_c.layout import Fields, Layout

_SPREAD = {
    "position": 1.5, "linear_velocity": 2.0, "angular_velocity": 5.0, "velocity": 1.0, "acceleration": 3.0, "yaw": 3.0,
    "joint_positions": 2.5, "joint_velocities": 1.0, "tool_twist": 0.5, "gripper_width": 0.08, "wrench": 30.0
}  # fmt: skip
"""Half the range of each element, in the unit of its field."""


def random_rows(layout: Layout, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """States (count, S) and set-points (count, G) float32, each drawn anew.

    Every other one is calm, near rest and level, where a network does not saturate and shows its errors; the others are
    anywhere, upside down too.
    """
    rng = np.random.default_rng(seed)
    return _rows(layout.state, count, rng), _rows(layout.setpoint, count, rng)


def _rows(fields: Fields, count: int, rng: np.random.Generator) -> np.ndarray:
    columns = []
    calm = np.where(np.arange(count)[:, None] % 2 == 0, 0.05, 1.0)
    for name, size in fields:
        if name == "orientation":
            columns.append(_quaternions(calm, rng))
        elif name.endswith("pose") or "." in name:
            places = np.array([0.5, 0.0, 0.2]) + calm * rng.uniform(-0.4, 0.4, (count, 3))
            columns += [places, _quaternions(calm, rng)]
        else:
            columns.append(calm * rng.uniform(-_SPREAD[name], _SPREAD[name], (count, size)))
    return np.concatenate(columns, axis=-1).astype(np.float32)


def _quaternions(calm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    vectors = rng.normal(size=(len(calm), 4))
    vectors = np.where(calm < 1.0, np.array([1.0, 0.0, 0.0, 0.0]) + 2.0 * calm * vectors, vectors)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
