"""Processes for tests to kill: `python workers.py write|actor|learner ...` (see the end)."""

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np

from robot_rl.hil.keys import local_keys
from robot_rl.hil.link import Receiver, Sender
from robot_rl.hil.log import RecordLog
from robot_rl.hil.records import Record, Schema

LENGTH = 20
"""Steps of an episode."""


def make_schema(**changes):
    values = {"observation": 6, "action": 3, "task": "arm-pick-lift", "robot": "panda", "control_rate_hz": 10.0}
    return Schema(**{**values, **changes})


def make_record(schema, episode=0, index=0, **changes):
    """A record whose content follows from its numbers."""
    random = np.random.default_rng((episode, index))
    ended = changes.pop("ended", index == LENGTH - 1)

    def pictures():
        return {name: random.integers(0, 256, shape, dtype=np.uint8) for name, shape in schema.images.items()}

    values = {
        "episode": episode,
        "index": index,
        "observation": random.normal(size=schema.observation).astype(np.float32),
        "images": pictures(),
        "action": random.uniform(-1.0, 1.0, schema.action).astype(np.float32),
        "policy_action": random.uniform(-1.0, 1.0, schema.action).astype(np.float32),
        "driver": ("policy", "person", "base")[index % 3],
        "reward": float(random.normal()),
        "terminated": ended and episode % 2 == 0,
        "truncated": ended and episode % 2 == 1,
        "success": ended and episode % 2 == 0,
        "observed_at": 100.0 * episode + 0.1 * index,
        "acted_at": 100.0 * episode + 0.1 * index + 0.02,
        "wall_time": 1.7e9 + episode,
        "final_observation": random.normal(size=schema.observation).astype(np.float32) if ended else None,
        "final_images": pictures() if ended else {},
        "info": {"force": float(random.uniform(0.0, 20.0))},
    }
    return Record(**{**values, **changes})


def steps(log, schema):
    """Records that go on where a log ends: a new episode after a kill."""
    episode = log.next_episode
    while True:
        for index in range(LENGTH):
            yield make_record(schema, episode, index)
        episode += 1


def write(path, pause):
    """Append for ever; says each sequence number once it is stored."""
    schema = make_schema()
    with RecordLog(Path(path), schema) as log:
        for record in steps(log, schema):
            sys.stdout.write(f"{log.append(record)}\n")
            sys.stdout.flush()
            time.sleep(float(pause))


def actor(folder, port, total, pause):
    """Append until the log holds `total` records, with a sender beside; store what arrives of the weights."""
    folder, schema, total = Path(folder), make_schema(), int(total)
    log = RecordLog(folder / "actor.log", schema)
    sender = Sender(log.path, schema, f"tcp://127.0.0.1:{port}", local_keys(folder / "keys")[0])
    sender.start()
    source = steps(log, schema)
    while True:
        if log.count < total:
            log.append(next(source))
        weights = sender.weights()
        if weights is not None:
            version, blob = weights
            assert blob == weights_of(version), f"weights {version} are not whole"
            with open(folder / "versions.txt", "a") as file:
                file.write(f"{version}\n")
        status = sender.status
        say(folder / "status.json", json.dumps({"count": log.count, "acknowledged": status.acknowledged}))
        time.sleep(float(pause))


def say(path, text):
    """Write a file whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def weights_of(version):
    return np.random.default_rng(version).bytes(300_000)


def learner(folder, port):
    """Store what comes; publish weights now and then, with versions that outlive this process."""
    folder, schema = Path(folder), make_schema()
    receiver = Receiver(folder / "learner", schema, f"tcp://127.0.0.1:{port}", local_keys(folder / "keys")[1])
    known = sum(1 for _ in receiver.history())
    receiver.start()
    counter = folder / "published.txt"
    version = int(counter.read_text()) if counter.exists() else 0
    while True:
        version += 1
        say(counter, str(version))
        receiver.publish(version, weights_of(version))
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            known += len(receiver.poll(0.05))
            say(folder / "known.txt", str(known))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(name)s: %(message)s")
    {"write": write, "actor": actor, "learner": learner}[sys.argv[1]](*sys.argv[2:])
