"""Where a camera is on an arm, or beside it, from pictures of a board and the tool's poses.

Eye in hand: the camera is on the tool, the board lies still. Eye to hand: the camera stands, the tool holds the board.
Both are A X B = Z for every picture, with A the tool in the base (the base in the tool), B the board in the camera,
X the camera in the tool (in the base) and Z the board in the base (in the tool). X and Z are unknown.

Closed-form solutions start; samples that do not fit are rejected; then X and Z minimize the residuals of all others in
m and rad, weighted by their own spread. How far X moves when one sample is left out gives its uncertainty (the
jackknife), which also knows the errors of the arm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hardware.perception import poses
from policies import rotation
from policies.camera import opencv

Mounting = Literal["eye-in-hand", "eye-to-hand"]
_FLOOR = (1e-4, 1e-4)
"""m, rad: no sample that fits better than this is an outlier."""
_NOMINAL = (1e-3, 2e-3)
"""m, rad that count the same when first guesses are compared."""
_LEAST_TURN = 0.5
"""Degrees about a second axis below which the camera's place is not determined at all."""
_GUESSES = 60
"""Random subsets that are tried for a first guess."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One picture and where the arm was."""

    name: str
    """Of the picture."""
    tool: np.ndarray
    """Shape (4, 4): base_T_tool."""
    board: np.ndarray
    """Shape (4, 4): camera_T_board; best of the board's middle, where its position is known best."""


@dataclass(frozen=True, kw_only=True)
class HandEyeLimits:
    """What a calibration has to reach to be accepted."""

    samples: int = 8
    """That are kept."""
    rotation: float = 8.0
    """Degrees, standard deviation of the tool's turns about the second strongest axis: two axes are needed."""
    rejected: float = 0.34
    """Share of samples that may be rejected."""
    residual: tuple[float, float] = (5.0, 1.0)
    """mm and degrees, root mean square."""
    deviation: tuple[float, float] = (2.0, 0.3)
    """mm and degrees, standard deviation of the result by leaving samples out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HandEye:
    """A calibration."""

    mounting: Mounting
    """Where the camera is."""
    camera: np.ndarray
    """Shape (4, 4): tool_T_camera of an eye in hand, base_T_camera of an eye to hand."""
    board: np.ndarray
    """Shape (4, 4): the board in the base of an eye in hand, in the tool of an eye to hand."""
    covariance: np.ndarray
    """Shape (6, 6): of a small change of `camera`, by leaving samples out."""
    names: tuple[str, ...]
    """Of all samples."""
    kept: np.ndarray
    """Shape (N,) bool: which samples were used."""
    residuals: np.ndarray
    """Shape (N, 2) m and rad: how far each sample is off, rejected ones too."""
    held_out: np.ndarray
    """Shape (N, 2) m and rad: how far it is off a calibration without it."""
    methods: dict[str, tuple[np.ndarray, float, float]]
    """What each method found by itself from the kept samples: (4, 4), residual in m and in rad."""
    turns: np.ndarray
    """Shape (3,) rad: standard deviations of the kept tool poses' rotation about its principal axes, largest first."""

    @property
    def residual(self) -> tuple[float, float]:
        """M and rad, root mean square over the kept samples."""
        square = (self.residuals[self.kept] ** 2).mean(axis=0)
        return math.sqrt(square[0]), math.sqrt(square[1])

    @property
    def deviation(self) -> tuple[float, float]:
        """M and rad, standard deviation of the camera's position and orientation: root of the sum over three axes."""
        variances = np.diag(self.covariance)
        return math.sqrt(variances[:3].sum()), math.sqrt(variances[3:].sum())


