"""What is recorded comes back to the bit, in readers that are not ours too; recording never makes its caller wait."""

import logging
import threading
import time

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from tests_workers import make_record, make_schema

from robot_rl.episodes import load_episodes
from robot_rl.hil.records import Record, RecordError, encode
from robot_rl.recording import EpisodeWriter, RecordingError, WriterSettings, load_recording, messages
from robot_rl.recording import file as recording_file
from robot_rl.recording.episode import read_steps, step_pictures

SCHEMA = make_schema(images={"wrist": (20, 30, 3)})


def record(folder, episode=0, length=6, **begin):
    with EpisodeWriter(folder, SCHEMA) as writer:
        path = writer.begin(begin)
        for index in range(length):
            writer.step(make_record(SCHEMA, episode, index, ended=index == length - 1))
        writer.end(True, "success")
    return path


def test_steps_come_back_to_the_bit(tmp_path):
    path = record(tmp_path, length=6)
    recording = load_recording(path)
    records = read_steps(recording).records
    pictures = step_pictures(recording, records)["wrist"]
    for index, one in enumerate(records):
        final = {"wrist": pictures[index + 1]} if index == 5 else {}
        whole = Record(**{**vars(one), "images": {"wrist": pictures[index]}, "final_images": final})
        assert encode(whole) == encode(make_record(SCHEMA, 0, index, ended=index == 5))
    assert len(records) == 6


def test_an_episode_is_loaded_as_from_a_log(tmp_path):
    record(tmp_path, episode=0)
    record(tmp_path, episode=1)
    first, second = load_episodes(tmp_path)
    assert (first.number, second.number) == (0, 1)
    assert first.complete and first.success and first.has_final
    assert first.observations.shape == (7, 6)
    assert first.images["wrist"].shape == (7, 20, 30, 3)
    assert list(first.drivers) == ["policy", "person", "base"] * 2
    assert list(first.terminated) == [False] * 5 + [True]
    assert first.info["force"].shape == (6,)
    # Its last step was no success, but who ended the recording said so.
    assert second.success and second.truncated[-1]


def test_who_ends_a_recording_has_the_last_word(tmp_path):
    for success in (True, False):
        with EpisodeWriter(tmp_path, SCHEMA) as writer:
            writer.begin()
            writer.step(make_record(SCHEMA, 0, 0, ended=False))
            writer.end(success, "operator")
    good, bad = load_episodes(tmp_path)
    assert (good.complete, good.success, good.terminated[-1], good.truncated[-1]) == (True, True, True, False)
    assert (bad.complete, bad.success, bad.terminated[-1], bad.truncated[-1]) == (True, False, False, True)


