"""Scripted demonstrations: their grades, their streams, and that they begin again where they began."""

import dataclasses
import shutil

import numpy as np
import pytest

pytest.importorskip("mujoco")

import torch

from policies.actions import ActionConfig
from policies.types import ArmSetpoint, QuadrotorSetpoint
from robot_rl import cli
from robot_rl.demos.collect import attempts, make_stand
from robot_rl.demos.configs import CollectConfig
from robot_rl.demos.dataset import open_set
from robot_rl.demos.grades import GRADES, choose_grade, make_operator
from robot_rl.demos.plants import find_task
from robot_rl.hil.layout import action_layout
from robot_rl.hil.plant import Moment, SimulatedPlant

TWIST = ActionConfig(name="cartesian_twist", parameters={"axes": "x y z gripper", "linear": 0.3})


def errors_of(grade, seed=0, count=400):
    """What somebody of a grade does, less what the expert would do (0.5 along x and y, nothing along z)."""
    right = np.array([0.5, 0.5, 0.0, 1.0], np.float32)
    nothing = Moment(observation=right, images={}, state=None, setpoint=ArmSetpoint(tool_pose=None), progress=0.0)
    operator = make_operator(grade, action_layout(TWIST), lambda moment: right, np.random.default_rng(seed))
    return np.array([operator.look(nothing, np.zeros(4, np.float32), None).action - right for _ in range(count)])


def test_grades_err_as_they_are_called():
    expert, noisy, biased = (errors_of(name) for name in ("expert", "noisy", "biased"))
    assert np.abs(expert[:, :3]).max() < 0.15
    assert noisy[:, :3].std(axis=0).max() > 3 * expert[:, :3].std(axis=0).max()
    # Who is biased errs in the same way all the time, and in another one in another episode.
    assert np.linalg.norm(biased[:, :3].mean(axis=0)) > 5 * np.linalg.norm(expert[:, :3].mean(axis=0))
    assert np.linalg.norm(biased[:, :3].mean(axis=0) - errors_of("biased", seed=1)[:, :3].mean(axis=0)) > 0.05
    assert (expert[:, 3] == 0).all() and (biased[:, 3] == 0).all()


def test_a_mixed_set_has_all_grades_in_equal_shares():
    generator = np.random.default_rng(0)
    drawn = [choose_grade("mixed", generator) for _ in range(900)]
    assert {name: drawn.count(name) for name in GRADES} == pytest.approx(dict.fromkeys(GRADES, 300), abs=60)
    assert choose_grade("noisy", generator) == "noisy"


def test_a_collection_is_a_sound_data_set(simulated_set):
    data = open_set(simulated_set)
    assert len(data) == 4 and not data.unreadable and not data.repaired
    for one in data:
        assert one.state == "finished" and one.episode.success and one.episode.terminated[-1]
        assert one.info["task"] == "arm-reach" and one.info["quality"] in GRADES
        assert (one.episode.drivers == "person").all()
        np.testing.assert_allclose(np.diff(one.episode.observed_at), one.period, atol=1e-9)
        streams = one.recording.streams
        assert {"step", "tool_pose", "tool_twist", "joint_states", "gripper_width"} == set(streams)
        assert len(streams["tool_pose"]) == len(one.episode)
        # A step is where its streams say that it was: the way is the integral of the twist, about.
        poses, twists = streams["tool_pose"].values("pose"), streams["tool_twist"].values("twist")
        way = np.diff(poses[:, :3], axis=0)
        assert np.abs(way - one.period * 0.5 * (twists[1:, :3] + twists[:-1, :3])).max() < 0.01
    assert cli.main(["demos", "check", str(simulated_set)]) == 0


def test_observations_are_those_of_the_human_in_the_loop(simulated_set):
    one = open_set(simulated_set).demonstrations[0]
    task = find_task("arm-reach", {})
    plant = SimulatedPlant(task, seed=one.info["seed"])
    try:
        np.testing.assert_array_equal(plant.reset().observation, one.episode.observations[0])
        for action, expected in zip(one.episode.actions[:5], one.episode.observations[1:], strict=False):
            np.testing.assert_array_equal(plant.step(action).moment.observation, expected)
    finally:
        plant.close()


def test_the_same_seed_gives_the_same_demonstrations(tmp_path):
    def first_two(seed):
        config = CollectConfig(task="arm-reach", out=tmp_path, quality="noisy", seed=seed)
        stand = make_stand(config)
        try:
            found = attempts(config, stand)
            return [next(found) for _ in range(2)]
        finally:
            stand.plant.close()

    one, again, other = first_two(0), first_two(0), first_two(1)
    for a, b in zip(one, again, strict=True):
        assert a.info == b.info
        np.testing.assert_array_equal([r.action for r in a.records], [r.action for r in b.records])
    assert one[0].info["seed"] != one[1].info["seed"] != other[0].info["seed"]
    assert not np.array_equal(one[0].records[0].observation, other[0].records[0].observation)


