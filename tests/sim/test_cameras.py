"""What cameras see: geometry against projection and rays, environments apart, no GL library where none is needed."""

import dataclasses
import importlib
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from hardware.descriptions import load_arm
from policies import rotation
from sim import gl
from sim.appearance import Appearance, apply_appearance
from sim.camera_model import camera_model, scene_camera
from sim.camera_observations import CameraObservations
from sim.cameras import Cameras, overview_camera
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.image_randomization import MODERATE, ImageRandomization
from sim.scene import Body, Camera, Scene, Shape

CUBE = Body(name="cube", shapes=(Shape(kind="box", size=(0.025, 0.025, 0.025), color=(0.8, 0.1, 0.1, 1.0)),))
FRONT = Camera(name="front", position=(1.1, 0.3, 0.6), target=(0.4, 0.0, 0.1))
WRIST = Camera(
    name="wrist",
    position=(0.07, 0.0, -0.06),
    target=(0.0, 0.0, 0.06),
    up=(1.0, 0.0, 0.0),
    field_of_view=1.2,
    attached_to="arm",
)
SCENE = Scene(bodies=(CUBE,), cameras=(FRONT, WRIST))
POINT = (0.55, 0.12, 0.09)
"""Where a small luminous ball hangs."""


@pytest.fixture(scope="session")
def display():
    """Skip, and say why, where no image can be rendered."""
    try:
        context = gl.open_context(16, 16)
    except RuntimeError as error:
        pytest.skip(str(error))
    context.free()


def engine_of(scene=SCENE, num_envs=1, cubes=None):
    engine = MujocoEngine(scene, num_envs)
    joints = np.tile(load_arm("panda").home, (num_envs, 1))
    poses = {}
    if any(body.name == "cube" for body in scene.bodies):
        poses["cube"] = np.tile([0.5, 0.0, 0.025, 1.0, 0.0, 0.0, 0.0], (num_envs, 1))
        poses["cube"][:, 1] = np.zeros(num_envs) if cubes is None else cubes
    engine.place(np.arange(num_envs), Placement(joints={"arm": joints}, poses=poses))
    return engine


def ball_scene(*cameras, radius=0.018):
    ball = Body(
        name="ball",
        motion="fixed",
        position=POINT,
        shapes=(Shape(kind="sphere", size=(radius,), color=(0.0, 1.0, 0.0, 1.0), collides=False),),
    )
    return Scene(bodies=(ball,), cameras=cameras)


def middle_of_green(image):
    color = image.astype(float)
    green = (color[..., 1] > 60) & (color[..., 1] > 2.0 * color[..., 0]) & (color[..., 1] > 2.0 * color[..., 2])
    rows, columns = np.nonzero(green)
    assert len(rows) > 8, "the ball is not in the image"
    return np.array([columns.mean(), rows.mean()])


# Geometry


CALIBRATED = {
    "pinhole": {},
    "off centre": {"cx": 100.3, "cy": 70.8, "fx": 190.0, "fy": 175.0},
    "barrel": {"distortion": (-0.35, 0.12, 0.002, -0.001, 0.0)},
    "pincushion": {"distortion": (0.25, 0.05, -0.002, 0.003, 0.0), "cx": 75.0},
}


AIMS = [(0.55, 0.12, 0.09), (0.3, -0.1, 0.2), (0.62, 0.4, 0.0), (0.45, 0.3, 0.25)]
"""So that the ball is in the middle, and near three edges."""


@pytest.mark.parametrize("kind", CALIBRATED)
def test_a_point_appears_where_the_model_projects_it(display, kind):
    shifts = []
    views = [
        Camera(name=f"view{i}", position=(1.1, 0.3, 0.6), target=aim, field_of_view=1.1, width=176, height=144)
        for i, aim in enumerate(AIMS)
    ]
    models = {view.name: dataclasses.replace(camera_model(view), **CALIBRATED[kind]) for view in views}
    scene = ball_scene(*(scene_camera(model) for model in models.values()))
    with Cameras(engine_of(scene), models=models) as cameras:
        for view in views:
            image = cameras.render(0, view.name)
            assert image.shape == (144, 176, 3) and image.dtype == np.uint8
            expected = models[view.name].project(np.array(POINT))
            assert np.linalg.norm(middle_of_green(image) - expected) < 1.0
            shifts.append(np.linalg.norm(camera_model(view).project(np.array(POINT)) - expected))
    # The calibration matters: without it the point would be elsewhere.
    assert kind == "pinhole" or max(shifts) > 2.0


