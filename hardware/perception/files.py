"""Calibration files: what ROS reads as `camera_info`, with the camera's place and its uncertainty beside it."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from hardware.perception import poses
from hardware.perception.hand_eye import HandEye, Mounting
from policies.camera import CameraModel, read_camera_model, write_camera_model

COLUMNS = ("picture", "x", "y", "z", "qw", "qx", "qy", "qz")
"""Of a file of tool poses: m in the base, quaternion wxyz."""
_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True, kw_only=True, eq=False)
class MountedCamera:
    """A calibrated camera whose place on or beside an arm is known."""

    model: CameraModel
    """With its pose in `parent`."""
    mounting: Mounting
    """`eye-in-hand`: its pose is in the tool; `eye-to-hand`: in the base."""
    matrix: np.ndarray
    """Shape (4, 4): parent_T_camera."""
    covariance: np.ndarray
    """Shape (6, 6): of a small change of it."""


def write_mounted_camera(path: Path, camera: CameraModel, found: HandEye, arm: str) -> None:
    """Write intrinsics and place in one file; `sim` reads it as a camera of a scene.

    Args:
        path: File to write.
        camera: Its intrinsics.
        found: Its place.
        arm: Name of the arm in scenes, whose tool is the parent of an eye in hand. That of an eye to hand is "", the
            world, which is the base of an arm that stands at the origin.
    """
    pose = poses.to_pose(found.camera)
    parent = arm if found.mounting == "eye-in-hand" else ""
    placed = dataclasses.replace(
        camera, position=tuple(pose[:3].tolist()), orientation=tuple(pose[3:].tolist()), parent=parent
    )
    write_camera_model(path, placed)
    more = {"hand_eye": {"mounting": found.mounting, "covariance": found.covariance.ravel().tolist()}}
    path.write_text(path.read_text() + yaml.safe_dump(more, sort_keys=False, default_flow_style=None))


def read_mounted_camera(path: Path) -> MountedCamera:
    """Read what `write_mounted_camera` wrote.

    Raises:
        ValueError: It is no such file.
    """
    model = read_camera_model(path)
    entry = (yaml.safe_load(path.read_text()) or {}).get("hand_eye")
    if not isinstance(entry, dict) or entry.get("mounting") not in ("eye-in-hand", "eye-to-hand"):
        raise ValueError(f"{path} has no hand_eye.mounting; make it with: robot-rl calibrate hand-eye")
    covariance = np.array(entry.get("covariance", np.zeros(36)), dtype=float)
    if covariance.size != 36 or not np.all(np.isfinite(covariance)):
        raise ValueError(f"{path}: hand_eye.covariance has {covariance.size} numbers; expected 36 finite ones")
    return MountedCamera(
        model=model,
        mounting=entry["mounting"],
        matrix=poses.to_matrix(np.array([*model.position, *model.orientation])),
        covariance=covariance.reshape(6, 6),
    )


def read_tool_poses(path: Path) -> dict[str, np.ndarray]:
    """base_T_tool (4, 4) by name of the picture, from a CSV file with the header `COLUMNS`.

    Raises:
        ValueError: A column is missing, or a row has no pose.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path} lacks the column {', '.join(missing)}; its first line has to be {','.join(COLUMNS)}"
            )
        found: dict[str, np.ndarray] = {}
        for row in reader:
            try:
                pose = np.array([float(row[name]) for name in COLUMNS[1:]])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
            if not np.all(np.isfinite(pose)) or abs(np.linalg.norm(pose[3:]) - 1.0) > _UNIT_TOLERANCE:
                raise ValueError(f"{path}, line {reader.line_num}: {pose.tolist()} is no position and unit quaternion")
            if row["picture"] in found:
                raise ValueError(f"{path}, line {reader.line_num}: {row['picture']} is there twice")
            found[row["picture"]] = poses.to_matrix(pose)
    return found
