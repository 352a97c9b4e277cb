"""Streams of a robot become demonstrations: what is at a row was measured before it."""

import numpy as np
import pytest

from robot_rl import cli
from robot_rl.demos.aligning import load_mapping
from robot_rl.demos.dataset import open_set
from robot_rl.errors import UserError
from robot_rl.recording import EpisodeWriter, messages

MAPPING = """
rate: 10
observation:
  - {topic: tool_pose, field: pose.position, how: interpolate}
  - joint_states
action:
  - {topic: command/twist, field: twist.linear}
action_low: [-0.2, -0.2, -0.2]
action_high: [0.2, 0.2, 0.2]
cameras:
  front: camera/front/compressed
task: wipe
robot: panda
"""


@pytest.fixture
def streams(tmp_path):
    """Makes a recording of 4 s at odd rates, in which the tool moves along x with what the command says."""

    def make(gap=(9.0, 9.0), name="raw"):
        with EpisodeWriter(tmp_path / name) as writer:
            writer.begin({"operator": "me"})
            for time in np.arange(0.0, 4.0, 0.02):
                if not gap[0] < time < gap[1]:
                    writer.write("tool_pose", messages.pose([0.1 * time, 0, 0], [1, 0, 0, 0]), 50 + time, 50 + time)
                writer.write("joint_states", messages.joint_state(["a"], [time]), 50 + time, 50 + time)
            for time in np.arange(0.0, 4.0, 0.05):
                writer.write("command/twist", messages.twist([0.1, 0, 0, 0, 0, 0]), 50 + time, 50 + time)
            for time in np.arange(0.0, 4.0, 1 / 30):
                picture = np.full((8, 8, 3), round(60 * time), np.uint8)
                writer.write("camera/front/compressed", picture, 50 + time, 50 + time)
            writer.end(True, "test")
        (tmp_path / "mapping.yaml").write_text(MAPPING)
        return tmp_path / name, tmp_path / "mapping.yaml", tmp_path / "out"

    return make


def align(path, mapping, out):
    return cli.main(["demos", "align", str(path), "--mapping", str(mapping), "--out", str(out)])


def test_steps_are_made_of_streams_and_keep_them(streams, capsys):
    path, mapping, out = streams()
    assert align(path, mapping, out) == 0
    assert "1 episodes" in capsys.readouterr().out
    (one,) = open_set(out)
    time = one.episode.observed_at - one.episode.observed_at[0]
    np.testing.assert_allclose(time, np.arange(len(time)) * 0.1, atol=1e-6)
    assert len(time) >= 39
    np.testing.assert_allclose(one.episode.observations[:, 0], 0.1 * time, atol=1e-4)
    age = time - one.episode.observations[:, 3]
    assert age.min() > -1e-4 and age.max() < 0.021  # held: never from the future
    np.testing.assert_allclose(one.episode.actions, np.tile([0.5, 0.0, 0.0], (len(time), 1)), atol=1e-6)
    shown = one.episode.images["front"][:, 0, 0, 0].astype(float)
    assert np.abs(shown - 60 * time).max() <= 2.0
    assert one.info == {"operator": "me"} and one.episode.schema.task == "wipe" and one.episode.success
    assert {"tool_pose", "joint_states", "command/twist", "camera/front/compressed"} <= set(one.recording.streams)
    assert cli.main(["demos", "convert", str(out), "--to", "gymnasium", "--out", str(out.parent / "wipe-v0")]) == 0


def test_streams_alone_are_no_demonstrations_and_the_way_is_said(streams):
    path, _, _ = streams()
    data = open_set(path)
    (said,) = data.unreadable.values()
    assert not len(data) and "robot-rl demos align" in said and "command/twist" in said


def test_a_gap_splits_an_episode_and_is_said(streams, capsys):
    path, mapping, out = streams(gap=(1.5, 2.2))
    assert align(path, mapping, out) == 0
    said = capsys.readouterr()
    assert "2 episodes" in said.out and "steps are left out, their data are missing" in said.err
    first, second = open_set(out)
    assert first.state == "cut off" and second.state == "finished"
    assert np.diff(second.episode.observations[:, 0]) == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("rate: 10", "rat: 10"), "did you mean 'rate'"),
        (("rate: 10\n", ""), "has no 'rate'"),
        (("field: twist.linear", "fild: twist.linear"), "did you mean 'field'"),
        (("rate: 10", "rate: [}"), "cannot read the mapping"),
        (("-0.2, -0.2, -0.2", "a, b, c"), "is no mapping"),
    ],
)
def test_a_wrong_mapping_is_named(change, words, tmp_path):
    (tmp_path / "mapping.yaml").write_text(MAPPING.replace(*change))
    with pytest.raises(UserError, match=words):
        load_mapping(tmp_path / "mapping.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("command/twist", "command/twists"), "no topic 'command/twists'"),
        (("0.2, 0.2, 0.2]\ncameras", "0.05, 0.2, 0.2]\ncameras"), "widen action_low and action_high"),
    ],
)
def test_what_does_not_fit_leaves_nothing(change, words, streams, capsys):
    path, mapping, out = streams()
    mapping.write_text(MAPPING.replace(*change))
    assert align(path, mapping, out) == 2
    assert words in capsys.readouterr().err and not out.exists()