def test_a_camera_on_the_wrist_sees_by_the_tools_pose(display):
    engine = engine_of(ball_scene(WRIST, radius=0.006))
    tool = engine.pose("arm/tool")[0]
    with Cameras(engine) as cameras:
        seen = camera_model(WRIST).in_world(tool)
        np.testing.assert_allclose(cameras.pose(0, "wrist")[:3], seen.position, atol=1e-9)
        assert abs(cameras.pose(0, "wrist")[3:] @ np.array(seen.orientation)) == pytest.approx(1.0)
        expected = seen.project(np.array(POINT))
        assert np.linalg.norm(middle_of_green(cameras.render(0, "wrist")) - expected) < 1.0


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_depth_agrees_with_rays(display, camera):
    engine = engine_of()
    with Cameras(engine) as cameras:
        model, pose = cameras.model(camera), cameras.pose(0, camera)
        color, depth = cameras.render_depth(0, camera)
        np.testing.assert_array_equal(color, cameras.render(0, camera))
    assert depth.shape == (128, 128) and depth.dtype == np.float32
    columns, rows = np.meshgrid(np.arange(2, 128, 5), np.arange(2, 128, 5))
    directions = model.directions(np.stack([columns, rows], axis=-1)).reshape(-1, 3)
    rays = rotation.rotate(np.broadcast_to(pose[3:], (len(directions), 4)), directions)
    shown = np.array([1, 1, 1, 0, 0, 0], np.uint8)  # what is drawn
    distance, geom = engine.batch.ray(pose[:3], rays, geomgroup=shown)
    # mj_ray measures in lengths of the direction, whose z is 1: that is depth along the axis.
    expected, found = distance[0], depth[rows, columns].ravel()
    flat = geom[0] == engine.model.geom("table").id
    assert flat.sum() > 50
    error = np.abs(found - expected)[geom[0] >= 0]
    assert np.median(error) < 5e-4
    assert np.quantile(error, 0.9) < 3e-3  # curves are drawn with few corners
    assert np.quantile(np.abs(found - expected)[flat], 0.9) < 1e-4


def test_unprojected_depth_gives_the_scene_back(display):
    with Cameras(engine_of()) as cameras:
        _, depth = cameras.render_depth(0, "front")
        model = cameras.model("front")
    points = model.unproject(depth)
    row, column = (int(v) for v in np.rint(model.project(np.array([0.5, 0.0, 0.05])))[::-1])
    np.testing.assert_allclose(points[row, column], [0.5, 0.0, 0.05], atol=8e-3)
    table = np.abs(points[..., 2]) < 1e-3
    assert table.mean() > 0.4


def test_nothing_is_infinitely_far(display):
    up = Camera(name="up", position=(1.0, 0.0, 0.5), target=(2.0, 0.0, 1.5))
    with Cameras(engine_of(Scene(cameras=(up,)))) as cameras:
        color, depth = cameras.render_depth(0, "up")
    assert np.isinf(depth).all() and (depth > 0).all()
    assert color.mean() > 100  # the sky is bright


def test_distorted_images_have_no_black_borders(display):
    down = Camera(name="down", position=(0.5, 0.3, 0.25), target=(0.5, 0.3, 0.0), up=(1.0, 0.0, 0.0))
    model = dataclasses.replace(camera_model(down), distortion=(-0.4, 0.15, 0.0, 0.0, 0.0))
    with Cameras(engine_of(Scene(cameras=(down,))), models={"down": model}) as cameras:
        color, depth = cameras.render_depth(0, "down")
    assert color.max(axis=-1).min() > 60  # nothing but table
    np.testing.assert_allclose(depth, 0.25, atol=2e-4)


# Environments


def test_environments_are_seen_apart_and_in_any_order(display):
    engine = engine_of(num_envs=3, cubes=[-0.15, 0.0, 0.15])
    with Cameras(engine) as cameras:
        first = [cameras.render(i, "front") for i in range(3)]
        again = [cameras.render(i, "front") for i in (2, 0, 1)]
        batch = cameras.images("front", [2, 1])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(first[i].astype(int) - first[j]).max() > 50
    for order, i in enumerate((2, 0, 1)):
        np.testing.assert_array_equal(again[order], first[i])
    np.testing.assert_array_equal(batch, np.stack([first[2], first[1]]))


