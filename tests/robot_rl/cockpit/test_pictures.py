"""What the pages see: shapes with their poses, and pictures of the newest state only."""

from __future__ import annotations

import time

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
pytest.importorskip("mujoco")

from robot_rl.cockpit.pictures import CODE_BITS, CODE_PIXELS, PictureMaker, Snapshot, draw_code  # noqa: E402
from robot_rl.cockpit.shapes import SceneShapes  # noqa: E402
from sim.factory import make  # noqa: E402
from sim.look import ArmLook  # noqa: E402


@pytest.fixture
def look():
    env = make("arm-pick-lift", randomization="none")
    env.reset()
    yield ArmLook(env)
    env.close()


def read_code(jpeg):
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    middle = CODE_PIXELS // 2
    return sum(
        int(image[middle, bit * CODE_PIXELS + middle].mean() > 127) << (CODE_BITS - 1 - bit) for bit in range(CODE_BITS)
    )


@pytest.mark.parametrize("number", [0, 1, 0xBEEF, 2**CODE_BITS + 7])
def test_the_code_survives_jpeg(number):
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    draw_code(image, number)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert read_code(jpeg) == number % 2**CODE_BITS


def test_shapes_are_told_once_and_poses_are_where_things_are(look):
    shapes = SceneShapes(look)
    poses = np.frombuffer(shapes.poses(), np.float32).reshape(-1, 7)
    told = shapes.changed()
    assert shapes.changed() is None
    cube = told["bodies"].index("cube")
    np.testing.assert_allclose(poses[cube], look.env.engine.pose("cube")[0], atol=1e-5)
    (box,) = [shape for shape in told["shapes"] if shape["body"] == cube]
    assert box["kind"] == "box" and box["size"] == pytest.approx([0.02] * 3)
    assert len(poses) == len(told["bodies"]) and {"look.goal"} <= set(told["bodies"])
    np.testing.assert_allclose(np.linalg.norm(poses[:, 3:], axis=1), 1.0, atol=1e-5)


def test_a_slow_renderer_skips_states_and_ends_with_the_newest(look):
    made = []

    def publish(camera, at, jpeg):
        made.append((camera, at, jpeg))
        time.sleep(0.03)

    pictures = PictureMaker(look, (), publish, size=(160, 120), stamped=True)
    try:
        for number in range(50):
            pictures.show(Snapshot(at=float(number), state=look.engine.state(), values={}))
            time.sleep(0.005)
        end = time.monotonic() + 20.0
        while not (made and made[-1][:2] == (1, 49.0)):
            assert time.monotonic() < end and not pictures.problem, pictures.problem
            time.sleep(0.01)
    finally:
        pictures.close()
    times = [at for camera, at, _ in made if camera == 0]
    assert times == sorted(times) and len(times) < 45
    assert cv2.imdecode(np.frombuffer(made[-1][2], np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    assert [read_code(jpeg) for camera, _, jpeg in made if camera == 0] == list(range(len(times)))


def test_nobody_who_looks_on_costs_nothing(look):
    made = []
    pictures = PictureMaker(look, (), lambda *given: made.append(given), wanted=lambda: False)
    pictures.show(Snapshot(at=0.0, state=look.engine.state(), values={}))
    time.sleep(0.3)
    pictures.close()
    assert not made and pictures.made == 0