def calibrate(
    samples: Sequence[Sample], mounting: Mounting, rng: np.random.Generator, threshold: float = 3.5
) -> HandEye:
    """Calibrate.

    Args:
        samples: At least 4, with the tool turned about two axes.
        mounting: Where the camera is.
        rng: Of the subsets that are tried first.
        threshold: A sample is rejected if it is off by so many times the spread of the others.

    Raises:
        ValueError: There are too few samples, or the tool was not turned.
    """
    if len(samples) < 4:
        raise ValueError(f"there are {len(samples)} samples with a board; hand-eye calibration needs 4, a good one 15")
    tools = np.stack([sample.tool for sample in samples])
    a = tools if mounting == "eye-in-hand" else poses.inverse(tools)
    b = np.stack([sample.board for sample in samples])
    second = math.degrees(_turns(a)[1])
    if second < _LEAST_TURN:
        raise ValueError(
            f"the tool turned by {second:.2f}° (standard deviation) about a second axis, less than {_LEAST_TURN:g}°: "
            "turn it by 30° and more about two axes, not only about one"
        )
    x, z = _first_guess(a, b, rng)
    kept = np.ones(len(samples), dtype=bool)
    for _ in range(10):
        x, z = _refine(a[kept], b[kept], x, z)
        off = _distances(a, b, x, z)
        limit = np.maximum(threshold * np.median(off[kept], axis=0) / 1.18, _FLOOR)
        now = np.all(off <= limit, axis=1)
        if now.sum() < 4 or np.array_equal(now, kept):
            break
        kept = now
    x, z = _refine(a[kept], b[kept], x, z)
    covariance, held_out = _leave_one_out(a, b, kept, x, z)
    return HandEye(
        mounting=mounting,
        camera=x,
        board=z,
        covariance=covariance,
        names=tuple(sample.name for sample in samples),
        kept=kept,
        residuals=_distances(a, b, x, z),
        held_out=held_out,
        methods=_compare(a[kept], b[kept]),
        turns=_turns(a[kept]),
    )


def shortcomings(found: HandEye, limits: HandEyeLimits | None = None) -> list[str]:
    """Why a calibration is not good enough, each with what to do; empty if it is."""
    limits = limits or HandEyeLimits()
    count, rejected = int(found.kept.sum()), 1.0 - float(found.kept.mean())
    second = math.degrees(found.turns[1])
    mm, degrees = 1e3 * found.residual[0], math.degrees(found.residual[1])
    sure_mm, sure_degrees = 1e3 * found.deviation[0], math.degrees(found.deviation[1])
    checks = (
        (count >= limits.samples, f"{count} samples are left, fewer than {limits.samples}: take more"),
        (
            second >= limits.rotation,
            f"the tool turned by {second:.1f}° (standard deviation) about a second axis, less than "
            f"{limits.rotation:g}°: turn it by 30° and more about two axes, not only about one",
        ),
        (
            rejected <= limits.rejected,
            f"{100.0 * rejected:.0f} % of the samples do not fit the others, more than "
            f"{100.0 * limits.rejected:.0f} %: did the board move, or are poses and pictures in another order?",
        ),
        (
            mm <= limits.residual[0] and degrees <= limits.residual[1],
            f"samples are {mm:.2f} mm and {degrees:.2f}° off, more than {limits.residual[0]:g} mm or "
            f"{limits.residual[1]:g}°: is the camera calibrated, the board of the stated squares, the mount stiff?",
        ),
        (
            sure_mm <= limits.deviation[0] and sure_degrees <= limits.deviation[1],
            f"the camera's pose is uncertain by {sure_mm:.2f} mm and {sure_degrees:.2f}°, more than "
            f"{limits.deviation[0]:g} mm or {limits.deviation[1]:g}°: take more samples, turned further",
        ),
    )
    return [reason for good, reason in checks if not good]


