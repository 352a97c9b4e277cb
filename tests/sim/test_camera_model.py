"""Cameras as numbers: agreement with OpenCV, inverses of each other, files of ROS calibrations."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
import yaml

from policies import rotation
from sim.camera_model import (
    CameraModel,
    camera_model,
    lens_of,
    quaternion_of,
    read_camera_model,
    scene_camera,
    write_camera_model,
)
from sim.scene import Camera

RNG = np.random.default_rng(0)
WEBCAM = CameraModel(
    name="webcam",
    width=160,
    height=120,
    fx=140.0,
    fy=138.0,
    cx=83.0,
    cy=57.5,
    distortion=(-0.3, 0.1, 0.002, -0.003, -0.01),
    position=(1.0, 0.4, 0.6),
    orientation=quaternion_of(rotation.to_matrix(np.array([0.3, 0.7, -0.4, 0.5]) / math.sqrt(0.99))),
)


def view(**changes):
    return Camera(**{"name": "front", "position": (1.2, 0.3, 0.8), "target": (0.4, -0.1, 0.1), **changes})


def in_parent(model, local):
    turn = np.broadcast_to(model.orientation, (*local.shape[:-1], 4))
    return rotation.rotate(turn, local) + np.array(model.position)


def points_before(model, count=200):
    local = RNG.uniform([-0.4, -0.3, 0.9], [0.4, 0.3, 1.5], (count, 3))
    return in_parent(model, local), local


def test_the_target_is_in_the_middle_and_up_is_up():
    model = camera_model(view(width=64, height=48))
    assert model.project(np.array([0.4, -0.1, 0.1])) == pytest.approx([31.5, 23.5])
    higher = model.project(np.array([0.4, -0.1, 0.15]))
    assert higher[1] < 23.5 and higher[0] == pytest.approx(31.5)  # rows count from the top


def test_the_frame_is_opencvs():
    model = camera_model(Camera(name="down", position=(0.0, 0.0, 1.0), target=(0.0, 0.0, 0.0), up=(1.0, 0.0, 0.0)))
    x, y, z = rotation.to_matrix(np.array(model.orientation)).T
    assert z == pytest.approx([0.0, 0.0, -1.0])  # out of the lens
    assert y == pytest.approx([-1.0, 0.0, 0.0])  # down in the image
    assert x == pytest.approx(np.cross(y, z))


def test_the_field_of_view_reaches_from_edge_to_edge():
    model = camera_model(view(width=100, height=80, field_of_view=0.9))
    top, bottom = model.directions(np.array([[49.5, -0.5], [49.5, 79.5]]))
    assert math.atan(bottom[1]) - math.atan(top[1]) == pytest.approx(0.9)


def test_projection_agrees_with_opencv():
    points, _ = points_before(WEBCAM)
    matrix = rotation.to_matrix(np.array(WEBCAM.orientation))
    turn = cv2.Rodrigues(matrix.T)[0]
    shift = -matrix.T @ np.array(WEBCAM.position)
    expected = cv2.projectPoints(points, turn, shift, WEBCAM.matrix, np.array(WEBCAM.distortion))[0][:, 0]
    np.testing.assert_allclose(WEBCAM.project(points), expected, atol=1e-9)


def test_what_is_behind_the_camera_has_no_pixel():
    behind = in_parent(WEBCAM, np.array([[0.1, 0.0, -1.0], [0.0, 0.0, 0.0]]))
    assert np.isnan(WEBCAM.project(behind)).all()


def test_directions_invert_the_projection():
    points, local = points_before(WEBCAM)
    np.testing.assert_allclose(WEBCAM.directions(WEBCAM.project(points)), local / local[:, 2:], atol=1e-7)


@pytest.mark.parametrize("model", [WEBCAM, camera_model(view())], ids=lambda m: m.name)
def test_unprojected_points_project_to_their_pixels(model):
    depth = RNG.uniform(0.5, 2.0, (model.height, model.width)).astype(np.float32)
    points = model.unproject(depth)
    columns, rows = np.meshgrid(np.arange(model.width), np.arange(model.height))
    np.testing.assert_allclose(model.project(points), np.stack([columns, rows], axis=-1), atol=1e-4)
    away = rotation.rotate_inverse(np.broadcast_to(model.orientation, (*depth.shape, 4)), points - model.position)
    np.testing.assert_allclose(away[..., 2], depth, atol=1e-6)


def test_points_that_are_infinitely_far_are_no_numbers():
    depth = np.ones((120, 160))
    depth[5, 7] = np.inf
    points = WEBCAM.unproject(depth)
    assert np.isnan(points[5, 7]).all() and np.isfinite(np.delete(points.reshape(-1, 3), 5 * 160 + 7, axis=0)).all()


def test_a_depth_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"webcam.*\(10, 10\).*\(120, 160\)"):
        WEBCAM.unproject(np.ones((10, 10)))


def test_a_mounted_camera_moves_with_its_parent():
    mounted = camera_model(view(position=(0.05, 0.0, -0.1), target=(0.0, 0.0, 0.1), up=(1, 0, 0), attached_to="arm"))
    assert mounted.parent == "arm"
    tool = np.array([0.5, 0.1, 0.3, 0.0, 1.0, 0.0, 0.0])
    seen = mounted.in_world(tool)
    assert seen.parent == ""
    local = np.array([0.02, 0.01, 0.2])
    world = rotation.rotate(tool[3:], local) + tool[:3]
    assert seen.project(world) == pytest.approx(mounted.project(local))


def test_scene_cameras_and_models_convert_into_each_other():
    camera = view(width=96, height=64, field_of_view=1.1, attached_to="arm")
    model = camera_model(camera)
    again = camera_model(scene_camera(model))
    assert again.position == model.position and again.parent == "arm"
    assert again.fx == pytest.approx(model.fx) and (again.width, again.height) == (96, 64)
    assert abs(np.dot(again.orientation, model.orientation)) == pytest.approx(1.0)


def test_quaternions_of_half_turns():
    for axis in np.eye(3):
        matrix = 2.0 * np.outer(axis, axis) - np.eye(3)
        np.testing.assert_allclose(np.abs(quaternion_of(matrix)), [0.0, *axis], atol=1e-12)


# Distorted images


def test_the_lens_has_room_for_all_that_it_bends_into_view():
    lens = lens_of(WEBCAM)
    columns, rows = lens.source[..., 0], lens.source[..., 1]
    assert lens.pinhole.is_pinhole
    assert columns.min() >= 0.0 and columns.max() <= lens.pinhole.width - 1.0
    assert rows.min() >= 0.0 and rows.max() <= lens.pinhole.height - 1.0
    assert lens.pinhole.width > WEBCAM.width  # this lens is a barrel


def test_a_bent_image_shows_each_point_where_the_model_projects_it():
    lens = lens_of(WEBCAM)
    points = in_parent(WEBCAM, np.array([[0.0, 0.0, 1.0], [0.3, 0.2, 1.0], [-0.4, -0.25, 1.0], [0.45, -0.3, 1.0]]))
    for point in points:
        column, row = lens.pinhole.project(point)
        rows, columns = np.indices((lens.pinhole.height, lens.pinhole.width))
        blob = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / 8.0)
        bent = lens.bend(blob.astype(np.float32))
        rows, columns = np.indices(bent.shape)
        found = np.array([(columns * bent).sum(), (rows * bent).sum()]) / bent.sum()
        np.testing.assert_allclose(found, WEBCAM.project(point), atol=0.05)


def test_a_lens_without_distortion_changes_nothing():
    plain = dataclasses.replace(WEBCAM, distortion=(0.0,) * 5)
    lens = lens_of(plain)
    image = RNG.integers(0, 255, (lens.pinhole.height, lens.pinhole.width, 3), dtype=np.uint8)
    left, top = round(lens.pinhole.cx - plain.cx), round(lens.pinhole.cy - plain.cy)
    np.testing.assert_array_equal(lens.bend(image), image[top : top + 120, left : left + 160])


def test_a_distortion_that_folds_the_image_is_refused():
    folded = dataclasses.replace(WEBCAM, distortion=(-2.0, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="webcam.*can't be inverted"):
        lens_of(folded)


# Files


def test_files_keep_every_number(tmp_path):
    model = dataclasses.replace(WEBCAM, parent="arm")
    write_camera_model(tmp_path / "webcam.yaml", model)
    assert read_camera_model(tmp_path / "webcam.yaml") == dataclasses.replace(
        model, orientation=pytest.approx(model.orientation)
    )


ROS = """
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [438.783367, 0.000000, 305.593336, 0.000000, 437.302876, 243.738352, 0.000000, 0.000000, 1.000000]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.361976, 0.110510, 0.001014, 0.000505, 0.000000]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
"""


def test_a_calibration_of_ros_is_read(tmp_path):
    path = tmp_path / "ost.yaml"
    path.write_text(ROS)
    model = read_camera_model(path)
    assert (model.width, model.height, model.fx, model.fy) == (640, 480, 438.783367, 437.302876)
    assert (model.cx, model.cy) == (305.593336, 243.738352)
    assert model.distortion == (-0.361976, 0.110510, 0.001014, 0.000505, 0.0)
    assert model.position == (0.0, 0.0, 0.0) and model.name == "narrow_stereo"
    assert lens_of(model).pinhole.width > 640


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distortion_model": "equidistant"}, "distortion_model is 'equidistant'"),
        ({"camera_matrix": {"data": [1.0, 2.0]}}, "camera_matrix has 2 numbers"),
        ({"camera_matrix": None}, r"camera_matrix\.data is missing"),
        ({"image_width": "wide"}, "image_width is 'wide'"),
        ({"camera_matrix": {"data": [0.0] * 9}}, "fx 0.0 and fy 0.0 must be above 0"),
        ({"pose": {"position": [0, 0, 0], "orientation": [1, 1, 0, 0]}}, "no unit quaternion"),
    ],
)
def test_wrong_files_are_refused_with_the_field(tmp_path, change, message):
    path = tmp_path / "ost.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(ROS), **change}))
    with pytest.raises(ValueError, match=message):
        read_camera_model(path)
