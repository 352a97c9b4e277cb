"""Both ends of a link in one process, for tests."""

import time

from workers import LENGTH, make_record, make_schema

from robot_rl.hil.keys import local_keys
from robot_rl.hil.link import Receiver, Sender
from robot_rl.hil.log import RecordLog
from robot_rl.hil.records import encode

SCHEMA = make_schema()
ANYWHERE = "tcp://127.0.0.1:*"


def wait(condition, seconds=15.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition(), "it did not happen in time"


class Bench:
    """An actor's log, and both ends of a link, started and stopped at will."""

    def __init__(self, folder, schema=SCHEMA):
        self.folder, self.schema = folder, schema
        self.actor, self.learner = local_keys(folder / "keys")
        self.log = RecordLog(folder / "actor.log", schema)
        self.open = []
        self.got = []

    def receive(self, endpoint=ANYWHERE):
        self.receiver = Receiver(self.folder / "learner", self.schema, endpoint, self.learner)
        self.receiver.start()
        self.open.append(self.receiver)
        return self.receiver

    def send(self, endpoint=None):
        self.sender = Sender(self.log.path, self.schema, endpoint or self.receiver.endpoint, self.actor)
        self.sender.start()
        self.open.append(self.sender)
        return self.sender

    def append(self, count):
        for _ in range(count):
            self.log.append(make_record(self.schema, self.log.count // LENGTH, self.log.count % LENGTH))

    def collect(self, count, seconds=15.0):
        until = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < until:
            self.got += self.receiver.poll(0.1)
        return self.got

    @property
    def copy(self):
        return self.folder / "learner" / f"{self.log.log_id}.log"

    def check(self, count):
        """Everything is there, once, in order, in memory and on disk."""
        self.collect(count)
        assert self.receiver.poll(0.05) == []
        expected = [encode(make_record(self.schema, n // LENGTH, n % LENGTH)) for n in range(count)]
        assert [encode(record) for record in self.got] == expected
        assert self.copy.read_bytes() == self.log.path.read_bytes()

    def close(self):
        for one in reversed(self.open):
            one.stop()
        self.log.close()
