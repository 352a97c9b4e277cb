"""Streams at one rate: every value was measured, or lies between two that were; nothing is made up."""

import numpy as np
import pytest

from policies.rotation import from_rotation_vector, multiply
from robot_rl.episodes import load_episodes
from robot_rl.errors import UserError
from robot_rl.recording import Column, EpisodeWriter, RecordingError, align, load_recording, messages
from robot_rl.recording.align import slerp
from robot_rl.recording.mapping import EpisodeMapping

START = 1000.0


def record(folder, streams, success=True):
    """A recording of {topic: [(time, message), …]}, times after START."""
    with EpisodeWriter(folder) as writer:
        path = writer.begin()
        for topic, samples in streams.items():
            for time, message in samples:
                writer.write(topic, message, START + time, START + time + 0.003)
        writer.end(success, "operator")
    return load_recording(path)


def numbers(times, function=lambda t: [t]):
    return [(t, messages.numbers(function(t))) for t in times]


def test_hold_takes_the_last_sample_before_and_never_an_older_one_than_allowed(tmp_path):
    recording = record(tmp_path, {"command": numbers([0.0, 0.1, 0.25, 1.0])})
    found = align(recording, 20.0, {"u": Column(topic="command", field="data", limit=0.2)})
    offset = found.times - START
    # Rows every 0.05 s; those more than 0.2 s behind 0.25 are rejected.
    expected = [t for t in np.arange(21) / 20.0 if t <= 0.45 + 1e-9 or t >= 1.0]
    np.testing.assert_allclose(offset, expected, atol=1e-9)
    held = [max(sample for sample in (0.0, 0.1, 0.25, 1.0) if sample <= t + 1e-9) for t in expected]
    np.testing.assert_allclose(found.values["u"][:, 0], held)
    assert found.rejected == 21 - len(expected) == found.missing["u"]
    np.testing.assert_array_equal(found.rows, np.round(np.array(expected) * 20.0))


def test_interpolation_lies_between_samples_and_bridges_no_long_gap(tmp_path):
    times = np.array([0.0, 0.03, 0.11, 0.19, 0.6, 0.63])
    recording = record(tmp_path, {"x": numbers(times, lambda t: [3.0 * t + 1.0, -t])})
    found = align(recording, 50.0, {"x": Column(topic="x", field="data", how="interpolate", limit=0.1)})
    offset = found.times - START
    np.testing.assert_allclose(found.values["x"], np.stack([3.0 * offset + 1.0, -offset], -1), atol=1e-6)
    assert not ((offset > 0.191) & (offset < 0.599)).any()
    assert offset.max() <= 0.63
    assert found.rejected == found.missing["x"] > 15


def test_orientations_are_interpolated_as_rotations(tmp_path):
    turn = np.array([0.3, -0.2, 0.9])

    def at(t):
        # The sign of a quaternion means nothing: every second one is turned over.
        return from_rotation_vector(turn * t) * (-1.0 if round(t * 10) % 2 else 1.0)

    samples = [(t, messages.pose([t, 0, 0], at(t))) for t in np.arange(0.0, 1.01, 0.1)]
    recording = record(tmp_path, {"tool_pose": samples})
    found = align(recording, 73.0, {"p": Column(topic="tool_pose", field="pose", how="interpolate", limit=0.2)})
    for time, value in zip(found.times - START, found.values["p"], strict=True):
        assert value[0] == pytest.approx(time, abs=1e-6)
        assert abs(np.dot(value[3:], from_rotation_vector(turn * time))) == pytest.approx(1.0, abs=1e-9)


def test_slerp_is_a_constant_turn():
    random = np.random.default_rng(0)
    for _ in range(50):
        first = random.normal(size=4)
        first /= np.linalg.norm(first)
        vector = random.normal(size=3)
        second = multiply(first, from_rotation_vector(vector))
        for share in (0.0, 0.25, 0.5, 1.0):
            expected = multiply(first, from_rotation_vector(share * vector))
            found = slerp(first, second, np.array([share]))
            assert abs(np.dot(found, expected)) == pytest.approx(1.0, abs=1e-9) or np.linalg.norm(vector) > np.pi
    same = np.array([1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(slerp(same, same, np.array([0.3])), same)


def test_the_nearest_picture_within_the_limit(tmp_path):
    pictures = [(t, np.full((4, 5, 3), 10 * k, np.uint8)) for k, t in enumerate([0.0, 0.033, 0.07, 0.5])]
    recording = record(tmp_path, {"camera/a/compressed": pictures, "u": numbers(np.arange(0.0, 0.51, 0.01))})
    columns = {
        "a": Column(topic="camera/a/compressed", how="nearest", limit=0.02),
        "u": Column(topic="u", field="data"),
    }
    found = align(recording, 100.0, columns)
    for time, number in zip(found.times - START, found.messages["a"], strict=True):
        distances = [abs(time - t) for t, _ in pictures]
        assert distances[number] == pytest.approx(min(distances), abs=1e-9) and min(distances) <= 0.02 + 1e-9
    assert found.missing["u"] == 0 and found.rejected == found.missing["a"] == 51 - len(found.times)


def test_what_is_no_number_is_no_sample(tmp_path):
    samples = numbers([0.0, 0.1, 0.2], lambda t: [float("nan") if t == 0.1 else t])
    recording = record(tmp_path, {"x": samples})
    held = align(recording, 10.0, {"x": Column(topic="x", field="data", limit=0.15)})
    np.testing.assert_allclose(held.values["x"][:, 0], [0.0, 0.0, 0.2])
    strict = align(recording, 10.0, {"x": Column(topic="x", field="data", limit=0.05)})
    np.testing.assert_allclose(strict.values["x"][:, 0], [0.0, 0.2])


def test_late_and_repeated_stamps_are_put_in_order(tmp_path):
    recording = record(tmp_path, {"x": numbers([0.0, 0.2, 0.1, 0.3]) + [(0.3, messages.numbers([9.0]))]})
    found = align(recording, 10.0, {"x": Column(topic="x", field="data")})
    np.testing.assert_allclose(found.values["x"][:, 0], [0.0, 0.1, 0.2, 9.0])


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column(topic="nothing"), "has no topic 'nothing'; it has done, x"),
        (Column(topic="x", field="position"), "no field 'position'; there is layout, data"),
        (Column(topic="done", how="interpolate"), "whole numbers or flags; take how='hold'"),
        (Column(topic="x", limit=0.0), "the limit is 0.0 s"),
    ],
)
def test_what_cannot_be_aligned_is_said(tmp_path, column, said):
    done = messages.standard_types().types["std_msgs/msg/Bool"](data=True)
    recording = record(tmp_path, {"x": numbers([0.0, 1.0]), "done": [(0.0, done), (1.0, done)]})
    with pytest.raises(RecordingError, match=said):
        align(recording, 10.0, {"c": column})