def _changes(a: np.ndarray, b: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What is missing (N, 6) from A X B to Z."""
    return poses.change_between(a @ x @ b, z)


def _distances(a: np.ndarray, b: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    off = _changes(a, b, x, z)
    return np.stack([np.linalg.norm(off[:, :3], axis=1), np.linalg.norm(off[:, 3:], axis=1)], axis=1)


def _board_of(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The mean (4, 4) of A X B."""
    every = a @ x @ b
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = poses.mean_rotation(every[:, :3, :3]), every[:, :3, 3].mean(axis=0)
    return found


def _refine(
    a: np.ndarray, b: np.ndarray, x: np.ndarray, z: np.ndarray, steps: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares by Gauss and Newton; m and rad are weighted by the residuals' own spread."""
    for _ in range(steps):
        off = _changes(a, b, x, z)
        spread = np.maximum(np.sqrt((off.reshape(-1, 2, 3) ** 2).mean(axis=(0, 2))), 1e-7)
        weights = np.repeat(1.0 / spread, 3)
        turn = a[:, :3, :3]
        swing = -turn @ rotation.skew((x[:3, :3] @ b[:, :3, 3, None])[..., 0])
        jacobian = np.zeros((len(a), 6, 12))
        jacobian[:, :3, 0:3], jacobian[:, :3, 3:6], jacobian[:, 3:, 3:6] = turn, swing, turn
        jacobian[:, :, 6:] = -np.eye(6)
        step = np.linalg.lstsq(
            (jacobian * weights[:, None]).reshape(-1, 12), (off * weights).ravel(), rcond=None
        )[0]  # fmt: skip
        x, z = poses.changed(x, step[:6]), poses.changed(z, step[6:])
        if np.abs(step).max() < 1e-10:
            break
    return x, z


def _first_guess(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """X and Z of the subset of samples that most others agree with."""
    cv2 = opencv()
    count = len(a)
    size = min(count, 6)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for trial in range(_GUESSES):
        chosen = np.arange(count) if trial == 0 else rng.choice(count, size, replace=False)
        found = _hand_eye(a[chosen], b[chosen], cv2.CALIB_HAND_EYE_PARK)
        if found is None:
            continue
        board = _board_of(a[chosen], b[chosen], found)
        score = float((np.median(_distances(a, b, found, board), axis=0) / _NOMINAL).sum())
        if best is None or score < best[0]:
            best = (score, found, board)
    if best is None:
        raise ValueError("no camera pose fits the samples: turn the tool about two axes by 30° and more between them")
    return best[1], best[2]


def _hand_eye(a: np.ndarray, b: np.ndarray, method: int) -> np.ndarray | None:
    cv2 = opencv()
    return _solved(
        lambda: cv2.calibrateHandEye(
            list(a[:, :3, :3]), list(a[:, :3, 3:]), list(b[:, :3, :3]), list(b[:, :3, 3:]), method=method
        )
    )


def _robot_world(a: np.ndarray, b: np.ndarray, method: int) -> np.ndarray | None:
    cv2 = opencv()
    c = poses.inverse(a)
    found = _solved(
        lambda: cv2.calibrateRobotWorldHandEye(
            list(b[:, :3, :3]), list(b[:, :3, 3:]), list(c[:, :3, :3]), list(c[:, :3, 3:]), method=method
        )[2:]
    )
    return None if found is None else poses.inverse(found)


def _solved(solve: Any) -> np.ndarray | None:
    """Rotation and translation as (4, 4), None if the method fails."""
    try:
        turn, shift = solve()
    except opencv().error:
        return None
    if not (np.all(np.isfinite(turn)) and np.all(np.isfinite(shift))) or abs(np.linalg.det(turn) - 1.0) > 0.2:
        return None
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = poses.mean_rotation(np.asarray(turn)[None]), np.ravel(shift)
    return found


def _compare(a: np.ndarray, b: np.ndarray) -> dict[str, tuple[np.ndarray, float, float]]:
    cv2 = opencv()
    tried = {
        "Tsai": _hand_eye(a, b, cv2.CALIB_HAND_EYE_TSAI),
        "Park": _hand_eye(a, b, cv2.CALIB_HAND_EYE_PARK),
        "Horaud": _hand_eye(a, b, cv2.CALIB_HAND_EYE_HORAUD),
        "Andreff": _hand_eye(a, b, cv2.CALIB_HAND_EYE_ANDREFF),
        "Daniilidis": _hand_eye(a, b, cv2.CALIB_HAND_EYE_DANIILIDIS),
        "Shah": _robot_world(a, b, cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH),
        "Li": _robot_world(a, b, cv2.CALIB_ROBOT_WORLD_HAND_EYE_LI),
    }
    found = {}
    for name, x in tried.items():
        if x is not None:
            off = np.sqrt((_distances(a, b, x, _board_of(a, b, x)) ** 2).mean(axis=0))
            found[name] = (x, float(off[0]), float(off[1]))
    return found


def _leave_one_out(
    a: np.ndarray, b: np.ndarray, kept: np.ndarray, x: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    held_out = _distances(a, b, x, z)  # a rejected sample was left out already
    chosen = np.flatnonzero(kept)
    moves = []
    for index in chosen:
        rest = chosen[chosen != index]
        x_, z_ = _refine(a[rest], b[rest], x, z, steps=4)
        held_out[index] = _distances(a[[index]], b[[index]], x_, z_)[0]
        moves.append(poses.change_between(x, x_))
    spread = np.array(moves) - np.mean(moves, axis=0)
    return (len(chosen) - 1) / len(chosen) * spread.T @ spread, held_out


def _turns(a: np.ndarray) -> np.ndarray:
    middle = poses.mean_rotation(a[:, :3, :3])
    away = rotation.to_rotation_vector(poses.quaternions_of(middle.T @ a[:, :3, :3]))
    return np.sqrt(np.maximum(0.0, np.linalg.eigvalsh(away.T @ away / len(away))[::-1]))
