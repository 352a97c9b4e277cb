"""The link brings every record once, in order, whatever happens to the network, the disk or the processes."""

import errno
import os
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from link_bench import ANYWHERE, SCHEMA, Bench, wait
from proxy import Proxy
from workers import LENGTH, make_record, make_schema

from robot_rl.errors import UserError
from robot_rl.hil import log as log_module
from robot_rl.hil import messages, weights
from robot_rl.hil.frames import LogError
from robot_rl.hil.link import Receiver, Sender
from robot_rl.hil.log import RecordLog
from robot_rl.hil.records import encode


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.close()


def test_records_arrive_once_and_in_order(bench):
    bench.append(30)
    bench.receive()
    bench.send()
    bench.collect(30)
    for _ in range(40):
        bench.append(1)
    bench.check(70)
    wait(lambda: bench.sender.status.acknowledged == 70)
    status = bench.sender.status
    assert (status.connected, status.backlog, status.refused) == (True, 0, "")
    assert 0.0 < status.latency < 1.0
    status = bench.receiver.status
    assert (status.connected, status.stored, status.waiting, status.refused) == (1, 70, 0, 0)
    assert {record.source for record in bench.got} == {bench.log.log_id}


def test_pictures_pass_and_large_records_go_alone(tmp_path):
    bench = Bench(tmp_path, make_schema(images={"wrist": (300, 400, 3)}))  # 360 kB, above the limit of a batch
    try:
        bench.receive()
        bench.send()
        bench.append(5)
        bench.check(5)
    finally:
        bench.close()


def test_stop_waits_for_the_learner_if_told_to(bench):
    bench.receive()
    bench.send()
    bench.append(100)
    bench.sender.stop(drain_s=15.0)
    bench.check(100)


def test_the_control_loop_never_waits_for_an_absent_learner(bench):
    sender = bench.send("tcp://127.0.0.1:9")
    began = time.monotonic()
    bench.append(50)
    assert sender.weights() is None
    assert time.monotonic() - began < 1.0
    wait(lambda: sender.status.backlog == 50)
    assert not sender.status.connected
    began = time.monotonic()
    sender.stop()
    assert time.monotonic() - began < 1.0


def test_an_actor_may_start_before_its_log_and_the_learner(bench, tmp_path):
    bench.log.close()
    bench.log.path.unlink()
    bench.receive()
    bench.send()
    time.sleep(0.2)
    assert bench.sender.status.acknowledged == 0
    bench.log = RecordLog(bench.log.path, SCHEMA)
    bench.append(10)
    bench.check(10)


def test_a_learner_that_restarts_goes_on_from_its_files(bench):
    port = bench.receive().endpoint
    bench.send()
    bench.append(30)
    before = [encode(one) for one in bench.collect(30)]
    assert list(bench.receiver.history()) == []
    bench.receiver.stop()
    bench.append(30)
    receiver = bench.receive(port)
    assert [encode(record) for record in receiver.history()] == before
    bench.check(60)
    assert [encode(record) for record in receiver.history()] == before


def test_an_actor_that_restarts_sends_only_what_is_missing(bench):
    bench.receive()
    bench.send()
    bench.append(30)
    bench.collect(30)
    bench.sender.stop()
    bench.append(30)
    bench.send()
    bench.check(60)
    assert bench.receiver.status.refused == 0


def test_a_learner_that_lost_its_files_gets_everything_again(bench):
    port = bench.receive().endpoint
    bench.send()
    bench.append(30)
    bench.collect(30)
    bench.receiver.stop()
    data = bench.copy.read_bytes()
    bench.copy.write_bytes(data[:-500])  # as a power cut does
    bench.got.clear()
    receiver = bench.receive(port)
    bench.got = list(receiver.history())
    assert 0 < len(bench.got) < 30
    bench.check(30)
    receiver.stop()
    bench.copy.unlink()
    bench.got.clear()
    bench.receive(port)
    bench.check(30)


