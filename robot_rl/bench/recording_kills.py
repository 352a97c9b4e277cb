"""Kills a recording process at random moments and looks at what is left.

A child records episodes, and says what it has done through a pipe: what it said before it was killed is compared, to
the bit, with what can be read afterwards.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from robot_rl.errors import UserError
from robot_rl.hil.records import Record, encode
from robot_rl.hil.schema import Schema
from robot_rl.recording import EpisodeWriter, Recording, load_recording, messages, steps
from robot_rl.recording.episode import read_steps, step_pictures

SCHEMA = Schema(
    observation=12, action=7, images={"wrist": (24, 32, 3)}, task="arm-pick-lift", robot="panda", control_rate_hz=200.0
)
PERIOD = 0.002
"""s between two steps."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a kill left."""

    finished: int
    """Episodes that were said to be finished."""
    unreadable: int
    """Of those, how many are not there to the bit."""
    invented: int
    """Finished episodes in the folder that nobody had begun to finish."""
    wrong: int
    """Recovered steps that differ from what was recorded."""
    recovered: int
    """Steps of the running episode that were read."""
    lost_seconds: float
    """From the first step that is lost to the last that was recorded before the kill, s; 0 where none is."""


def make_record(episode: int, index: int, length: int) -> Record:
    """A step whose content follows from its numbers."""
    random = np.random.default_rng((episode, index))
    ended = index == length - 1

    def picture() -> np.ndarray:
        return random.integers(0, 256, SCHEMA.images["wrist"], dtype=np.uint8)

    return Record(
        episode=episode,
        index=index,
        observation=random.normal(size=SCHEMA.observation).astype(np.float32),
        images={"wrist": picture()},
        action=random.uniform(-1.0, 1.0, SCHEMA.action).astype(np.float32),
        policy_action=random.uniform(-1.0, 1.0, SCHEMA.action).astype(np.float32),
        driver="person",
        reward=float(random.normal()),
        terminated=ended,
        success=ended and episode % 2 == 0,
        observed_at=0.1 * index,
        acted_at=0.1 * index + 0.02,
        wall_time=1.7e9 + episode,
        final_observation=random.normal(size=SCHEMA.observation).astype(np.float32) if ended else None,
        final_images={"wrist": picture()} if ended else {},
        info={"force": float(random.uniform(0.0, 20.0))},
    )


def length_of(episode: int) -> int:
    """How many steps an episode has: from a few, so that begin and end are met often, to a second and a half."""
    return (3, 40, 8, 700, 15)[episode % 5]


def record_for_ever(folder: Path, listener: Connection) -> None:
    """Record episodes until killed; say each thing that is done."""
    say = listener.fileno()
    writer = EpisodeWriter(folder, SCHEMA)
    while True:
        number = int(writer.begin({"task": SCHEMA.task}).stem.removeprefix("episode-"))
        length = length_of(number)
        os.write(say, f"begun {number}\n".encode())
        for index in range(length):
            writer.step(make_record(number, index, length))
            writer.write("joint_states", messages.joint_state(["a", "b"], [index, -index]), time.monotonic())
            os.write(say, f"step {index} {time.monotonic()}\n".encode())
            time.sleep(PERIOD)
        os.write(say, f"ending {number}\n".encode())
        writer.end(number % 2 == 0, "the end")
        os.write(say, f"ended {number}\n".encode())


def kill_once(folder: Path, random: np.random.Generator) -> Outcome:
    """Let a child record into `folder`, kill it at a random moment, and compare."""
    # Children of a clean process, which has imported already: forking this one with its threads would not be safe.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    listen, say = context.Pipe(duplex=False)
    child = context.Process(target=record_for_ever, args=(folder, say), daemon=True)
    child.start()
    say.close()
    # Mostly soon, where begin and end are met; some of a length that a second can be lost of. Counted in what the child
    # has done and not in time, so that a busy machine tests as much.
    done = random.integers(300, 800) if random.random() < 0.15 else random.integers(1, 80)
    said = b""
    while said.count(b"\n") < done:
        said += _read_some(listen)
    time.sleep(random.uniform(0.0, 0.02))
    child.kill()
    while block := _read_some(listen):
        said += block
    listen.close()
    child.join()
    if child.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"the recording process ended by itself with {child.exitcode}")
    return _compare(folder, said.decode())


def _read_some(listen: Connection) -> bytes:
    if not listen.poll(120.0):
        raise RuntimeError("the recording process did nothing for two minutes")
    return os.read(listen.fileno(), 1 << 16)


def _compare(folder: Path, said: str) -> Outcome:
    lines = [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")]
    ended = {int(line[1]) for line in lines if line[0] == "ended"}
    ending = {int(line[1]) for line in lines if line[0] == "ending"}
    begun = [int(line[1]) for line in lines if line[0] == "begun"]
    first = begun[0] if begun else None
    files = {int(path.stem.removeprefix("episode-")): path for path in folder.glob("episode-*.mcap")}
    unreadable = wrong = invented = recovered = 0
    lost = 0.0
    for number in ended:
        unreadable += number not in files or not _is_whole(files[number], number)
    for number, path in files.items():
        if number in ended or first is None or number < first:
            continue
        found = _read(path, number)
        if found is None:
            continue
        recording, good, count = found
        invented += recording.finished and number not in ending
        wrong += not good
        if begun and number == begun[-1]:
            recovered += count
            last = max(index for index, line in enumerate(lines) if line[0] == "begun")
            times = [float(line[2]) for line in lines[last:] if line[0] == "step"]
            if number not in ended and count < len(times):
                lost = times[-1] - times[count]
    return Outcome(
        finished=len(ended),
        unreadable=unreadable,
        invented=invented,
        wrong=wrong,
        recovered=recovered,
        lost_seconds=lost,
    )


def _is_whole(path: Path, number: int) -> bool:
    found = _read(path, number)
    if found is None:
        return False
    recording, good, count = found
    said = recording.finished and recording.success == (number % 2 == 0) and not recording.problem
    return good and said and count == length_of(number) and len(recording.stream("joint_states")) == count


def _read(path: Path, number: int) -> tuple[Recording, bool, int] | None:
    """The recording, whether its steps are what was recorded, and how many; None where it cannot be read."""
    try:
        recording = load_recording(path)
        if steps.TOPIC not in recording.streams:
            return recording, True, 0
        records = read_steps(recording).records
        if not records:
            return recording, True, 0
        pictures = step_pictures(recording, records)["wrist"]
    except UserError:
        return None
    good = True
    for index, record in enumerate(records):
        wanted = make_record(number, index, length_of(number))
        final = {"wrist": pictures[index + 1]} if record.final_observation is not None else {}
        whole = Record(**{**vars(record), "images": {"wrist": pictures[index]}, "final_images": final})
        good = good and encode(whole) == encode(wanted)
    return recording, good, len(records)


def digests(folder: Path) -> dict[str, str]:
    """Checksum of every file, to see that none of them is ever touched again."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.mcap"))}