def test_streams_keep_the_times_of_measurement_and_of_receipt(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    now = time.monotonic()
    with EpisodeWriter(tmp_path) as writer:
        path = writer.begin({"seed": 3})
        for index in range(5):
            sample = messages.joint_state(["a", "b"], [index, 0.1], [1.0, 2.0])
            writer.write("joint_states", sample, now + 0.01 * index, now + 0.01 * index + 0.004)
            writer.write("tool_pose", messages.pose([1, 2, index], [0.5, 0.5, -0.5, 0.5]), now)
            writer.write("camera/wrist/compressed", picture + np.uint8(index), now)
        summary = writer.end(False, "failure")
    recording = load_recording(path)
    assert (recording.state, recording.success, recording.cause, recording.problem) == (
        "finished", False, "failure", "",
    )  # fmt: skip
    assert recording.info == {"seed": 3}
    assert recording.schema is None
    joints = recording.stream("joint_states")
    np.testing.assert_allclose(joints.measured, now + 0.01 * np.arange(5), atol=2e-9)
    np.testing.assert_allclose(joints.received - joints.measured, 0.004, atol=3e-9)
    np.testing.assert_array_equal(joints.values("position"), [[index, 0.1] for index in range(5)])
    pose = recording.stream("tool_pose")
    np.testing.assert_array_equal(pose.values("pose"), [[1, 2, index, 0.5, 0.5, -0.5, 0.5] for index in range(5)])
    assert pose.quaternions("pose") == [3]
    stamp = pose.message(0).header.stamp
    assert stamp.sec * 10**9 + stamp.nanosec == pose.channel.measured[0]
    assert abs(stamp.sec - time.time()) < 60.0, "stamps are Unix time"
    camera = recording.stream("camera/wrist/compressed")
    np.testing.assert_array_equal(camera.picture(3), picture + np.uint8(3))
    assert summary.counts == {"joint_states": 5, "tool_pose": 5, "camera/wrist/compressed": 5}
    assert summary.worst_gaps["joint_states"] == pytest.approx(0.01, abs=1e-6)


def test_readers_of_others_read_it(tmp_path):
    path = record(tmp_path, length=4)
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        found = list(reader.iter_messages())
        assert {channel.topic for _, channel, _ in found} == {"step", "step/wrist/compressed"}
        assert len(found) == 4 + 5
        assert {schema.encoding for schema, _, _ in found} == {"ros2msg"}
    with AnyReader([path]) as bag:
        for connection, _, raw in bag.messages():
            message = bag.deserialize(raw, connection.msgtype)
            if connection.topic == "step":
                wanted = make_record(SCHEMA, 0, message.index, ended=message.index == 3)
                np.testing.assert_array_equal(message.observation, wanted.observation)
                assert message.driver == wanted.driver


def test_numbers_go_on_and_nothing_is_overwritten(tmp_path):
    (tmp_path / "episode-000007.mcap").write_bytes(b"anything")
    path = record(tmp_path)
    assert path.name == "episode-000008.mcap"
    assert (tmp_path / "episode-000007.mcap").read_bytes() == b"anything"
    first, second = EpisodeWriter(tmp_path), EpisodeWriter(tmp_path)
    with first, second:
        assert {first.begin().name, second.begin().name} == {"episode-000009.mcap", "episode-000010.mcap"}


def test_a_discarded_episode_leaves_nothing(tmp_path):
    with EpisodeWriter(tmp_path, SCHEMA) as writer:
        writer.begin()
        writer.step(make_record(SCHEMA, 0, 0))
        writer.discard()
        assert list(tmp_path.iterdir()) == []
        assert not writer.recording
        writer.begin()
        writer.end(True, "success")
    assert [path.name for path in tmp_path.iterdir()] == ["episode-000000.mcap"]


def test_a_running_recording_and_one_that_was_left_can_be_told_apart(tmp_path):
    writer = EpisodeWriter(tmp_path, SCHEMA)
    path = writer.begin()
    writer.step(make_record(SCHEMA, 0, 0))
    time.sleep(0.5)
    running = load_recording(path)
    assert (running.state, running.problem, len(running.stream("step"))) == ("running", "", 1)
    writer.close()
    left = load_recording(path)
    assert (left.state, left.success) == ("cut off", False)
    assert "nothing that was stored is lost" in left.problem
    [episode] = load_episodes(tmp_path)
    assert not episode.complete


def test_what_does_not_fit_is_refused_and_costs_nothing(tmp_path):
    with EpisodeWriter(tmp_path, SCHEMA) as writer:
        with pytest.raises(RecordingError, match=r"call begin\(\) first"):
            writer.step(make_record(SCHEMA, 0, 0))
        with pytest.raises(RecordingError, match="cannot be stored as JSON"):
            writer.begin({"seed": object()})
        path = writer.begin()
        with pytest.raises(RecordingError, match="still being recorded"):
            writer.begin()
        writer.step(make_record(SCHEMA, 4, 0))
        with pytest.raises(RecordError, match="step 2 of episode 4 cannot follow step 0 of episode 4"):
            writer.step(make_record(SCHEMA, 4, 2))
        with pytest.raises(RecordError, match="observation"):
            writer.step(make_record(SCHEMA, 4, 1, observation=np.full(6, np.nan, np.float32)))
        with pytest.raises(RecordingError, match="a time is nan"):
            writer.write("a", messages.text("x"), float("nan"))
        with pytest.raises(RecordingError, match="is no message"):
            writer.write("a", {"x": 1}, 1.0)
        with pytest.raises(RecordingError, match="expected uint8"):
            writer.write("camera", np.zeros((4, 4), np.uint8), 1.0)
        writer.step(make_record(SCHEMA, 4, 1))
        writer.end(True, "success")
    assert [one.index for one in read_steps(load_recording(path)).records] == [0, 1]


def test_drops_are_counted_said_and_stored(tmp_path, monkeypatch, caplog):
    gate = threading.Event()
    monkeypatch.setattr(
        recording_file.os, "write", lambda file, data, write=recording_file.os.write: gate.wait() and write(file, data)
    )
    gate.set()
    settings = WriterSettings(queue_bytes=20_000)
    with caplog.at_level(logging.WARNING), EpisodeWriter(tmp_path, settings=settings) as writer:
        path = writer.begin()
        gate.clear()  # the disk hangs
        worst = 0.0
        for index in range(400):
            begin = time.monotonic()
            writer.write("numbers", messages.numbers(np.full(20, float(index))), begin)
            worst = max(worst, time.monotonic() - begin)
            time.sleep(0.002)
        assert writer.dropped > 200
        gate.set()
        summary = writer.end(True, "success")
    assert worst < 0.5, "the caller waited for the disk"
    recording = load_recording(path)
    stored = recording.stream("numbers")
    assert len(stored) == summary.counts["numbers"]
    assert recording.dropped == summary.dropped == {"numbers": 400 - len(stored)}
    assert np.array_equal(stored.values("data")[:, 0], stored.sequence), "what is there is in its place"
    assert "the disk is too slow" in caplog.text


def test_behind_a_lost_step_nothing_is_used(tmp_path, monkeypatch):
    with EpisodeWriter(tmp_path, SCHEMA) as writer:
        path = writer.begin()
        for index in range(6):
            record_ = make_record(SCHEMA, 0, index, ended=index == 5)
            if index == 3:
                with monkeypatch.context() as patch:
                    patch.setattr(recording_file.EpisodeFile, "put", lambda self, items: False)
                    writer.step(record_)
            else:
                writer.step(record_)
        writer.end(True, "success")
    problems = []
    [episode] = load_episodes(path, problems=problems)
    assert (len(episode), episode.complete, episode.success) == (3, False, False)
    assert len(problems) == 1 and "step 3 is missing; the 2 steps from there on are left out" in problems[0]


def test_views_of_arrays_are_recorded_as_what_they_show(tmp_path):
    base, picture = np.arange(60, dtype=np.float32).reshape(6, 10), np.random.default_rng(1).integers(0, 256, (9, 8, 6))
    view = picture.astype(np.uint8)[::2, ::-1, ::2]
    with EpisodeWriter(tmp_path, make_schema()) as writer:
        path = writer.begin()
        writer.step(make_record(make_schema(), 0, 0, observation=base[:, 3], ended=False))
        writer.write("joints", messages.joint_state(["a", "b"], base[:2, 1][::-1]), time.monotonic())
        writer.write("camera", view, time.monotonic())
        writer.end(True, "success")
    recording = load_recording(path)
    np.testing.assert_array_equal(recording.stream("step").values("observation")[0], base[:, 3])
    np.testing.assert_array_equal(recording.stream("joints").values("position")[0], [11.0, 1.0])
    np.testing.assert_array_equal(recording.stream("camera").picture(0), view)


def test_jpeg_is_small_and_close(tmp_path):
    rows, columns = np.mgrid[0:480, 0:640]
    picture = np.stack([rows // 2, columns // 3, (rows + columns) // 5], -1).astype(np.uint8)
    with EpisodeWriter(tmp_path) as writer:
        path = writer.begin()
        writer.write("camera/front/compressed", picture, time.monotonic())
        writer.end(True, "success")
    stream = load_recording(path).stream("camera/front/compressed")
    assert stream.message(0).format == "jpeg"
    assert np.abs(stream.picture(0).astype(int) - picture).mean() < 2.0
    assert path.stat().st_size < picture.nbytes / 5
