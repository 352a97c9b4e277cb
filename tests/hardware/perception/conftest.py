"""A webcam with a lens that bends, and boards and arms in front of it whose true place is known."""

import numpy as np
import pytest

from hardware.perception import poses
from policies import rotation
from policies.camera import CameraModel


@pytest.fixture(scope="session")
def webcam():
    return CameraModel(
        name="webcam", width=640, height=480, fx=610.0, fy=612.0, cx=325.3, cy=236.1,
        distortion=(-0.28, 0.09, 0.0012, -0.0008, 0.0),
    )  # fmt: skip


@pytest.fixture(scope="session")
def marker_at():
    """camera_T_marker (4, 4) at a pixel and a distance, turned by a rotation vector from facing the camera."""

    def place(camera, pixel, distance, turn):
        pose = poses.from_vectors([np.pi, 0.0, 0.0], np.zeros(3))
        pose[:3, :3] = rotation.to_matrix(rotation.from_rotation_vector(np.asarray(turn, float))) @ pose[:3, :3]
        pose[:3, 3] = distance * camera.directions(np.asarray(pixel, float))
        return pose

    return place


@pytest.fixture(scope="session")
def board_views():
    """camera_T_board (4, 4) of `count` views: all over the picture, near and far, tilted by up to `tilt` rad."""

    def draw(camera, board, count, rng, tilt=0.6, distance=(0.3, 0.55)):
        found = []
        for index in range(count):
            turn = rng.uniform(-tilt, tilt, 3) * [1.0, 1.0, 0.5]
            pose = poses.from_vectors(turn, np.zeros(3))
            share = np.array([index % 4 + 0.5, index // 4 % 3 + 0.5]) / [4, 3]
            pixel = (0.1 + 0.8 * share) * [camera.width, camera.height]
            middle = rng.uniform(*distance) * camera.directions(pixel)
            pose[:3, 3] = middle - pose[:3, :3] @ np.array([*(0.5 * np.array(board.size)), 0.0])
            found.append(pose)
        return found

    return draw


def random_pose(rng, turn, shift):
    return poses.from_vectors(rng.uniform(-1.0, 1.0, 3) * turn, rng.uniform(-1.0, 1.0, 3) * shift)


@pytest.fixture(scope="session")
def arm_views():
    """Tool poses and, by the truth, board poses: (base_T_tool, camera_T_board) for a camera X and a board Z."""

    def draw(x, z, count, rng, mounting="eye-in-hand", turn=0.6):
        found = []
        for _ in range(count):
            b = random_pose(rng, [turn, turn, turn], [0.08, 0.06, 0.1])
            b[2, 3] += 0.45
            # A X B = Z
            a = z @ poses.inverse(x @ b)
            found.append((a if mounting == "eye-in-hand" else poses.inverse(a), b))
        return found

    return draw
