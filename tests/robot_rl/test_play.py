"""Playing: outcomes, clock, controls, looks that follow the truth, and the browser's page."""

import dataclasses
import threading
import time
import urllib.request

import mujoco
import numpy as np
import pytest
import torch

from hardware.descriptions import load_arm
from robot_rl import cli, play, play_window
from robot_rl.errors import UserError
from robot_rl.play import PlayConfig, open_stage
from robot_rl.play_controls import Clock, Controls
from robot_rl.play_stage import Frames
from sim.look import copy_state
from sim.quadrotor_look import LIFT
from sim.tasks import TASKS


def stage_of(task="arm-pick-lift", **arguments):
    return open_stage(PlayConfig(task=task, randomization="none", **arguments))


class Watcher:
    """A viewer that counts."""

    def __init__(self, controls=None, after=None, then=None):
        self.times, self.episodes = [], 0
        self.controls, self.after, self.then = controls, after, then

    def begin(self):
        self.episodes += 1

    def show(self):
        self.times.append(time.monotonic())
        if self.after is not None and len(self.times) == self.after:
            self.then(self.controls)

    def alive(self):
        return True

    def close(self):
        pass


# Looks


@pytest.mark.parametrize("engine", ["mujoco", "pybullet"])
@pytest.mark.parametrize("task", ["arm-pick-lift", "arm-peg-insert"])
def test_a_look_stands_where_the_engine_says(task, engine):
    if engine == "pybullet":
        pytest.importorskip("pybullet")
    stage = stage_of(task, engine=engine)
    stage.begin()
    for _ in range(3):
        stage.advance(lambda _: None)
    stage.look.update()
    model = stage.look.engine.batch.get_model(0)
    data = mujoco.MjData(model)
    copy_state(stage.look, model, data)
    names = [body.name for body in stage.task.scene.bodies if body.motion != "fixed"]
    assert names
    for name in [*names, *(f"{arm.name}/tool" for arm in stage.task.scene.arms)]:
        found = np.concatenate([data.body(name).xpos, data.body(name).xquat])
        np.testing.assert_allclose(found, stage.env.engine.pose(name)[0], atol=2e-3)
    goal = data.body(stage.look.marks[0]).xpos
    expected = stage.env.setpoint.tool_pose[0, :3].numpy()
    assert goal[2] < -10.0 if np.allclose(expected, 0.0) else np.allclose(goal, expected, atol=1e-6)
    stage.close()


def test_a_look_does_not_change_what_happens():
    played, alone = (stage_of("arm-push", seed=3) for _ in range(2))
    for stage in (played, alone):
        stage.begin()
    for _ in range(5):
        played.advance(lambda _: played.look.update())
        alone.advance(lambda _: None)
    torch.testing.assert_close(played.env.view.arm.tool_pose, alone.env.view.arm.tool_pose, rtol=0.0, atol=0.0)
    assert played.episode == alone.episode


def test_a_quadrotor_flies_over_its_floor():
    stage = stage_of("quadrotor-hover", bundle="zero")
    stage.begin()
    start = stage.env.state.position[0].numpy().copy()
    for _ in range(30):
        stage.advance(lambda _: None)
        stage.look.update()
    position = stage.env.state.position[0].numpy()
    assert np.linalg.norm(position - start) > 0.02
    shown = stage.look.engine.pose("quadrotor")[0]
    np.testing.assert_allclose(shown[:3] - position, [0.0, 0.0, LIFT], atol=1e-6)
    np.testing.assert_allclose(shown[3:], stage.env.state.orientation[0].numpy(), atol=1e-6)
    camera = stage.look.camera()
    assert np.linalg.norm(np.subtract(camera.position, shown[:3])) < 3.0


def test_a_quadrotor_looks_as_it_is_described():
    stage = stage_of("quadrotor-hover", bundle="zero")
    shapes = stage.look.engine.scene.body("quadrotor").shapes
    rotors = [shape for shape in shapes if shape.kind == "cylinder" and shape.color[3] < 1.0]
    assert len(rotors) == 4
    front = [shape for shape in rotors if shape.position[0] > 0.0]
    rear = [shape for shape in rotors if shape.position[0] < 0.0]
    assert len(front) == len(rear) == 2 and front[0].color != rear[0].color


# Episodes


def test_moments_come_at_every_time_step_of_physics():
    stage = stage_of("arm-reach")
    stage.begin()
    times = []
    stage.advance(times.append)
    stage.advance(times.append)
    dt = stage.env.engine.scene.timestep
    np.testing.assert_allclose(times, dt * np.arange(1, 2 * stage.env.loop.substeps + 1), atol=1e-9)