def test_a_wrong_stamp_does_not_fill_the_memory(tmp_path):
    recording = record(tmp_path, {"x": numbers([0.0, 1.0, 1e6])})
    with pytest.raises(RecordingError, match="look for messages with a wrong stamp"):
        align(recording, 500.0, {"x": Column(topic="x", field="data")})


def mapping(**changes):
    values = {
        "rate": 10.0,
        "observation": (
            Column(topic="joint_states", field="position", how="interpolate"),
            Column(topic="tool_pose", field="pose.position", how="interpolate"),
        ),
        "action": (Column(topic="command", field="data", limit=0.15),),
        "action_low": (-2.0, 0.0),
        "action_high": (2.0, 10.0),
        "cameras": {"front": Column(topic="camera/front/compressed", how="nearest", limit=0.06)},
        "task": "reach",
        "robot": "some",
    }
    return EpisodeMapping(**{**values, **changes})


def streams(hole=False):
    fast, slow = np.arange(0.0, 2.001, 0.01), np.arange(0.0, 2.001, 0.1)
    commands = [t for t in slow if not (hole and 0.9 < t < 1.3)]
    seen = np.arange(0.0, 2.001, 0.05)
    return {
        "joint_states": [(t, messages.joint_state(["a", "b"], [t, -t])) for t in fast],
        "tool_pose": [(t, messages.pose([0, 0, t], [1, 0, 0, 0])) for t in fast],
        "command": [(t, messages.numbers([t - 1.0, 5.0 * t])) for t in commands],
        "camera/front/compressed": [(t, np.full((6, 8, 3), round(10 * t), np.uint8)) for t in seen],
    }


def test_any_streams_become_an_episode(tmp_path):
    record(tmp_path, streams())
    with pytest.raises(UserError, match="no control steps; give a mapping"):
        load_episodes(tmp_path)
    [episode] = load_episodes(tmp_path, mapping())
    assert (len(episode), episode.complete, episode.success) == (21, True, True)
    assert episode.terminated[-1] and episode.rewards[-1] == 1.0
    offset = episode.observed_at - START
    np.testing.assert_allclose(
        episode.observations, np.stack([offset, -offset, 0 * offset, 0 * offset, offset], -1), atol=1e-6
    )
    np.testing.assert_allclose(episode.actions, np.stack([(offset - 1.0) / 2.0, offset - 1.0], -1), atol=1e-6)
    assert episode.images["front"].shape == (21, 6, 8, 3)
    np.testing.assert_array_equal(episode.images["front"][:, 0, 0, 0], np.round(10 * offset))
    assert episode.schema.observation == 5 and episode.schema.task == "reach"


def test_a_hole_parts_an_episode_in_two(tmp_path):
    record(tmp_path, streams(hole=True))
    problems = []
    first, second = load_episodes(tmp_path, mapping(), problems)
    assert (first.complete, second.complete) == (False, True)
    assert not first.terminated.any() and not first.success and second.success
    assert len(first) + len(second) == 21 - 2
    assert "2 of 21 steps are left out, their data are missing (action/0 2)" in problems[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"action_high": (0.5, 10.0)}, "number 0 of the action is .*: widen action_low and action_high"),
        ({"action_high": (0.5,)}, "expected 2 each"),
        ({"action": ()}, "at least one column"),
        ({"action": (Column(topic="command", how="nearest"),)}, "which is for pictures"),
        ({"cameras": {"a": Column(topic="camera/front/compressed")}}, "pictures are taken with 'nearest'"),
        ({"task": ""}, "task"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path, changes, said):
    record(tmp_path, streams())
    with pytest.raises(UserError, match=said):
        load_episodes(tmp_path / "episode-000000.mcap", mapping(**changes))
