"""What a policy sees is the same through the simulated camera and through another one that stands in its place."""

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from hardware.descriptions import load_arm  # noqa: E402
from policies.pictures import View, pinhole_view, preparation  # noqa: E402
from sim import gl  # noqa: E402
from sim.camera_model import camera_model  # noqa: E402
from sim.camera_observations import CameraObservations  # noqa: E402
from sim.engines.base import Placement  # noqa: E402
from sim.engines.mujoco import MujocoEngine  # noqa: E402
from sim.scene import Body, Camera, Scene, Shape  # noqa: E402

CUBE = Body(
    name="cube", motion="fixed", position=(0.5, 0.05, 0.1),
    shapes=(Shape(kind="box", size=(0.05, 0.05, 0.05), color=(0.8, 0.1, 0.1, 1.0)),),
)  # fmt: skip
TRAINED = Camera(
    name="front", position=(1.1, 0.3, 0.6), target=(0.4, 0.0, 0.1), field_of_view=0.7, width=96, height=96
)  # fmt: skip


def engine_of(camera):
    try:
        gl.open_context(16, 16).free()
    except RuntimeError as error:
        pytest.skip(str(error))
    engine = MujocoEngine(Scene(bodies=(CUBE,), cameras=(camera,)), 2)
    engine.place(np.arange(2), Placement(joints={"arm": np.tile(load_arm("panda").home, (2, 1))}, poses={}))
    return engine


def images_of(camera, **options):
    seen = CameraObservations(engine_of(camera), ["front"], **options)
    seen.reset(np.arange(2), torch.Generator().manual_seed(0))
    images = seen.images()["front"]
    seen.close()
    return images


def test_a_robots_camera_shows_what_the_simulated_one_did():
    view = pinhole_view(camera_model(TRAINED))
    trained = images_of(TRAINED)
    wide = dataclasses.replace(TRAINED, width=480, height=360, field_of_view=0.9)
    bent = dataclasses.replace(camera_model(wide), distortion=(-0.25, 0.08, 0.001, -0.001, 0.0), cx=245.0)
    found = images_of(wide, models={"front": bent}, views={"front": ((96, 96), view)})
    assert found.shape == trained.shape == (2, 96, 96, 3)
    away = np.abs(found.astype(float) - trained)
    assert away.mean() < 4.0
    # Edges are smooth in one and jagged in the other; nothing is elsewhere: a shift by two pixels is far worse.
    for shift in ((0, 2), (2, 0)):
        moved = np.roll(found, shift, axis=(1, 2)).astype(float)
        assert np.abs(moved - trained)[:, 4:-4, 4:-4].mean() > 1.5 * away[:, 4:-4, 4:-4].mean()


def test_the_trained_view_of_the_trained_camera_changes_no_bit():
    view = pinhole_view(camera_model(TRAINED))
    assert preparation((96, 96), view, camera_model(TRAINED)).places is None
    np.testing.assert_array_equal(images_of(TRAINED, views={"front": ((96, 96), view)}), images_of(TRAINED))


def test_views_that_cannot_be_shown_are_refused():
    engine = engine_of(TRAINED)
    with pytest.raises(ValueError, match="a view is given of camera 'back'; seen are front"):
        CameraObservations(engine, ["front"], views={"back": ((8, 8), View())})
    wider = dataclasses.replace(TRAINED, field_of_view=1.2)
    with pytest.raises(ValueError, match="does not reach over"):
        CameraObservations(engine, ["front"], views={"front": ((96, 96), pinhole_view(camera_model(wider)))})


def test_a_bundle_states_the_view_of_its_tasks_cameras():
    from robot_rl.export import _views
    from sim.tasks import TASKS

    task = TASKS["arm-push"]
    camera = camera_model(task.scene.cameras[0])
    views = _views(task, {camera.name: (32, 40)})
    assert set(views) == {camera.name}
    fx, fy, cx, cy = views[camera.name].pinhole
    # The edges of the picture are the same rays at every size.
    assert (-0.5 - cx) / fx == pytest.approx((-0.5 - camera.cx) / camera.fx)
    assert (31.5 - cy) / fy == pytest.approx((camera.height - 0.5 - camera.cy) / camera.fy)