def test_two_actors_do_not_mix(bench, tmp_path):
    bench.receive()
    bench.send()
    second = RecordLog(tmp_path / "second.log", SCHEMA)
    sender = Sender(second.path, SCHEMA, bench.receiver.endpoint, bench.actor)
    sender.start()
    for n in range(60):
        bench.append(1)
        second.append(make_record(SCHEMA, n // LENGTH + 7, n % LENGTH))
    sender.stop(drain_s=10.0)
    bench.sender.stop(drain_s=10.0)
    second.close()
    for log in (bench.log, second):
        assert (tmp_path / "learner" / f"{log.log_id}.log").read_bytes() == log.path.read_bytes()
        mine = [one for one in bench.collect(120) if one.source == log.log_id]
        assert [one.index for one in mine] == [n % LENGTH for n in range(60)]


def test_nothing_is_lost_or_doubled_over_a_bad_network(bench):
    receiver = bench.receive()
    port = int(receiver.endpoint.rsplit(":", 1)[1])
    proxy = Proxy(port, seed=1, drop=0.05, delay=0.002, outages=(1.0, 0.5))
    bench.send(f"tcp://127.0.0.1:{proxy.port}")
    try:
        for _ in range(250):
            bench.append(1)
            time.sleep(0.008)
        bench.check(250)
        assert proxy.broken > 0
        assert proxy.outage_waits > 0
    finally:
        proxy.stop()


def test_a_failing_disk_is_not_acknowledged(bench, monkeypatch, caplog):
    bench.receive()
    bench.append(10)
    real = os.write
    broken = threading.Event()
    broken.set()

    def full(file, data):
        # The header of the learner's log still fits; of its records, only a part.
        if broken.is_set() and bench.copy.exists() and os.path.samestat(os.fstat(file), bench.copy.stat()):
            real(file, data[:60])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(log_module.os, "write", full)
    bench.send()
    wait(lambda: "not stored, not acknowledged" in caplog.text)
    assert bench.sender.status.acknowledged == 0
    assert bench.receiver.poll(0.3) == []
    broken.clear()
    bench.check(10)
    assert bench.sender.status.acknowledged == 10


def test_a_cut_off_log_of_the_actor_is_not_mixed_with_the_learners(bench, caplog):
    bench.receive()
    bench.send()
    bench.append(10)
    bench.check(10)
    bench.sender.stop()
    bench.log.close()
    stored = bench.copy.read_bytes()
    bench.log.path.write_bytes(bench.log.path.read_bytes()[:-300])
    bench.log = RecordLog(bench.log.path, SCHEMA)
    bench.send()
    wait(lambda: "holds only 9" in bench.sender.status.refused)
    # It then grows again, with other records.
    for _ in range(5):
        bench.log.append(make_record(SCHEMA, bench.log.next_episode, 0))
    wait(lambda: "differ from those of" in bench.sender.status.refused)
    assert not bench.sender.status.connected
    assert bench.receiver.poll(0.2) == []
    assert bench.copy.read_bytes() == stored
    assert "begin a new log" in caplog.text


def test_records_wait_at_the_actor_while_the_learner_does_not_read(bench, monkeypatch):
    monkeypatch.setattr("robot_rl.hil.receiver.WAITING_LIMIT", 2000)
    bench.receive()
    bench.send()
    for _ in range(6):
        bench.append(5)
        time.sleep(0.05)
    time.sleep(0.3)
    assert bench.receiver.status.waiting < 30
    assert bench.sender.status.backlog > 0
    monkeypatch.undo()
    bench.check(30)


def test_weights_arrive_whole_and_each_once(bench):
    blob = os.urandom(3 * messages.CHUNK + 17)
    receiver, sender = bench.receive(), None
    receiver.publish(3, blob)
    sender = bench.send()  # one that connects later gets the newest at once
    wait(lambda: sender.status.version == 3)
    assert sender.weights() == (3, blob)
    assert sender.weights() is None
    for size in (1, messages.CHUNK, 2 * messages.CHUNK):
        version, fresh = receiver.status.version + 1, os.urandom(size)
        receiver.publish(version, fresh)
        wait(lambda version=version: sender.status.version == version)
        assert sender.weights() == (version, fresh)


def test_only_the_newest_weights_are_kept_and_versions_grow(bench):
    receiver, sender = bench.receive(), None
    sender = bench.send()
    wait(lambda: sender.status.connected)
    blobs = {version: os.urandom(2 * messages.CHUNK) for version in range(40)}
    taken = []
    for version, blob in blobs.items():
        receiver.publish(version, blob)
        time.sleep(0.003)
        arrived = sender.weights()
        if arrived is not None:
            taken.append(arrived)
    wait(lambda: sender.status.version == 39)
    arrived = sender.weights()
    if arrived is not None:  # or the loop has it already
        taken.append(arrived)
    versions = [version for version, _ in taken]
    assert versions == sorted(set(versions))
    assert versions[-1] == 39
    assert all(blobs[version] == blob for version, blob in taken)
    for version in (39, 5):
        with pytest.raises(ValueError, match="versions must grow"):
            receiver.publish(version, b"x")


def test_a_learner_that_restarts_with_older_weights_is_followed(bench):
    receiver = bench.receive()
    receiver.publish(50, b"new")
    sender = bench.send()
    wait(lambda: sender.status.version == 50)
    assert sender.weights() == (50, b"new")
    receiver.stop()
    bench.receive(receiver.endpoint).publish(40, b"from the checkpoint")
    wait(lambda: sender.status.version == 40)
    assert sender.weights() == (40, b"from the checkpoint")


def test_weights_without_sense_are_not_published(bench, monkeypatch):
    receiver = bench.receive()
    for version in (-1, 1.5, True, "1"):
        with pytest.raises(ValueError, match="version"):
            receiver.publish(version, b"x")
    monkeypatch.setattr(weights, "WEIGHTS_LIMIT", 10)
    for blob in (b"", b"x" * 11):
        with pytest.raises(ValueError, match="expected 1 to 10"):
            receiver.publish(1, blob)


@pytest.mark.parametrize("endpoint", ["tcp://*:0", "tcp://0.0.0.0:0", "tcp://eth0:0", "tcp://192.168.1.2:5000"])
def test_other_machines_are_let_in_only_explicitly(bench, tmp_path, endpoint):
    with pytest.raises(UserError, match="allow_remote"):
        Receiver(tmp_path / "learner", SCHEMA, endpoint, bench.learner)
    Receiver(tmp_path / "learner", SCHEMA, endpoint, bench.learner, allow_remote=True).stop()


def test_a_port_in_use_and_a_foreign_folder_are_said(bench, tmp_path):
    receiver = bench.receive()
    second = Receiver(tmp_path / "second", SCHEMA, receiver.endpoint, bench.learner)
    with pytest.raises(UserError, match="cannot listen at"):
        second.start()
    second.stop()
    with RecordLog(tmp_path / "third" / f"{'0' * 32}.log", make_schema(robot="ur5e"), log_id="0" * 32):
        pass
    with pytest.raises(LogError, match="another schema"):
        Receiver(tmp_path / "third", SCHEMA, ANYWHERE, bench.learner)
