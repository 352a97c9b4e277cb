"""Tasks as cameras see them."""

import dataclasses

import numpy as np
import pytest
import torch

from policies.observations import needed_signals, observation_size
from policies.types import ArmState
from robot_rl.errors import UserError
from robot_rl.seeing import build_seen, seen_by, with_images, without_poses
from sim.tasks import TASKS

TASK = TASKS["arm-pick-lift"]


def test_a_camera_gives_pictures_of_the_wanted_size_and_the_others_stay():
    task = seen_by(TASK, {"wrist": (24, 32)})
    before = {camera.name: camera for camera in TASK.scene.cameras}
    for camera in task.scene.cameras:
        wanted = (24, 32) if camera.name == "wrist" else (before["front"].height, before["front"].width)
        assert (camera.height, camera.width) == wanted
    assert seen_by(TASK, {}) is TASK
    with pytest.raises(UserError, match="no camera 'top'; it has front, wrist"):
        seen_by(TASK, {"top": (8, 8)})


def test_nothing_is_told_of_objects():
    task = without_poses(TASK)
    assert "objects" in needed_signals(TASK.terms)
    assert "objects" not in needed_signals(task.terms)
    assert 0 < observation_size(task.terms) < observation_size(TASK.terms)
    blind = dataclasses.replace(TASK, terms=TASK.terms[:1])
    with pytest.raises(UserError, match="nothing but the poses of objects"):
        without_poses(blind)


def test_pictures_are_part_of_the_measured_state():
    blank = torch.zeros(1, 7)
    state = ArmState(
        joint_positions=blank, joint_velocities=blank, joint_torques=None, tool_pose=blank, tool_twist=blank[:, :6],
        gripper_width=blank[:, 0], wrench=None, objects={}, images={},
    )  # fmt: skip
    images = {"front": torch.zeros(1, 4, 4, 3, dtype=torch.uint8)}
    assert with_images(state, {}) is state
    assert dict(with_images(state, images).images) == images
    two = with_images({"left": state, "right": state}, images)
    assert dict(two["left"].images) == images and two["right"] is state


@pytest.mark.slow
def test_one_cell_looks_the_same_in_every_episode_but_for_its_cameras():
    task = seen_by(TASK, {"front": (32, 32)})

    def corner(looks):
        env = build_seen(task, 1, cameras=("front",), looks=looks, seed=3)
        found = [env.reset()["images"]["front"][0, -4:, -4:].numpy().astype(float).mean() for _ in range(6)]
        env.close()
        return np.std(found)

    plain, cell, varied = corner("plain"), corner("cell"), corner("varied")
    assert plain < 1.0 < cell < varied
