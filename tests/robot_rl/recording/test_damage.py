"""Whatever happens to a file, what is read of it is a part of what was recorded, from its beginning."""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robot_rl.bench.recording_kills import SCHEMA, make_record
from robot_rl.hil.records import encode
from robot_rl.recording import EpisodeWriter, RecordingError, load_recording, messages
from robot_rl.recording import file as recording_file
from robot_rl.recording.episode import read_steps

LENGTH = 120


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished recording of many chunks, its path."""
    with EpisodeWriter(tmp_path_factory.mktemp("whole"), SCHEMA) as writer:
        path = writer.begin({"seed": 1})
        for index in range(LENGTH):
            writer.step(make_record(0, index, LENGTH))
            writer.write("joint_states", messages.joint_state(["a"], [index]), time.monotonic())
            time.sleep(0.01)
        writer.end(True, "success")
    return path


@pytest.fixture(scope="module")
def wanted():
    """The steps as bytes, without pictures."""
    return [plain(make_record(0, index, LENGTH)) for index in range(LENGTH)]


def plain(record):
    return encode(type(record)(**{**vars(record), "images": {}, "final_images": {}}))


def steps_in(path):
    """The steps that can be read, and the recording; None where all of it is refused in a sentence."""
    try:
        recording = load_recording(path)
        return (read_steps(recording).records if "step" in recording.streams else []), recording
    except RecordingError as error:
        assert "\n" not in str(error) and 10 < len(str(error)) < 600
        return None


def test_a_file_that_is_cut_anywhere_is_read_up_to_there(whole, wanted, tmp_path):
    data = whole.read_bytes()
    random = np.random.default_rng(0)
    counts = []
    path = tmp_path / "episode-000000.mcap"
    for cut in sorted(random.integers(200, len(data), 60)):
        path.write_bytes(data[:cut])
        found = steps_in(path)
        if found is None:
            assert cut < 1000, "only a damaged beginning costs all"
            continue
        records, recording = found
        assert [plain(one) for one in records] == wanted[: len(records)]
        assert not recording.problem or str(path) in recording.problem
        if not recording.finished:
            assert recording.state == "cut off" and not recording.success
            assert "left out" in recording.problem or "nothing that was stored is lost" in recording.problem
        counts.append(len(records))
    assert counts == sorted(counts) and counts[-1] > 0.9 * LENGTH, "a longer file holds no fewer steps"
    assert len(set(counts)) > 4


@pytest.mark.parametrize("tail", ["zeros", "garbage", "old records"])
def test_a_torn_tail_is_not_believed(whole, wanted, tmp_path, tail):
    data = whole.read_bytes()
    random = np.random.default_rng(1)
    for cut in random.integers(len(data) // 4, 3 * len(data) // 4, 25):
        rest = {
            "zeros": bytes(50_000),
            "garbage": random.bytes(50_000),
            "old records": data[len(data) // 5 : len(data) // 5 + 50_000],
        }[tail]
        path = tmp_path / "episode-000000.mcap"
        path.write_bytes(data[:cut] + rest)
        records, recording = steps_in(path)
        assert [plain(one) for one in records] == wanted[: len(records)]
        assert not recording.finished
        assert "are left out" in recording.problem


def test_flipped_bits_are_never_taken_for_data(whole, wanted, tmp_path):
    data = bytearray(whole.read_bytes())
    random = np.random.default_rng(2)
    path = tmp_path / "episode-000000.mcap"
    shorter = refused = 0
    # Anywhere, and densely where the lengths and names are.
    places = [
        *random.integers(0, len(data), 80),
        *random.integers(0, 3000, 60),
        *(len(data) - random.integers(1, 3000, 30)),
    ]
    for place in places:
        bit = 1 << int(random.integers(8))
        data[place] ^= bit
        path.write_bytes(data)
        found = steps_in(path)
        data[place] ^= bit
        if found is None:
            refused += 1
            continue
        records, recording = found
        assert [plain(one) for one in records] == wanted[: len(records)]
        assert len(records) == LENGTH or not recording.finished
        shorter += len(records) < LENGTH
    assert shorter > 40
    assert 0 < refused < 60


def test_a_power_cut_after_any_sync_costs_less_than_a_second(tmp_path, monkeypatch):
    synced, given = [], []
    real = os.fdatasync

    def sync(file):
        size = os.fstat(file).st_size
        real(file)
        synced.append((time.monotonic(), size))

    monkeypatch.setattr(recording_file.os, "fdatasync", sync)
    with EpisodeWriter(tmp_path, SCHEMA) as writer:
        path = writer.begin()
        for index in range(500):
            writer.step(make_record(0, index, 500))
            given.append(time.monotonic())
            time.sleep(0.004)
        stopped = time.monotonic()
        data = path.read_bytes()
    assert len(synced) >= 4
    cut = tmp_path / "cut.mcap"
    moments = [*(when for when, _ in synced[1:]), stopped]
    for (_, size), until in zip(synced, moments, strict=True):
        # Until the next sync only `size` bytes are sure to be there.
        cut.write_bytes(data[:size])
        records, _ = steps_in(cut)
        due = sum(when < until - 1.0 for when in given)
        assert len(records) >= due


_FILL = """
import sys, time
from pathlib import Path
from robot_rl.recording import EpisodeWriter, RecordingError
from robot_rl.bench.recording_kills import SCHEMA, make_record
if sys.argv[2] != "0":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
writer = EpisodeWriter(Path(sys.argv[1]), SCHEMA)
for episode in range(100):
    length = 6 if episode < 3 else 100000
    try:
        writer.begin()
        slowest = 0.0
        for index in range(length):
            begin = time.monotonic()
            writer.step(make_record(episode, index, length))
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.003)
            if writer.failure:
                break
        writer.end(True, "success")
        print("ended", episode, flush=True)
    except RecordingError as error:
        print("failed", episode, index, error, flush=True)
        break