def test_the_arm_is_seen_where_it_is_now(display):
    engine = engine_of()
    with Cameras(engine) as cameras:
        before = cameras.render(0, "front")
        joints = load_arm("panda").home + 0.3
        engine.place(np.arange(1), Placement(joints={"arm": joints[None]}))
        assert np.abs(cameras.render(0, "front").astype(int) - before).mean() > 2.0


def test_looking_does_not_change_physics(display):
    runs = []
    for look in (False, True):
        engine = engine_of(num_envs=2)
        with Cameras(engine) as cameras:
            for _ in range(20):
                engine.substep({"arm": np.full((2, 7), 2.0)}, {"arm": np.zeros(2)})
                if look:
                    cameras.images("wrist")
        runs.append(engine.state()["state"])
    np.testing.assert_array_equal(runs[0], runs[1])


def test_per_environment_shapes_are_drawn(display):
    engine = engine_of(num_envs=2)
    with Cameras(engine) as cameras:
        same = cameras.images("front")
        np.testing.assert_array_equal(same[0], same[1])
        engine.batch.expand("geom_size")[1, engine.model.geom("cube/0").id] = 0.06
        other = cameras.images("front")
    np.testing.assert_array_equal(other[0], same[0])
    assert (np.abs(other[1].astype(int) - same[1]).max(axis=-1) > 30).sum() > 50


# Life cycle


def test_two_renderers_live_side_by_side_and_open_again(display):
    engine = engine_of()
    fast, pretty = Cameras(engine), Cameras(engine, quality="picture")
    image = fast.render(0, "front")
    picture = pretty.render(0, overview_camera(SCENE, width=320, height=240))
    np.testing.assert_array_equal(fast.render(0, "front"), image)
    pretty.close()
    np.testing.assert_array_equal(fast.render(0, "front"), image)
    fast.close()
    fast.close()
    np.testing.assert_array_equal(fast.render(0, "front"), image)
    fast.close()
    assert picture.shape == (240, 320, 3)


@pytest.mark.parametrize("arms", [1, 2])
def test_the_overview_shows_every_arm_and_the_objects(display, arms):
    mounts = tuple(
        dataclasses.replace(SCENE.arms[0], name=f"arm{i}", position=(1.1 * i, 0.0, 0.0), yaw=math.pi * i)
        for i in range(arms)
    )
    scene = Scene(arms=mounts, bodies=(CUBE,))
    engine = MujocoEngine(scene, 1)
    home = load_arm("panda").home[None]
    cube = np.array([[0.5, 0.0, 0.025, 1.0, 0.0, 0.0, 0.0]])
    engine.place(np.arange(1), Placement(joints={mount.name: home for mount in mounts}, poses={"cube": cube}))
    camera = overview_camera(scene)
    with Cameras(engine) as cameras:
        assert cameras.render(0, camera).shape == (480, 640, 3)
    model = camera_model(camera)
    seen = [engine.pose(f"{mount.name}/tool")[0, :3] for mount in mounts] + [np.array([0.5, 0.0, 0.025])]
    seen += [np.array(mount.position) for mount in mounts]
    for point in seen:
        assert ((model.project(point) > 20) & (model.project(point) < [620, 460])).all()


def test_unknown_cameras_and_environments_are_named():
    cameras = Cameras(engine_of())
    with pytest.raises(ValueError, match=r"no camera 'back'.*\['front', 'wrist'\]"):
        cameras.render(0, "back")
    with pytest.raises(ValueError, match="no environment 4; they are numbered 0 to 0"):
        cameras.render(4, "front")
    with pytest.raises(ValueError, match="no camera 'back'"):
        Cameras(engine_of(), models={"back": camera_model(FRONT)})
    with pytest.raises(ValueError, match="'wrist' is attached"):
        cameras.render(0, WRIST)
    with pytest.raises(ValueError, match="'mujoco' only; this is object"):
        Cameras(object())


# Libraries


@pytest.fixture
def linux(monkeypatch):
    monkeypatch.setattr(gl.sys, "platform", "linux")
    monkeypatch.delenv("MUJOCO_GL", raising=False)