def test_frames_are_even():
    frames = Frames(1.0 / 30.0)
    due = [k for k in range(501) if frames.due(0.002 * k)]
    assert len(due) == 31
    assert np.abs(0.002 * np.array(due) - np.arange(31) / 30.0).max() < 0.0021
    assert due[-1] == 500


def test_the_expert_ends_with_success(capsys):
    stage = stage_of("arm-reach")
    play.play(stage, Controls(), 2, None, None)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" after ")[0] for line in said] == ["episode 1: success", "episode 2: success"]
    assert stage.episode.time <= TASKS["arm-reach"].episode_length


def test_doing_nothing_runs_out_of_time_or_fails(capsys):
    stage = stage_of("quadrotor-hover", bundle="zero")
    play.play(stage, Controls(), 1, None, None)
    assert stage.episode.outcome in {"failed", "time-out"} and stage.episode.outcome in capsys.readouterr().out


def test_random_play_is_repeatable():
    ends = []
    for _ in range(2):
        stage = stage_of("arm-reach", bundle="random", seed=5)
        stage.begin()
        for _ in range(3):
            stage.advance(lambda _: None)
        ends.append(stage.env.view.arm.tool_pose)
    torch.testing.assert_close(ends[0], ends[1], rtol=0.0, atol=0.0)


def test_what_cannot_play_is_refused():
    with pytest.raises(UserError, match="no scripted expert"):
        stage_of("quadrotor-hover", bundle="expert")
    with pytest.raises(UserError, match="moves a quadrotor"):
        stage_of("arm-reach", bundle="quadrotor-hover")
    with pytest.raises(UserError, match="did you mean 'arm-reach'"):
        stage_of("arm-raech")
    with pytest.raises(UserError, match="no setting"):
        stage_of("arm-reach", set=("tolerence=1",))


# Clock and controls


def test_the_clock_keeps_real_time_and_speed():
    controls = Controls(4.0)
    clock = Clock(controls)
    clock.restart(0.0)
    start = time.monotonic()
    for k in range(1, 11):
        clock.wait(0.2 * k)
    took = time.monotonic() - start
    assert took + 1e-3 >= 0.5 and took < 1.5  # 2 s at four times real time; errors do not add up


def test_a_clock_that_is_late_does_not_hurry():
    controls = Controls()
    clock = Clock(controls)
    clock.restart(0.0)
    time.sleep(0.3)
    clock.wait(0.01)  # gives up: it is 0.01 s now
    start = time.monotonic()
    clock.wait(0.11)
    assert time.monotonic() - start >= 0.09


def test_pause_holds_and_a_step_lets_one_period_through():
    controls = Controls()
    passed = []

    def run():
        for _ in range(2):
            controls.gate(lambda: True)
            passed.append(time.monotonic())

    controls.pause()
    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.2)
    assert passed == []
    controls.step()
    time.sleep(0.3)
    assert len(passed) == 1 and controls.paused
    controls.pause()
    thread.join(5.0)
    assert len(passed) == 2 and not controls.paused


def test_the_next_episode_begins_at_once():
    controls = Controls(8.0)
    watcher = Watcher(controls, 2, lambda c: c.next())
    stage = stage_of("arm-reach", bundle="zero")
    play.play(stage, controls, 2, watcher, None)
    assert watcher.episodes == 2 and stage.episode.outcome == "time-out"


def test_closing_ends_an_endless_play(capsys):
    controls = Controls(8.0)
    watcher = Watcher(controls, 3, lambda c: c.close())
    stage = stage_of("arm-reach", bundle="zero")
    play.play(stage, controls, 0, watcher, None)
    assert watcher.episodes == 1 and "stopped" in capsys.readouterr().out


# Command line


