"""What does not belong on the link is refused with a log line; nothing is stored, and the link goes on."""

import dataclasses
import hashlib
import logging
import os
import socket
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

sys.path.insert(0, str(Path(__file__).parent))
from link_bench import SCHEMA, Bench, wait
from workers import make_record, make_schema

from robot_rl.hil import messages
from robot_rl.hil.keys import load_pair
from robot_rl.hil.link import Sender
from robot_rl.hil.log import RecordLog
from robot_rl.hil.messages import Refusals
from robot_rl.hil.records import encode

LOG_ID = "ab" * 16
TOKEN = b"0123456789abcdef"


@pytest.fixture
def bench(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made = Bench(tmp_path)
    made.receive()
    yield made
    # Whatever came before: the real actor's records still pass, and nothing else was stored.
    made.send()
    made.append(25)
    made.check(25)
    assert [path.name for path in (tmp_path / "learner").iterdir()] == [made.copy.name]
    made.close()


class Client:
    """An actor by hand, with whatever keys."""

    def __init__(self, endpoint, learner, own):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.curve_serverkey = learner
        self.socket.curve_publickey, self.socket.curve_secretkey = own.public, own.secret
        self.socket.connect(endpoint)

    def ask(self, data, timeout=3.0):
        """Send bytes; the kind and the fields of the answer, or None."""
        self.socket.send(data)
        if not self.socket.poll(int(1000 * timeout)):
            return None
        return messages.unpack(self.socket.recv(), messages.FROM_LEARNER)

    def hello(self, schema=SCHEMA, log_id=LOG_ID, token=TOKEN, count=100):
        return self.ask(messages.pack("hello", session=token, log_id=log_id, schema=schema.to_dict(), count=count))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.destroy(linger=0)


@pytest.fixture
def client(bench):
    """A client with the actor's keys."""
    with Client(bench.receiver.endpoint, bench.actor.learner, bench.actor.own) as made:
        yield made
    for path in (bench.folder / "learner").glob(f"{LOG_ID}.log"):
        assert path.stat().st_size > 0
        bench.receiver._logs[LOG_ID].close()
        path.unlink()


def records(first, count, session=TOKEN, schema=SCHEMA):
    payloads = [encode(make_record(schema, 0, first + n)) for n in range(count)]
    return messages.pack("records", session=session, first=first, payloads=payloads)


def test_a_client_that_is_not_authorised_is_refused(bench, tmp_path, caplog):
    stranger = load_pair(tmp_path / "elsewhere", "actor")
    with Client(bench.receiver.endpoint, bench.actor.learner, stranger) as client:
        assert client.ask(records(0, 1), 0.5) is None
    assert f"the public key {stranger.public.decode()} is not authorised" in caplog.text
    assert bench.receiver.status.refused > 0


def test_an_actor_with_a_stale_key_says_nothing_and_gets_nothing(bench, tmp_path, caplog):
    stranger = load_pair(tmp_path / "elsewhere", "actor")
    bench.append(5)
    sender = Sender(bench.log.path, SCHEMA, bench.receiver.endpoint, dataclasses.replace(bench.actor, own=stranger))
    sender.start()
    wait(lambda: "is not authorised" in caplog.text)
    wait(lambda: "does not know this actor's key" in sender.status.refused)
    assert not sender.status.connected
    sender.stop()
    assert bench.receiver.status.stored == 0
    bench.log.close()
    bench.log.path.unlink()
    bench.log = RecordLog(bench.log.path, SCHEMA)


def test_the_wrong_key_of_the_learner_is_refused(bench, tmp_path, caplog):
    other = load_pair(tmp_path / "elsewhere", "learner")
    with Client(bench.receiver.endpoint, other.public, bench.actor.own) as client:
        assert client.ask(records(0, 1), 0.5) is None
    wait(lambda: "no actor's, or has another learner's key" in caplog.text)


def test_a_client_without_encryption_is_refused(bench, caplog):
    context = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.linger = 0
    plain.connect(bench.receiver.endpoint)
    plain.send(records(0, 1))
    assert not plain.poll(500)
    context.destroy(linger=0)
    wait(lambda: "refused: a connection" in caplog.text)


def test_garbage_on_the_port_is_refused(bench, caplog):
    port = int(bench.receiver.endpoint.rsplit(":", 1)[1])
    random = np.random.default_rng(1)
    greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE" + bytes(47)
    for data in (b"GET / HTTP/1.1\r\n\r\n", random.bytes(5000), greeting + random.bytes(3000), b"\xff" * 64, b""):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(data)
    wait(lambda: "handshake error" in caplog.text)


NONSENSE = {
    "empty": b"",
    "bytes": os.urandom(300),
    "text": b"hello",
    "list": msgpack.packb([1, 2, 3]),
    "deep": b"\x91" * 3000,
    "no version": msgpack.packb({"t": "ping", "session": TOKEN, "number": 1}),
    "other version": msgpack.packb({"v": 2, "t": "ping", "session": TOKEN, "number": 1}),
    "true version": msgpack.packb({"v": True, "t": "ping", "session": TOKEN, "number": 1}),
    "unknown kind": msgpack.packb({"v": 1, "t": "run", "session": TOKEN}),
    "kind of the learner": messages.pack("welcome", session=TOKEN, learner=TOKEN, next=0, checksum=0),
    "field missing": msgpack.packb({"v": 1, "t": "ping", "session": TOKEN}),
    "field too many": messages.pack("ping", session=TOKEN, number=1, more=2),
    "short session": messages.pack("ping", session=b"1", number=1),
    "negative": messages.pack("ping", session=TOKEN, number=-1),
    "huge": messages.pack("ping", session=TOKEN, number=2**60),
    "extension": messages.pack("ping", session=TOKEN, number=msgpack.ExtType(1, b"x")),
    "no records": messages.pack("records", session=TOKEN, first=0, payloads=[]),
    "text as records": messages.pack("records", session=TOKEN, first=0, payloads=["a"]),
    "too many records": messages.pack("records", session=TOKEN, first=0, payloads=[b"a"] * 257),
    "a path as log": messages.pack("hello", session=TOKEN, log_id="../../x", schema=SCHEMA.to_dict(), count=0),
    "long id": messages.pack("hello", session=TOKEN, log_id="a" * 33, schema=SCHEMA.to_dict(), count=0),
    "no schema": messages.pack("hello", session=TOKEN, log_id=LOG_ID, schema=[], count=0),
}


def test_nonsense_of_a_known_client_is_refused(bench, client, caplog):
    for what, data in NONSENSE.items():
        before = bench.receiver.status.refused
        client.socket.send(data)
        wait(lambda before=before: bench.receiver.status.refused == before + 1)
        assert not client.socket.poll(10), what
    client.socket.send_multipart([b"a", b"b"])
    wait(lambda: bench.receiver.status.refused == len(NONSENSE) + 1)
    assert caplog.text.count("refused: from an actor") == 10  # a flood does not fill the disk


def test_a_message_that_is_too_long_ends_the_connection(bench, client):
    assert client.hello()[0] == "welcome"
    client.socket.send(bytes(10_000_000))
    # ZeroMQ makes a new connection, which has no session.
    until = time.monotonic() + 5.0
    answer = None
    while answer is None and time.monotonic() < until:
        answer = client.ask(messages.pack("ping", session=TOKEN, number=1), 0.2)
    assert answer is None or answer[1].get("code") == "session"
    assert bench.receiver.status.stored == 0


@pytest.mark.parametrize("change", [{"robot": "ur5e"}, {"action": 4}, {"task": "other"}, {"control_rate_hz": 20.0}])
def test_another_robots_schema_is_refused(bench, client, caplog, change):
    kind, answer = client.hello(make_schema(**change))
    assert (kind, answer["code"]) == ("refused", "hello")
    assert f"another schema: {next(iter(change))}" in answer["reason"]
    assert answer["reason"] in caplog.text
    assert client.ask(records(0, 1))[1]["code"] == "session"


def test_an_actor_of_another_robot_says_why_it_is_refused(bench, tmp_path):
    other = make_schema(robot="ur5e")
    with RecordLog(tmp_path / "other.log", other) as log:
        log.append(make_record(other))
    sender = Sender(log.path, other, bench.receiver.endpoint, bench.actor)
    sender.start()
    wait(lambda: "robot 'ur5e' instead of 'panda'" in sender.status.refused)
    sender.stop()
    assert bench.receiver.status.stored == 0


def test_a_record_of_another_shape_is_refused(bench, client, caplog):
    assert client.hello()[0] == "welcome"
    wide = encode(make_record(make_schema(action=4)))
    wild = encode(make_record(SCHEMA, action=np.array([2.0, 0.0, 0.0], np.float32)))
    late = encode(make_record(SCHEMA, 0, 5))
    for bad, why in ((wide, "shape"), (wild, r"must lie within [-1, 1]"), (late, "cannot follow"), (b"junk", "")):
        kind, answer = client.ask(messages.pack("records", session=TOKEN, first=0, payloads=[bad]))
        assert (kind, answer["code"]) == ("refused", "record")
        assert why in answer["reason"]
        assert answer["reason"] in caplog.text
    assert bench.receiver.status.stored == 0
    # The good ones before a bad one are kept.
    good = [encode(make_record(SCHEMA, 0, n)) for n in range(2)]
    kind, answer = client.ask(messages.pack("records", session=TOKEN, first=0, payloads=[*good, wide]))
    assert (kind, bench.receiver.status.stored, len(bench.receiver.poll(1.0))) == ("refused", 2, 2)


def test_replayed_records_are_refused(bench, client, caplog):
    _, welcome = client.hello()
    assert welcome["next"] == 0
    first = records(0, 3)
    assert client.ask(first) == ("ack", {"session": TOKEN, "next": 3})
    for _ in range(2):
        assert client.ask(first)[1]["next"] == 3
    assert "records 0 to 2" in caplog.text
    # Partly old: only the new ones count.
    assert client.ask(records(1, 4))[1]["next"] == 5
    # With a hole: nothing.
    assert client.ask(records(7, 2))[1]["next"] == 5
    assert f"record 7 of {LOG_ID}; expected 5" in caplog.text
    assert [one.index for one in bench.receiver.poll(1.0)] == [0, 1, 2, 3, 4]
    assert bench.receiver.status.stored == 5


def test_messages_of_an_old_session_are_refused(bench, client, caplog):
    client.hello()
    old = records(0, 2)
    fresh = b"f" * 16
    assert client.hello(token=fresh)[1]["next"] == 0
    kind, answer = client.ask(old)
    assert (kind, answer["code"], answer["session"]) == ("refused", "session", TOKEN)
    assert "records of an old or unknown session" in caplog.text
    assert bench.receiver.status.stored == 0
    # From another connection, also with the token of the session.
    with Client(bench.receiver.endpoint, bench.actor.learner, bench.actor.own) as second:
        assert second.ask(records(0, 2, session=fresh))[1]["code"] == "session"
        # A second connection of the same log takes over from the first.
        assert second.hello(token=b"s" * 16)[0] == "welcome"
        assert client.ask(records(0, 2, session=fresh))[1]["code"] == "session"
    assert bench.receiver.status.stored == 0


class FakeLearner:
    """A learner by hand, with the right keys, that answers what a test wants."""

    def __init__(self, keys):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.curve_server = True
        self.socket.curve_secretkey, self.socket.curve_publickey = keys.own.secret, keys.own.public
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    def question(self, kind):
        while True:
            assert self.socket.poll(5000), f"no {kind} came"
            identity, data = self.socket.recv_multipart()
            found, message = messages.unpack(data, messages.FROM_ACTOR)
            if found == kind:
                return identity, message

    def say(self, identity, message, kind, **values):
        self.socket.send_multipart([identity, messages.pack(kind, session=message["session"], **values)])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.destroy(linger=0)


@pytest.fixture
def lonely(tmp_path, caplog):
    """A sender with ten records, and a learner by hand that has welcomed it."""
    bench = Bench(tmp_path)
    bench.append(10)
    with FakeLearner(bench.learner) as learner:
        bench.send(f"tcp://127.0.0.1:{learner.port}")
        identity, hello = learner.question("hello")
        with RecordLog(tmp_path / "empty.log", SCHEMA, log_id=bench.log.log_id) as empty:
            learner.say(identity, hello, "welcome", learner=TOKEN, next=0, checksum=empty.checksum)
        assert learner.question("records")[1]["first"] == 0
        yield bench.sender, learner, identity, hello
        bench.close()


def test_an_actor_refuses_nonsense_of_the_learner(lonely, caplog):
    sender, learner, identity, hello = lonely
    for data in (b"", os.urandom(100), *list(NONSENSE.values())[:8]):
        learner.socket.send_multipart([identity, data])
    learner.socket.send_multipart([identity, messages.pack("ack", session=b"o" * 16, next=10)])
    learner.say(identity, hello, "pong", number=3)
    wait(lambda: "pong from the learner without a question" in caplog.text)
    assert "ack of another session" in caplog.text
    assert sender.status.acknowledged == 0
    learner.say(identity, hello, "ack", next=10**6)
    wait(lambda: "the learner acknowledged 1000000 records" in caplog.text)
    assert sender.status.acknowledged == 0


def test_half_weights_damaged_weights_and_old_weights_are_never_seen(lonely, caplog):
    sender, learner, identity, hello = lonely
    learner.say(identity, hello, "ack", next=10)
    blob = os.urandom(messages.CHUNK + 100)
    offer = {"size": len(blob), "sha256": hashlib.sha256(blob).digest()}

    def transfer(version, first, second):
        learner.say(identity, hello, "offer", version=version, **offer)
        for index, data in enumerate((first, second)):
            _, question = learner.question("get")
            assert (question["version"], question["index"]) == (version, index)
            assert sender.weights() is None
            learner.say(identity, hello, "chunk", version=version, index=index, data=data)

    first, second = blob[: messages.CHUNK], blob[messages.CHUNK :]
    transfer(5, first, second[:-1] + bytes([second[-1] ^ 1]))
    wait(lambda: "weights 5 arrived damaged" in caplog.text)
    assert sender.weights() is None
    transfer(6, first, second[:-1])
    wait(lambda: "chunk 1 of weights 6 has 99 bytes" in caplog.text)
    transfer(7, first, second)
    wait(lambda: sender.status.version == 7)
    assert sender.weights() == (7, blob)
    for version in (7, 3):
        learner.say(identity, hello, "offer", version=version, **offer)
    wait(lambda: "weights 3: the version 7 is there already" in caplog.text)
    learner.say(identity, hello, "offer", version=8, size=2**40, sha256=bytes(32))
    wait(lambda: "weights 8 of 1099511627776 bytes" in caplog.text)
    assert sender.weights() is None


def test_refusals_are_counted_also_where_lines_are_left_out(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(messages.time, "monotonic", lambda: now[0])
    refusals = Refusals(logging.getLogger("test"), burst=3, per_s=10.0)
    for _ in range(50):
        refusals.add("garbage", "a")
    refusals.add("key", "b")
    assert refusals.count == 51
    assert caplog.text.count("refused: a") == 3
    assert caplog.text.count("refused: b") == 1
    now[0] = 11.0
    refusals.add("garbage", "a")
    assert "refused 47 more of the same" in caplog.text
    assert caplog.text.count("refused: a") == 4
