"""A recording that was cut anywhere becomes a whole file that others read; the old one is safe until then."""

import errno
import os
import time

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from rosbags.highlevel import AnyReader

from robot_rl.bench.recording_kills import SCHEMA, make_record
from robot_rl.cli import main
from robot_rl.demos.repair import repair
from robot_rl.errors import UserError
from robot_rl.recording import EpisodeWriter, WriterSettings, load_recording, messages
from robot_rl.recording.types import definition, serialize

LENGTH = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Bytes of a finished recording of many chunks."""
    with EpisodeWriter(tmp_path_factory.mktemp("whole"), SCHEMA, WriterSettings(flush_period=0.03)) as writer:
        path = writer.begin({"task": "arm-pick-lift", "seed": 1})
        for index in range(LENGTH):
            writer.step(make_record(0, index, LENGTH))
            writer.write("joint_states", messages.joint_state(["a"], [index]), time.monotonic())
            time.sleep(0.01)
        writer.end(True, "success")
    return path.read_bytes()


def content(path):
    """What our reader finds in a file."""
    found = load_recording(path)
    streams = {
        topic: (stream.type, list(stream.raws()), stream.measured.tolist(), stream.received.tolist(),
                stream.sequence.tolist())
        for topic, stream in found.streams.items()
    }  # fmt: skip
    return streams, found.info, found.schema, found.state, found.success, found.cause, found.dropped


def test_a_file_that_is_cut_anywhere_becomes_whole(data, tmp_path):
    random = np.random.default_rng(0)
    counts = []
    for number, cut in enumerate(sorted(random.integers(1500, len(data), 25))):
        path = tmp_path / f"episode-{number:06d}.mcap"
        path.write_bytes(data[:cut])
        before = content(path)
        said = repair(path)
        assert content(path) == before
        assert said.startswith(f"{path}: repaired, ")
        assert (tmp_path / f"{path.name}.cut").read_bytes() == data[:cut]
        found = 0
        with path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            assert reader.get_summary().statistics.message_count == sum(len(raws) for _, raws, *_ in before[0].values())
            for _, channel, message in reader.iter_messages():  # by its index
                assert message.data in before[0][channel.topic][1]
                found += 1
        assert found == sum(len(raws) for _, raws, *_ in before[0].values())
        if found:
            with AnyReader([path]) as bag:
                assert sum(1 for _ in bag.messages()) == found
        assert repair(path) == f"{path}: whole"
        counts.append(found)
    assert counts[0] < 10 and counts[-1] > LENGTH and len(set(counts)) > 8
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_where_the_disk_fails_the_old_file_is_as_it_was(data, tmp_path, monkeypatch):
    path = tmp_path / "episode-000000.mcap"
    path.write_bytes(data[: len(data) // 2])

    def full(*_):
        assert path.read_bytes() == data[: len(data) // 2], "the old file was touched before the new one was safe"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("robot_rl.demos.repair.os.fsync", full)
    with pytest.raises(UserError, match=r"cannot be repaired: No space left on device; it is as it was"):
        repair(path)
    assert path.read_bytes() == data[: len(data) // 2] and list(tmp_path.iterdir()) == [path]


def test_a_packed_file_of_another_recorder_is_repaired(tmp_path):
    path = tmp_path / "bag.mcap"
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.ZSTD, chunk_size=200)
        writer.start(profile="ros2", library="other")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", definition("std_msgs/msg/String").encode())
        for name in ("a", "b"):
            writer.register_channel(name, "cdr", schema)
        for index in range(40):
            data = bytes(serialize(messages.text(f"word {index}")))
            writer.add_message(1 + index % 2, 10**18 + index, data, 10**18 + index, index)
        writer.finish()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    before = content(path)[0]
    repair(path)
    assert content(path)[0] == before and 4 < len(before["a"][1]) < 20
    with path.open("rb") as file:
        words = [message.log_time for _, _, message in make_reader(file, validate_crcs=True).iter_messages()]
    assert words == [10**18 + index for index in range(len(words))]


def test_a_folder_is_repaired_but_for_what_is_running_or_no_recording(data, tmp_path, capsys):
    cut, sound, other = (tmp_path / f"{name}.mcap" for name in ("a-cut", "b-sound", "c-other"))
    cut.write_bytes(data[:-3000])
    sound.write_bytes(data)
    other.write_bytes(b"something else")
    with EpisodeWriter(tmp_path) as writer:
        running = writer.begin()
        assert main(["demos", "repair", str(tmp_path), "--no-keep"]) == 1
        said = capsys.readouterr()
        assert f"{cut}: repaired" in said.out and f"{sound}: whole" in said.out
        assert f"{running} is still being recorded" in said.err and "is no recording" in said.err
        writer.end(True, "done")
    assert not cut.with_name("a-cut.mcap.cut").exists()
    assert sound.read_bytes() == data and other.read_bytes() == b"something else"
    cut.write_bytes(data[:-3000])
    cut.with_name("a-cut.mcap.cut").write_bytes(b"kept from before")
    assert main(["demos", "repair", str(cut)]) == 1
    assert "exists already" in capsys.readouterr().err and cut.read_bytes() == data[:-3000]
