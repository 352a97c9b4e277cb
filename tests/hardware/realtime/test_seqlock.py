"""Slots: no torn record whatever the writer does, one writer, nothing left behind by the dead."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hardware.realtime.seqlock import SlotError, SlotFolder, SlotReader, SlotWriter, remove_if_abandoned

WIDE = np.dtype([("number", "u8"), ("values", "f8", 500)])

FLAT_OUT = """
import sys, numpy as np
from pathlib import Path
from hardware.realtime.seqlock import SlotWriter
dtype = np.dtype([("number", "u8"), ("values", "f8", 500)])
record = np.zeros((), dtype)
with SlotWriter(Path(sys.argv[1]), "wide", dtype) as slot:
    print("begun", flush=True)
    while True:
        number = slot.sequence + 1
        record["number"], record["values"] = number, number
        slot.write(record, float(number))
"""


def started(program, *arguments):
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"begun"
    return process


def record(number):
    made = np.zeros((), WIDE)
    made["number"], made["values"] = number, number
    return made


def test_what_is_written_is_read(tmp_path):
    with SlotReader(tmp_path, "wide", WIDE) as reader, SlotWriter(tmp_path, "wide", WIDE) as writer:
        assert reader.read() is None and reader.read_new() is None
        before = time.monotonic()
        assert writer.write(record(7)) == 1
        reading = reader.read()
        assert reading.sequence == 1 and reading.record["number"] == 7
        assert before <= reading.stamp <= time.monotonic()
        assert reader.read_new().sequence == 1 and reader.read_new() is None
        assert reader.writer == os.getpid()


def test_no_record_is_torn_while_another_process_writes_flat_out(tmp_path):
    process = started(FLAT_OUT, tmp_path)
    try:
        with SlotReader(tmp_path, "wide", WIDE) as reader:
            end, last, different = time.monotonic() + 2.0, 0, 0
            while time.monotonic() < end:
                reading = reader.read()
                if reading is None:
                    continue
                number = int(reading.record["number"])
                assert number == reading.sequence == reading.stamp
                assert (reading.record["values"] == number).all()
                assert number >= last
                different += number > last
                last = number
            assert different > 200
    finally:
        process.kill()
        process.wait()


def test_a_writer_killed_at_any_instant_leaves_a_whole_record_and_another_goes_on(tmp_path):
    last = 0
    for _ in range(3):
        process = started(FLAT_OUT, tmp_path)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with SlotReader(tmp_path, "wide", WIDE) as reader:
            reading = reader.read()
            assert (reading.record["values"] == reading.sequence).all()
            assert reading.sequence > last
            last = reading.sequence


def test_a_half_written_cell_is_never_believed(tmp_path):
    with SlotReader(tmp_path, "wide", WIDE) as reader, SlotWriter(tmp_path, "wide", WIDE) as writer:
        writer.write(record(1))
        half = bytearray(writer._memory[:])
        writer.write(record(2))
        torn = bytes(writer._memory[:])
        # The head of the second record over the payload of nothing: as a processor with weak order may show it.
        half[64:72] = torn[64:72]
        writer._memory[:] = bytes(half)
        with pytest.raises(SlotError, match="no whole record"):
            reader.read()


def test_there_is_one_writer(tmp_path):
    process = started(FLAT_OUT, tmp_path)
    try:
        with pytest.raises(SlotError, match=f"written by process {process.pid}"):
            SlotWriter(tmp_path, "wide", WIDE)
    finally:
        process.kill()
        process.wait()
    SlotWriter(tmp_path, "wide", WIDE).close()


def test_records_of_another_layout_are_refused(tmp_path):
    SlotWriter(tmp_path, "wide", WIDE).close()
    with pytest.raises(SlotError, match="another layout"):
        SlotReader(tmp_path, "wide", np.dtype([("values", "f8", 501)]))
    with SlotWriter(tmp_path, "wide", WIDE) as writer, pytest.raises(TypeError, match="takes records of"):
        writer.write(np.zeros((), np.dtype("f8")))


OWNER = """
import sys, time
from pathlib import Path
from hardware.realtime.seqlock import SlotFolder
folder = SlotFolder("arm", Path(sys.argv[1]))
folder.claim()
print("begun", flush=True)
time.sleep(60)
"""


def test_a_robot_has_one_owner_and_what_a_dead_one_leaves_is_cleaned(tmp_path):
    process = started(OWNER, tmp_path)
    folder = SlotFolder("arm", tmp_path)
    try:
        with pytest.raises(SlotError, match=f"in use by process {process.pid}"):
            folder.claim()
        assert not remove_if_abandoned(folder.path)
        with SlotWriter(folder.path, "wide", WIDE) as writer:
            writer.write(record(1))
    finally:
        process.kill()
        process.wait()
    with folder, SlotReader(folder.path, "wide", WIDE) as reader:
        assert reader.read() is None
    assert not folder.path.exists()


def test_a_process_of_an_earlier_run_that_still_writes_is_named(tmp_path):
    folder = SlotFolder("arm", tmp_path)
    folder.path.mkdir()
    process = started(FLAT_OUT, folder.path)
    try:
        with pytest.raises(SlotError, match=f"process {process.pid} of an earlier run"):
            folder.claim()
    finally:
        process.kill()
        process.wait()


def test_whoever_ends_last_removes_what_the_owner_left(tmp_path):
    process = started(OWNER, tmp_path)
    path = SlotFolder("arm", tmp_path).path
    process.kill()
    process.wait()
    assert remove_if_abandoned(path) and not path.exists()
    assert remove_if_abandoned(path)


def test_a_full_memory_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    """At the start, where a process can still refuse; a page that is missing later would be a deadly signal."""

    def no_room(file, mode):
        stream = open(os.devnull, mode)  # noqa: SIM115  (closed by whoever asked for it)
        os.close(file)

        class Full:
            def __enter__(self):
                return self

            def write(self, _):
                raise OSError(errno.ENOSPC, "No space left on device")

            def __exit__(self, *_):
                stream.close()

        return Full()

    monkeypatch.setattr(os, "fdopen", no_room)
    with pytest.raises(SlotError, match="no room for slot 'wide' in .*No space left on device"):
        SlotWriter(tmp_path, "wide", WIDE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 101])
def test_a_name_that_is_no_name_is_refused(name, tmp_path):
    with pytest.raises(SlotError, match="robot name"):
        SlotFolder(name, tmp_path)


def test_a_namespace_is_a_name(tmp_path):
    assert SlotFolder("/cell/left", tmp_path).robot == "cell.left"