def test_without_a_display_the_page_is_served(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert not play_window.has_display()
    config = PlayConfig(task="arm-reach")
    assert play._viewer_kind(config) == "browser"
    monkeypatch.setenv("DISPLAY", ":0")
    assert play._viewer_kind(config) == "window"
    with pytest.raises(UserError, match="two kinds of OpenGL"):
        play._viewer_kind(dataclasses.replace(config, viewer="window", video="x.mp4"))


def test_a_window_without_display_says_so(monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert cli.main(["play", "arm-reach", "--viewer", "window"]) == cli.USAGE
    assert "there is no display" in capsys.readouterr().err


def test_a_display_that_cannot_be_opened_falls_back(monkeypatch, capsys):
    pytest.importorskip("glfw")
    pytest.importorskip("viser")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":987")
    stage = stage_of("arm-reach")
    with pytest.warns(Warning):
        viewer = play._open_viewer("window", stage, Controls(), PlayConfig(task="arm-reach", port=8197))
    said = capsys.readouterr().out
    assert "can't be opened" in said and "open http://127.0.0.1:" in said
    viewer.close()


def test_outcomes_alone(capsys):
    assert cli.main(["play", "arm-reach", "--viewer", "none", "--episodes", "1"]) == 0
    assert "episode 1: success" in capsys.readouterr().out
    assert cli.main(["play", "arm-reach", "--viewer", "none"]) == cli.USAGE
    assert cli.main(["play", "arm-reach", "--speed", "0"]) == cli.USAGE


# The page


@pytest.fixture(scope="module")
def page():
    pytest.importorskip("viser")
    from robot_rl.play_browser import Browser

    stage = stage_of("arm-pick-lift")
    stage.begin()
    controls = Controls()
    browser = Browser(stage, controls, host="127.0.0.1", port=8190)
    yield stage, controls, browser
    browser.close()


def test_the_page_is_served_on_loopback(page):
    _, _, browser = page
    assert browser.url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(browser.url, timeout=20) as answer:
        assert answer.status == 200 and b"<html" in answer.read()[:300]


def test_the_page_has_every_shape_of_the_model(page):
    from viser import BoxHandle, CylinderHandle, IcosphereHandle, MeshHandle

    kinds = {
        mujoco.mjtGeom.mjGEOM_BOX: BoxHandle,
        mujoco.mjtGeom.mjGEOM_PLANE: BoxHandle,
        mujoco.mjtGeom.mjGEOM_SPHERE: IcosphereHandle,
        mujoco.mjtGeom.mjGEOM_CYLINDER: CylinderHandle,
        mujoco.mjtGeom.mjGEOM_CAPSULE: MeshHandle,
    }
    _, _, browser = page
    model, seen = browser.model, 0
    for geom in range(model.ngeom):
        handle = browser.server.scene.get_handle_by_name(browser.node(geom))
        if not browser.visible(geom):
            assert handle is None
            continue
        seen += 1
        kind = mujoco.mjtGeom(int(model.geom_type[geom]))
        assert isinstance(handle, kinds[kind])
        np.testing.assert_allclose(handle.position, model.geom_pos[geom], atol=1e-6)
        if kind == mujoco.mjtGeom.mjGEOM_BOX:
            np.testing.assert_allclose(handle.dimensions, 2.0 * model.geom_size[geom], rtol=1e-5)
        if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            radius, half = model.geom_size[geom, :2]
            extent = np.abs(handle.vertices).max(axis=0)
            np.testing.assert_allclose(extent, [radius, radius, half + radius], rtol=0.02)
        np.testing.assert_allclose(np.array(handle.color) / 255.0, model.geom_rgba[geom, :3], atol=0.01)
    assert seen > 20


def test_what_the_page_shows_follows_the_joints(page):
    stage, _, browser = page
    tool = browser._bodies[browser.model.body("arm/hand").id]
    before = np.array(tool.position)
    for _ in range(5):
        stage.advance(lambda _: None)
    stage.look.update()
    browser.show()
    data = mujoco.MjData(browser.model)
    names = [f"arm/{joint}" for joint in load_arm("panda").interface.actuators]
    for name, angle in zip(names, stage.env.engine.joints("arm")[0][0], strict=True):
        data.joint(name).qpos = angle
    mujoco.mj_kinematics(browser.model, data)
    assert np.linalg.norm(np.array(tool.position) - before) > 0.01
    np.testing.assert_allclose(tool.position, data.body("arm/hand").xpos, atol=1e-6)
    np.testing.assert_allclose(tool.wxyz, data.body("arm/hand").xquat, atol=1e-6)


def test_shapes_that_change_are_drawn_anew(page):
    stage, _, browser = page
    geom = browser.model.geom("cube/0").id
    stage.look.engine.batch.expand("geom_size")[0, geom] *= 1.5
    browser.show()
    handle = browser.server.scene.get_handle_by_name(browser.node(geom))
    np.testing.assert_allclose(handle.dimensions, 2.0 * browser.model.geom_size[geom], rtol=1e-5)
    assert browser._geoms[geom][0] == pytest.approx(float(browser.model.geom_size[geom, 0]))


def test_the_panel_says_how_it_goes(page):
    stage, _, browser = page
    stage.advance(lambda _: None)
    stage.episode.outcome = "success"
    browser.show()
    for word in ("arm-pick-lift", "expert", "success", f"{stage.episode.total:.1f}"):
        assert word in browser._status.content
