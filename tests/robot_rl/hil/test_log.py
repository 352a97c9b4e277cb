"""A log loses nothing that was stored, whatever is cut off, flipped or killed."""

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from workers import LENGTH, make_record, make_schema

from robot_rl.hil import log as log_module
from robot_rl.hil.log import LogError, RecordError, RecordLog, read
from robot_rl.hil.records import decode, encode

SCHEMA = make_schema()
WORKERS = Path(__file__).with_name("workers.py")


def fill(path, count, schema=SCHEMA):
    """A log with `count` records, and the file's size after each of them, the empty log first."""
    with RecordLog(path, schema) as log:
        sizes = [path.stat().st_size]
        for sequence in range(count):
            assert log.append(make_record(schema, sequence // LENGTH, sequence % LENGTH)) == sequence
            sizes.append(path.stat().st_size)
    return sizes


def payloads(count):
    return [encode(make_record(SCHEMA, n // LENGTH, n % LENGTH)) for n in range(count)]


def test_what_was_appended_is_read_in_order(tmp_path):
    path = tmp_path / "deep" / "run.log"
    fill(path, 45)
    assert list(read(path)) == list(enumerate(payloads(45)))
    assert list(read(path, 40)) == list(enumerate(payloads(45)))[40:]
    assert list(read(path, 45)) == list(read(path, 99)) == []


def test_a_log_is_with_the_system_before_append_returns(tmp_path):
    with RecordLog(tmp_path / "run.log", SCHEMA, sync_period=1000.0) as log:
        log.append(make_record(SCHEMA))
        assert [data for _, data in read(log.path)] == payloads(1)


def test_opening_again_goes_on(tmp_path):
    path = tmp_path / "run.log"
    fill(path, 23)
    with RecordLog(path, SCHEMA) as log:
        assert (log.count, log.next_episode) == (23, 2)
        assert log.append(make_record(SCHEMA, 1, 3)) == 23
        first = log.log_id
    with RecordLog(path, SCHEMA) as log:
        assert log.log_id == first
        assert log.append(make_record(SCHEMA, log.next_episode, 0)) == 24
    assert [sequence for sequence, _ in read(path)] == list(range(25))


def test_a_log_cut_at_any_byte_keeps_its_whole_records(tmp_path, caplog, monkeypatch):
    whole = tmp_path / "whole.log"
    sizes = fill(whole, 6)
    data = whole.read_bytes()
    path = tmp_path / "cut.log"
    monkeypatch.setattr(log_module.os, "fsync", lambda file: None)  # thousands of them would take a minute
    for cut in [*range(sizes[3], sizes[5], 9), *range(sizes[5], len(data))]:
        path.write_bytes(data[:cut])
        kept = max(index for index, size in enumerate(sizes) if size <= cut)
        caplog.clear()
        assert [one for _, one in read(path)] == payloads(kept)
        with RecordLog(path, SCHEMA, sync_period=1000.0) as log:
            assert log.append(make_record(SCHEMA, 0, kept)) == kept
        assert path.read_bytes() == data[: sizes[kept + 1]]
        dropped = cut - sizes[kept]
        assert (f"dropped {dropped} bytes" in caplog.text) == (dropped > 0)


def test_flipped_bits_never_give_a_wrong_record(tmp_path, caplog):
    whole = tmp_path / "whole.log"
    sizes = fill(whole, 8)
    data, good = whole.read_bytes(), payloads(8)
    random_bits = random.Random(3)
    path = tmp_path / "flipped.log"
    for _ in range(150):
        bit = random_bits.randrange(8 * sizes[0], 8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        kept = max(index for index, size in enumerate(sizes) if size <= bit // 8)
        assert [one for _, one in read(path)] == good[:kept]
        caplog.clear()
        with RecordLog(path, SCHEMA, sync_period=1000.0) as log:
            assert log.count == kept
        assert f"dropped {len(data) - sizes[kept]} bytes" in caplog.text
        # Nothing is thrown away: what was behind the flipped bit lies beside the log.
        [aside] = tmp_path.glob("flipped.log.dropped-*")
        assert path.read_bytes() + aside.read_bytes() == bytes(changed)
        aside.unlink()


def test_reading_says_that_it_stops_at_damage(tmp_path, caplog):
    path = tmp_path / "run.log"
    sizes = fill(path, 8)
    data = bytearray(path.read_bytes())
    data[sizes[2] + 20] ^= 1
    path.write_bytes(data)
    assert len(list(read(path))) == 2
    assert f"the {len(data) - sizes[2]} bytes from there on are not read" in caplog.text


def test_zeros_behind_the_end_as_after_a_power_cut_are_dropped(tmp_path):
    path = tmp_path / "run.log"
    fill(path, 3)
    with open(path, "ab") as file:
        file.write(bytes(4096))
    with RecordLog(path, SCHEMA) as log:
        assert log.append(make_record(SCHEMA, 0, 3)) == 3
    assert [one for _, one in read(path)] == payloads(4)


@pytest.mark.parametrize("damage", ["repeat", "swap", "remove"])
def test_repeated_exchanged_and_missing_frames_show(tmp_path, damage):
    path = tmp_path / "run.log"
    sizes = fill(path, 5)
    data = path.read_bytes()
    head, frames = data[: sizes[0]], [data[a:b] for a, b in zip(sizes, sizes[1:], strict=False)]
    changed = {
        "repeat": [*frames[:3], frames[2], *frames[3:]],
        "swap": [*frames[:2], frames[3], frames[2], frames[4]],
        "remove": [*frames[:2], *frames[3:]],
    }[damage]
    path.write_bytes(head + b"".join(changed))
    assert [one for _, one in read(path)] == payloads(3 if damage == "repeat" else 2)


def test_another_schema_another_id_and_other_files_are_refused(tmp_path):
    path = tmp_path / "run.log"
    fill(path, 1)
    before = path.read_bytes()
    with pytest.raises(LogError, match="another schema: robot 'panda' instead of 'ur5e'"):
        RecordLog(path, make_schema(robot="ur5e"))
    with pytest.raises(LogError, match="expected 0000"):
        RecordLog(path, SCHEMA, log_id="0" * 32)
    with pytest.raises(LogError, match="hexadecimal"):
        RecordLog(tmp_path / "other.log", SCHEMA, log_id="../../etc")
    assert path.read_bytes() == before
    for content in (b"", b"text", before[:40], before[:20] + b"\xff" + before[21:]):
        path.write_bytes(content)
        with pytest.raises(LogError, match=str(path)):
            RecordLog(path, SCHEMA)
        assert path.read_bytes() == content
    with pytest.raises(LogError, match="cannot open"):
        list(read(tmp_path / "missing.log"))


def test_only_one_may_append(tmp_path):
    with (
        RecordLog(tmp_path / "run.log", SCHEMA) as log,
        pytest.raises(LogError, match="open for appending elsewhere"),
    ):
        RecordLog(log.path, SCHEMA)


def test_steps_that_do_not_follow_are_refused(tmp_path):
    with RecordLog(tmp_path / "run.log", SCHEMA) as log:
        with pytest.raises(RecordError, match="cannot follow nothing"):
            log.append(make_record(SCHEMA, 0, 1))
        log.append(make_record(SCHEMA, 4, 0))
        for episode, index in ((4, 0), (4, 2), (3, 0), (5, 1)):
            with pytest.raises(RecordError, match="cannot follow step 0 of episode 4"):
                log.append(make_record(SCHEMA, episode, index))
        log.append(make_record(SCHEMA, 4, 1, ended=True))
        with pytest.raises(RecordError, match="its last"):
            log.append(make_record(SCHEMA, 4, 2))
        assert log.append(make_record(SCHEMA, 5, 0)) == 2


def test_a_record_that_does_not_fit_is_not_stored(tmp_path):
    with RecordLog(tmp_path / "run.log", SCHEMA) as log:
        size = log.path.stat().st_size
        with pytest.raises(RecordError, match="action"):
            log.append(make_record(make_schema(action=5)))
        with pytest.raises(RecordError, match="msgpack"):
            log.append_encoded(b"\xc1")
        assert (log.count, log.path.stat().st_size) == (0, size)


def test_a_full_disk_leaves_whole_records_and_the_log_goes_on(tmp_path, monkeypatch):
    real = os.write
    with RecordLog(tmp_path / "run.log", SCHEMA) as log:
        log.append(make_record(SCHEMA, 0, 0))

        def full(file, data):
            if len(data) > 50:
                return real(file, data[:50])  # a part fits
            raise OSError(errno.ENOSPC, "No space left on device")

        def half(file, data):
            real(file, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(log_module.os, "write", half)
        with pytest.raises(LogError, match="record 1 was not stored: No space"):
            log.append(make_record(SCHEMA, 0, 1))
        monkeypatch.setattr(log_module.os, "write", full)
        with pytest.raises(LogError, match="No space"):
            log.append(make_record(SCHEMA, 0, 1))
        monkeypatch.undo()
        assert [one for _, one in read(log.path)] == payloads(1)
        assert log.append(make_record(SCHEMA, 0, 1)) == 1
    assert [one for _, one in read(log.path)] == payloads(2)


def test_a_failed_fsync_is_not_forgotten(tmp_path, monkeypatch, caplog):
    with RecordLog(tmp_path / "run.log", SCHEMA, sync_period=0.01) as log:

        def fail(file):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(log_module.os, "fsync", fail)
        log.append(make_record(SCHEMA, 0, 0))
        until = time.monotonic() + 5.0
        while "Input/output error" not in caplog.text and time.monotonic() < until:
            time.sleep(0.01)
        monkeypatch.undo()
        with pytest.raises(LogError, match="Input/output error"):
            log.append(make_record(SCHEMA, 0, 1))


def test_the_disk_is_synced_in_the_background_and_only_when_needed(tmp_path, monkeypatch):
    calls = []
    real = os.fsync
    monkeypatch.setattr(log_module.os, "fsync", lambda file: calls.append(threading.current_thread()) or real(file))
    with RecordLog(tmp_path / "run.log", SCHEMA, sync_period=0.02) as log:
        calls.clear()
        log.append(make_record(SCHEMA, 0, 0))
        until = time.monotonic() + 5.0
        while not calls and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(calls) == 1
        assert calls[0] is not threading.current_thread()


def test_reading_while_another_thread_writes(tmp_path, caplog):
    log = RecordLog(tmp_path / "run.log", SCHEMA)
    good = payloads(400)

    def writing():
        for n in range(400):
            log.append(make_record(SCHEMA, n // LENGTH, n % LENGTH))

    writer = threading.Thread(target=writing)
    writer.start()
    seen = []
    until = time.monotonic() + 20.0
    while len(seen) < 400 and time.monotonic() < until:
        seen += [data for _, data in read(log.path, len(seen))]
        assert seen == good[: len(seen)]
    writer.join()
    log.close()
    assert len(seen) == 400
    assert "not read" not in caplog.text


def test_two_that_begin_a_log_at_once_agree(tmp_path):
    outcomes = []

    def begin():
        try:
            outcomes.append(RecordLog(tmp_path / "run.log", SCHEMA))
        except LogError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [one for one in outcomes if isinstance(one, RecordLog)]
    assert sum(isinstance(one, LogError) for one in outcomes) == 5
    winner.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.log"]


def test_a_killed_writer_loses_nothing_that_it_had_stored(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "run.log"
    moments = random.Random(5)
    said = 0
    for _ in range(5):
        command = [sys.executable, str(WORKERS), "write", str(path), "0.0002"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        first = int(process.stdout.readline())
        assert first == said  # it goes on where the file ends
        time.sleep(moments.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        process.wait()
        stored = [data for _, data in read(path)]
        last = int(rest[-2]) if len(rest) > 1 else first  # the last whole line
        assert len(stored) > last
        said = len(stored)
    records = [decode(data, SCHEMA) for data in stored]
    assert len({(one.episode, one.index) for one in records}) == len(records) > 20
    assert [encode(make_record(SCHEMA, one.episode, one.index)) for one in records] == stored
    assert "not read" not in caplog.text
