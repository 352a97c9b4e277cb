"""What our own MCAP writer writes is what the format's own reader finds, by its indexes and checksums."""

import os
import threading
import time

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

from robot_rl.recording import EpisodeWriter
from robot_rl.recording.chunks import CHUNK_BYTES, ChunkWriter


def write(path, messages, flush_at=()):
    """A file of (channel, received, data, measured, sequence)."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    writer = ChunkWriter(file)
    writer.add_metadata("before", {"a": "b", "ü": "語"})
    schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
    channels = [writer.register_channel(name, "cdr", schema, {"offered_qos_profiles": ""}) for name in "xyz"]
    for index, (channel, *rest) in enumerate(messages):
        writer.add_message(channels[channel], *rest)
        if index in flush_at:
            writer.flush()
            writer.flush()  # nothing waits: nothing is written
            writer.add_metadata("between", {})
    writer.finish()
    os.close(file)
    return writer


@pytest.mark.parametrize("count", [0, 1, 50, 3000])
def test_everything_is_found_by_its_index(tmp_path, count):
    random = np.random.default_rng(count)
    # Times of receipt that do not ascend, empty messages, sequence numbers beyond 32 bits.
    messages = [
        (
            int(random.integers(2)),
            10**18 + int(random.integers(10**9)),
            random.bytes(random.integers(0, 900)),
            10**18 - index,
            2**32 - 5 + index,
        )
        for index in range(count)
    ]
    path = tmp_path / "a.mcap"
    writer = write(path, messages, flush_at=(7, 20))
    assert writer.end == path.stat().st_size
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        counted = {1 + channel: sum(one[0] == channel for one in messages) for channel in range(2)}
        times = [one[1] for one in messages]
        statistics = summary.statistics
        assert statistics.message_count == count
        assert statistics.channel_message_counts == {channel: n for channel, n in counted.items() if n}
        assert (statistics.message_start_time, statistics.message_end_time) == (
            min(times, default=0),
            max(times, default=0),
        )
        assert (statistics.channel_count, statistics.schema_count, len(summary.schemas)) == (3, 1, 1)
        assert len(summary.chunk_indexes) == statistics.chunk_count
        assert count < 3000 or statistics.chunk_count >= sum(len(one[2]) for one in messages) // CHUNK_BYTES
        found = [
            (ord(channel.topic) - ord("x"), m.log_time, m.data, m.publish_time, m.sequence)
            for _, channel, m in reader.iter_messages()
        ]
        key = {one[2:4]: one for one in messages}
        assert [one[1] for one in found] == sorted(times)
        assert len(found) == count
        assert all(
            key[one[2:4]] == (*one[:4], key[one[2:4]][4]) and one[4] == key[one[2:4]][4] % 2**32 for one in found
        )
        middle = 10**18 + 5 * 10**8
        some = list(reader.iter_messages(topics=["y"], starting_at=middle))
        assert len(some) == sum(one[0] == 1 and one[1] >= middle for one in messages)
        assert [one.name for one in reader.iter_metadata()] == ["before"] + ["between"] * sum(
            n < count for n in (7, 20)
        )
    with path.open("rb") as file:  # with the checksum of all of it
        assert [type(one).__name__ for one in StreamReader(file, validate_crcs=True).records][-1] == "Footer"


def test_it_is_as_small_as_that_of_mcap_itself(tmp_path):
    from mcap.writer import CompressionType, Writer

    messages = [(0, 10**18 + index, bytes(100), 10**18 + index, index) for index in range(500)]
    path, other = tmp_path / "a.mcap", tmp_path / "b.mcap"
    write(path, messages)
    with other.open("wb") as file:
        theirs = Writer(file, compression=CompressionType.NONE, enable_data_crcs=True)
        theirs.start("ros2", "robot_rl")
        theirs.add_metadata("before", {"a": "b", "ü": "語"})
        schema = theirs.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
        for name in "xyz":
            theirs.register_channel(name, "cdr", schema, {"offered_qos_profiles": ""})
        for _, received, data, measured, sequence in messages:
            theirs.add_message(1, received, data, measured, sequence)
        theirs.finish()
    assert abs(path.stat().st_size - other.stat().st_size) < 100


def new_threads(before):
    """The recorder's threads that were started since; those of a test that failed may still be there."""
    return [one for one in threading.enumerate() if one.name.startswith("recorder") and one not in before]


@pytest.mark.parametrize("inherited", [0, getattr(os, "SCHED_RESET_ON_FORK", 0)])
def test_beside_a_real_time_loop_its_threads_run_below_the_loop_and_above_other_programs(tmp_path, inherited):
    seen = {}

    def now(number):
        return os.sched_getscheduler(number) & 0xFF, os.sched_getparam(number).sched_priority

    def loop():
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | inherited, os.sched_param(5))
        except PermissionError:
            return
        with EpisodeWriter(tmp_path) as writer:
            before = set(threading.enumerate())
            writer.begin()
            threads = new_threads(before)
            deadline = time.monotonic() + 5.0
            while any(now(one.native_id) != (os.SCHED_FIFO, 1) for one in threads) and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.update({one.name: now(one.native_id) for one in threads}, loop=now(0))
            writer.end(True, "done")

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    if not seen:
        pytest.skip("real-time priority is not granted here")
    low = (os.SCHED_FIFO, 1)
    assert seen == {"recorder": low, "recorder-sync": low, "loop": (os.SCHED_FIFO, 5)}


def test_beside_any_other_loop_they_have_normal_priority(tmp_path):
    with EpisodeWriter(tmp_path) as writer:
        before = set(threading.enumerate())
        writer.begin()
        time.sleep(0.1)
        numbers = [one.native_id for one in new_threads(before)]
        assert [os.sched_getscheduler(number) for number in numbers] == [os.SCHED_OTHER] * 2
        writer.end(True, "done")
