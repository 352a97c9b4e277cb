"""Replay: to the bit in the same simulation, in words where it cannot be, and guarded on a robot."""

import dataclasses
import json

import numpy as np
import pytest

from policies import rotation
from robot_rl import cli
from robot_rl.demos.configs import ReplayConfig
from robot_rl.demos.dataset import open_set
from robot_rl.demos.replay import replay
from robot_rl.demos.replay_robot import recorded_commands, recorded_poses, replay_on
from robot_rl.errors import UserError


def test_the_same_simulation_gives_the_same_episode_to_the_bit(simulated_set, capsys):
    pytest.importorskip("mujoco")
    assert cli.main(["demos", "replay", str(simulated_set), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 4
    assert all(row["reproduced"] and row["identical"] and row["largest_difference"] == 0.0 for row in rows)


def test_one_episode_can_be_chosen(simulated_set, capsys):
    pytest.importorskip("mujoco")
    assert cli.main(["demos", "replay", str(simulated_set), "--episode", "2"]) == 0
    assert "1 of 1 came out as recorded" in capsys.readouterr().out
    assert cli.main(["demos", "replay", str(simulated_set), "--episode", "7"]) == 2
    assert "no episode '7'" in capsys.readouterr().err


def test_other_actions_end_otherwise_and_are_reported(simulated_set):
    pytest.importorskip("mujoco")
    one = open_set(simulated_set).demonstrations[0]
    changed = dataclasses.replace(one, episode=dataclasses.replace(one.episode, actions=-one.episode.actions))
    (result,) = replay([changed])
    assert result.success is False and not result.reproduced and not result.identical
    assert result.largest_difference > 0.01


def test_the_second_engine_is_close_and_not_the_same(simulated_set):
    pytest.importorskip("pybullet")
    (result,) = replay(open_set(simulated_set).demonstrations[:1], engine="pybullet")
    assert result.identical is False and result.problem == ""
    assert result.success


def test_a_recording_without_its_start_is_refused_in_words(record_set, capsys):
    folder = record_set(2)
    assert cli.main(["demos", "replay", str(folder), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["success"] for row in rows] == [None, None]
    assert "does not say its task" in rows[0]["problem"]


def test_what_was_trimmed_at_its_beginning_has_no_start(simulated_set, tmp_path):
    cli.main(["demos", "trim", str(simulated_set), "--start", "0.3", "--out", str(tmp_path / "cut")])
    (result, *_) = replay(open_set(tmp_path / "cut").demonstrations)
    assert "trimmed at its beginning" in result.problem and not result.reproduced


# On a robot


class FakeRobot:
    """A tool that moves as it is told to, with a drift, and time that passes only when somebody sleeps."""

    def __init__(self, start, drift=0.0, deaf=False):
        self.tool, self.drift, self.deaf = np.array(start, float), drift, deaf
        self.time, self.sent, self.stopped, self.fault = 0.0, [], False, ""
        self._twist = np.zeros(6)

    def pose(self):
        return self.tool.copy()

    def send(self, twist, gripper, period):
        assert period <= 0.0501, "older commands than 150 ms are refused"
        self._twist, self.stopped = np.array(twist), False
        self.sent.append((self.time, self._twist, gripper))

    def stop(self):
        self._twist, self.stopped = np.zeros(6), True

    def refusal(self):
        return self.fault

    def sleep(self, seconds):
        self.time += seconds
        if self.deaf:
            return
        self.tool[:3] += seconds * (self._twist[:3] + self.drift)
        angle = np.linalg.norm(self._twist[3:]) * seconds
        if angle > 1e-9:
            axis = self._twist[3:] / np.linalg.norm(self._twist[3:])
            turn = np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * axis])
            self.tool[3:] = rotation.multiply(turn, self.tool[3:])


def play(robot, one, **options):
    config = ReplayConfig(path=one.episode.source, **options)
    return replay_on(robot, one, config, sleep=robot.sleep, clock=lambda: robot.time)


@pytest.fixture
def demonstration(simulated_set):
    return open_set(simulated_set).demonstrations[0]


def test_a_robot_is_led_to_the_start_and_then_along_the_way(demonstration):
    poses = recorded_poses(demonstration)
    robot = FakeRobot(poses[0] + [0.05, -0.05, 0.08, 0, 0, 0, 0], drift=0.004)
    done = play(robot, demonstration, speed=0.5)
    assert robot.stopped and done.steps == len(demonstration.episode)
    assert done.largest_deviation < 0.05 and done.final_deviation < 0.03
    approach = [twist for time, twist, _ in robot.sent if time < robot.time - 2.0 * demonstration.seconds - 0.1]
    assert len(approach) > 20 and max(np.linalg.norm(twist[:3]) for twist in approach) <= 0.05 + 1e-9
    fastest = max(np.linalg.norm(command.values[:3]) for command in recorded_commands(demonstration))
    assert max(np.linalg.norm(twist[:3]) for _, twist, _ in robot.sent) < 0.5 * fastest + 0.05


def test_a_robot_that_is_far_away_is_refused_and_does_not_move(demonstration):
    start = recorded_poses(demonstration)[0] + [0.5, 0, 0, 0, 0, 0, 0]
    robot = FakeRobot(start)
    with pytest.raises(UserError, match=r"0\.50 m from the first pose"):
        play(robot, demonstration)
    assert not robot.sent and robot.stopped


def test_who_strays_is_stopped(demonstration):
    robot = FakeRobot(recorded_poses(demonstration)[0], drift=0.2)
    with pytest.raises(UserError, match="it was stopped"):
        play(robot, demonstration)
    assert robot.stopped


def test_what_does_not_move_or_refuses_ends_in_words(demonstration):
    start = recorded_poses(demonstration)[0]
    robot = FakeRobot(start + [0.1, 0, 0, 0, 0, 0, 0], deaf=True)
    with pytest.raises(UserError, match="still 100 mm from the first pose"):
        play(robot, demonstration)
    robot = FakeRobot(start)
    robot.fault = "it is fault (estop)"
    with pytest.raises(UserError, match="does not move: it is fault"):
        play(robot, demonstration)
    assert robot.stopped


def test_a_recording_without_poses_or_twists_is_refused(record_set, capsys):
    one = open_set(record_set(1)).demonstrations[0]
    with pytest.raises(UserError, match="no stream tool_pose"):
        recorded_poses(one)
    with pytest.raises(UserError, match="does not say that its actions are twists"):
        recorded_commands(one)
    assert cli.main(["demos", "replay", str(one.episode.source), "--plane", "/nowhere"]) == 2
    assert "no control process at /nowhere" in capsys.readouterr().err