"""


def check_full(folder, said):
    lines = said.splitlines()
    assert lines[:3] == ["ended 0", "ended 1", "ended 2"]
    assert len(lines) == 4 and lines[3].startswith("failed 3 ")
    assert "stopped: " in lines[3] and "stays readable" in lines[3] and "free space" in lines[3]
    paths = sorted(folder.glob("*.mcap"))
    assert len(paths) == 4
    for number, path in enumerate(paths[:3]):
        recording = load_recording(path)
        assert (recording.state, recording.success, len(recording.stream("step"))) == ("finished", True, 6)
        records = read_steps(recording).records
        assert [plain(one) for one in records] == [plain(make_record(number, index, 6)) for index in range(6)]
    last = load_recording(paths[3])
    assert last.state == "cut off" and len(last.stream("step")) > 20


def test_a_file_size_limit_ends_a_recording_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path), str(400_000)], capture_output=True, text=True, timeout=60
    )
    check_full(tmp_path, done.stdout)
    assert "File too large" in done.stdout and "Traceback" not in done.stderr


def test_a_full_disk_ends_a_recording_in_one_sentence(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk]).returncode:
        pytest.skip("no tmpfs can be mounted here (that needs root)")
    try:
        done = subprocess.run([sys.executable, "-c", _FILL, str(disk), "0"], capture_output=True, text=True, timeout=60)
        check_full(disk, done.stdout)
        assert "No space left on device" in done.stdout and "Traceback" not in done.stderr
        rest = os.open(disk / "rest", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space left"):
            while True:
                os.write(rest, bytes(4096))
        os.close(rest)
        with EpisodeWriter(disk, SCHEMA) as writer:
            with pytest.raises(RecordingError, match="cannot begin the recording .*No space left"):
                writer.begin()
            assert not writer.recording
        assert len(list(disk.glob("*.mcap"))) == 4, "half an episode was left"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_reading_takes_no_more_memory_than_a_chunk(whole, tmp_path):
    path = tmp_path / "episode-000000.mcap"
    data = bytearray(whole.read_bytes())
    # Lengths of 2^62 in a record's head, a string's and a chunk's.
    place = data.index(b"robot_rl.begin") - 4
    data[place : place + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = steps_in(path)
    assert found is None or found[0] == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert Path(whole).stat().st_size > 100_000