def test_without_a_library_the_packages_are_named(linux, monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(gl.ctypes, "CDLL", missing)
    with pytest.raises(RuntimeError, match=r"libEGL\.so\.1.*apt-get install libegl1 libgl1-mesa-dri.*MUJOCO_GL"):
        Cameras(engine_of()).render(0, "front")


def test_a_broken_driver_is_explained_with_its_cause(linux, monkeypatch):
    real = importlib.import_module

    def broken(name, *arguments):
        if name == "mujoco.egl":
            raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")
        return real(name, *arguments)

    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(gl.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match=r"MUJOCO_GL=egl.*eglQueryString.*apt-get install libegl1 libgl1-mesa-dri"):
        gl.open_context(8, 8)


def test_rendering_can_be_forbidden(linux, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(RuntimeError, match="MUJOCO_GL=disabled forbids rendering"):
        gl.open_context(8, 8)


def run_alone(program, **variables):
    keep = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=keep, timeout=100)


def test_simulation_without_cameras_loads_no_gl_library():
    program = """
import sys
import numpy as np
from sim.cameras import Cameras
from sim.camera_observations import CameraObservations
from sim.engines.mujoco import MujocoEngine
from sim.scene import Camera, Scene
engine = MujocoEngine(Scene(cameras=(Camera(name="c", position=(1, 0, 1), target=(0, 0, 0)),)), 2)
CameraObservations(engine, ["c"])
engine.substep({"arm": np.zeros((2, 7))}, {"arm": np.zeros(2)})
assert np.isfinite(engine.joints("arm")[0]).all()
loaded = [name for name in sys.modules if name.split(".")[0] == "OpenGL" or name in ("mujoco.egl", "mujoco.osmesa")]
assert not loaded, loaded
with open("/proc/self/maps") as maps:
    assert not [line for line in maps if "libEGL" in line or "libOSMesa" in line or "libGL.so" in line]
try:
    Cameras(engine).render(0, "c")
except RuntimeError as error:
    print(error)
"""
    done = run_alone(program, MUJOCO_GL="disabled")
    assert done.returncode == 0, done.stderr
    assert "apt-get install libegl1 libgl1-mesa-dri" in done.stdout and "MUJOCO_GL" in done.stdout


def test_a_program_may_end_with_an_open_camera(display):
    program = """
from sim.cameras import Cameras
from sim.engines.mujoco import MujocoEngine
from sim.scene import Camera, Scene
engine = MujocoEngine(Scene(cameras=(Camera(name="c", position=(1, 0, 1), target=(0, 0, 0)),)), 1)
cameras = Cameras(engine)
assert cameras.render(0, "c").any()
"""
    done = run_alone(program)
    assert (done.returncode, done.stderr) == (0, "")


# Random looks


LOOKS = {entry.name: 0.3 for entry in dataclasses.fields(Appearance)} | {"texture": 1.0, "light_position": 1.0}


@pytest.mark.parametrize("name", LOOKS)
def test_every_look_changes_its_environment_and_no_other(display, name):
    engine = engine_of(num_envs=2)
    with Cameras(engine) as cameras:
        before = cameras.images("front")
        apply_appearance(engine, np.array([1]), Appearance(**{name: LOOKS[name]}), np.random.default_rng(0))
        after = cameras.images("front")
    np.testing.assert_array_equal(after[0], before[0])
    assert np.abs(after[1].astype(int) - before[1]).mean() > 0.3


def test_zero_looks_change_nothing(display):
    engine = engine_of()
    with Cameras(engine) as cameras:
        before = cameras.render(0, "front")
        apply_appearance(engine, np.array([0]), Appearance(), np.random.default_rng(0))
        np.testing.assert_array_equal(cameras.render(0, "front"), before)


def test_looks_do_not_compound_and_stay_in_their_ranges():
    engine = engine_of(num_envs=4)
    ranges = Appearance(color=0.1, camera_position=0.02, camera_rotation=0.05, field_of_view=0.1, light_brightness=0.2)
    model = engine.model
    for seed in range(60):
        apply_appearance(engine, np.arange(4), ranges, np.random.default_rng(seed))
    get = engine.batch.expand
    assert np.abs(get("geom_rgba")[..., :3] - model.geom_rgba[:, :3]).max() <= 0.1 + 1e-6
    assert (get("geom_rgba")[..., 3] == model.geom_rgba[:, 3]).all()
    assert 0.0 < np.abs(get("cam_pos") - model.cam_pos).max() <= 0.02
    angle = 2.0 * np.arccos(np.abs((get("cam_quat") * model.cam_quat).sum(-1)).clip(0.0, 1.0))
    assert 0.0 < angle.max() <= 0.05 * math.sqrt(3.0) + 1e-6
    assert 0.0 < np.abs(get("cam_fovy") / model.cam_fovy - 1.0).max() <= 0.1 + 1e-6
    arms = [i for i in range(model.ngeom) if model.body(int(model.geom_bodyid[i])).name.startswith("arm/")]
    assert (get("geom_rgba")[:, arms] == model.geom_rgba[arms]).all()


def test_a_changed_field_of_view_zooms(display):
    engine = engine_of(ball_scene(Camera(name="front", position=(1.1, 0.3, 0.6), target=(0.4, 0.2, 0.2))))
    engine.batch.expand("cam_fovy")[:] *= 0.9
    nominal = math.radians(float(engine.model.cam_fovy[0]))
    with Cameras(engine) as cameras:
        found = middle_of_green(cameras.render(0, "front"))
        model = cameras.model("front")
    zoom = math.tan(nominal / 2) / math.tan(0.45 * nominal)
    zoomed = dataclasses.replace(model, fx=zoom * model.fx, fy=zoom * model.fy)
    assert np.linalg.norm(found - zoomed.project(np.array(POINT))) < 1.0


def test_looks_do_not_touch_physics():
    runs = []
    for ranges in (None, Appearance(**LOOKS)):
        engine = engine_of(num_envs=2)
        if ranges:
            apply_appearance(engine, np.arange(2), ranges, np.random.default_rng(1))
        for _ in range(30):
            engine.substep({"arm": np.full((2, 7), 1.5)}, {"arm": np.zeros(2)})
        runs.append(engine.state()["state"])
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.parametrize(("name", "value"), [("texture", 1.5), ("color", -0.1), ("field_of_view", 0.9)])
def test_senseless_looks_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Appearance(**{name: value})


# Observations


def observations(num_envs=3, **options):
    return CameraObservations(engine_of(num_envs=num_envs, cubes=0.05), ["front", "wrist"], **options)


RANDOM = {"image_randomization": MODERATE, "appearance": Appearance(color=0.2, texture=0.3, light_brightness=0.3)}


def test_observations_without_randomization_are_the_rendered_images(display):
    seen = observations()
    seen.reset(np.arange(3), torch.Generator().manual_seed(0))
    images = seen.images()
    assert {name: image.shape for name, image in images.items()} == dict.fromkeys(images, (3, 128, 128, 3))
    for name, image in images.items():
        np.testing.assert_array_equal(image, seen.cameras.images(name))
    seen.close()


def test_zero_randomization_changes_nothing(display):
    plain, zero = observations(), observations(image_randomization=ImageRandomization(), appearance=Appearance())
    for seen in (plain, zero):
        seen.reset(np.arange(3), torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(plain.images()["wrist"], zero.images()["wrist"])


def test_a_seed_repeats_all_images_and_another_does_not(display):
    runs = []
    for seed in (4, 4, 5):
        seen = observations(**RANDOM)
        seen.reset(np.arange(3), torch.Generator().manual_seed(seed))
        runs.append(np.stack([seen.images()["front"] for _ in range(3)]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert all((runs[0][:, env] != runs[2][:, env]).mean() > 0.5 for env in range(3))
    assert (runs[0][0] != runs[0][1]).mean() > 0.2  # every frame has its own noise


def test_a_reset_concerns_its_environments_only(display):
    a, b = observations(**RANDOM), observations(**RANDOM)
    for seen in (a, b):
        seen.reset(np.arange(3), torch.Generator().manual_seed(0))
        seen.images()
    b.reset(np.array([1]), torch.Generator().manual_seed(9))
    first, second = a.images()["front"], b.images()["front"]
    np.testing.assert_array_equal(first[[0, 2]], second[[0, 2]])
    assert (first[1] != second[1]).mean() > 0.5


def test_images_go_on_bit_by_bit_from_a_stored_state(display):
    held = dataclasses.replace(MODERATE, drop=(0.5, 0.5))
    options = {**RANDOM, "image_randomization": held}
    a, b = observations(**options), observations(**options)
    a.reset(np.arange(3), torch.Generator().manual_seed(0))
    for _ in range(4):
        a.images()
    b.load_state(a.state())
    for _ in range(4):
        np.testing.assert_array_equal(a.images()["wrist"], b.images()["wrist"])


@pytest.mark.slow
def test_one_core_renders_300_images_a_second(display):
    engine = engine_of(num_envs=8)
    rates = {}
    with Cameras(engine) as cameras:
        for name, look in (("color", cameras.render), ("with depth", cameras.render_depth)):
            look(0, "front")
            times = []
            for _ in range(40):
                start = time.process_time()
                for env in range(8):
                    look(env, "front")
                times.append((time.process_time() - start) / 8)
            rates[name] = 1.0 / np.median(times)
    assert min(rates.values()) > 300.0, rates