def test_a_file_of_randomization_goes_into_the_info(tmp_path):
    from robot_rl.demos.plants import describe_terms, find_terms

    task = find_task("arm-reach", {})
    file = tmp_path / "terms.yaml"
    file.write_text("- {parameter: joint_position_noise, low: 0.0, high: 0.001}\n")
    told = describe_terms(task, str(file))
    file.unlink()
    assert told[0]["parameter"] == "joint_position_noise"
    assert [dataclasses.asdict(term) for term in find_terms(task, told)] == told


def test_called_again_it_goes_on_and_repeats_nothing(simulated_set, tmp_path, capsys):
    out = tmp_path / "reach"
    shutil.copytree(simulated_set, out)
    again = ["demos", "collect", "arm-reach", "--quality", "mixed", "--out", str(out), "--episodes"]
    assert cli.main([*again, "4"]) == 0
    assert "has 4 episodes already" in capsys.readouterr().out
    assert cli.main([*again, "6"]) == 0
    data = open_set(out)
    assert len(data) == 6 and len({one.info["seed"] for one in data}) == 6
    assert cli.main(["demos", "check", str(out)]) == 0
    assert cli.main([*again[:2], "arm-push", *again[3:], "7"]) == 2
    assert "is of another kind: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quadrotor-hover", "--cameras", "front"], "has no cameras"),
        (["arm-lift"], "unknown task 'arm-lift'"),
        (["arm-reach", "--episodes", "0"], "at least 1"),
        (["arm-reach", "--cameras", "back"], "no camera 'back'"),
        (["arm-reach", "--randomization", "nothing.yaml"], "neither 'default' nor 'none' nor a file"),
    ],
)
def test_what_cannot_be_collected_is_said(arguments, words, tmp_path, capsys):
    assert cli.main(["demos", "collect", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_pilot_of_each_grade_aims_as_it_is_called():
    from robot_rl.demos.flight import Pilot

    class Controller:
        """Keeps what it is told to fly to."""

        def __init__(self):
            self.aims, self.last_action = [], np.zeros((1, 4), np.float32)

        def reset(self):
            self.aims = []

        def step(self, state, setpoint):
            self.aims.append(setpoint.position[0].numpy() - 1.0)

    zero = torch.zeros(1, 3)
    goal = QuadrotorSetpoint(position=zero + 1.0, velocity=zero, acceleration=zero, yaw=torch.zeros(1))
    here = Moment(observation=np.zeros(3), images={}, state=None, setpoint=goal, progress=0.0)
    aims = {}
    for name, grade in GRADES.items():
        controller = Controller()
        pilot = Pilot(grade, controller, 0.01, np.random.default_rng(0))
        actions = [pilot.look(here, np.zeros(4), None).action for _ in range(3000)]
        assert np.std(actions) == pytest.approx(grade.operator.tremor, rel=0.1)
        aims[name] = np.array(controller.aims)
    assert np.abs(aims["expert"]).max() < 1e-6
    assert np.linalg.norm(aims["biased"], axis=1) == pytest.approx(0.2, abs=1e-5)
    assert aims["noisy"].std() == pytest.approx(0.15, rel=0.4)
    assert np.abs(np.diff(aims["noisy"], axis=0)).max() < 0.15  # it wanders, it does not jump


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_flights_are_recorded_checked_and_replayed_to_the_bit(tmp_path, capsys):
    flights = tmp_path / "flights"
    arguments = ["quadrotor-hover", "--episodes", "4", "--quality", "mixed", "--out", str(flights)]
    assert cli.main(["demos", "collect", *arguments]) == 0
    for one in open_set(flights):
        assert one.episode.success and one.episode.truncated[-1]
        poses, goals = (one.recording.streams[topic].values("pose") for topic in ("pose", "setpoint_pose"))
        assert np.linalg.norm(poses[-1, :3] - goals[-1, :3]) < 0.6
        assert one.episode.schema.robot == "crazyflie" and one.info["engine"] == "torch"
    capsys.readouterr()
    assert cli.main(["demos", "replay", str(flights)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 of 4 came out as recorded" and all(" yes " in line for line in lines[1:5])
    assert cli.main(["demos", "check", str(flights)]) == 0, capsys.readouterr().out
