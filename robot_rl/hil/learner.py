"""The learner: trains on what the actor sends, as fast as its core allows, and sends policies back.

What arrives is on its disk before it is acknowledged, and the algorithm's state is checkpointed whole or not at all:
killed and started again, it goes on from there.

    python -m robot_rl.hil.learner RUN_FOLDER
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file
from torch.utils.tensorboard import SummaryWriter

from policies.writing import whole_file, write_text
from robot_rl.hil.algorithms.base import Algorithm
from robot_rl.hil.config import HilConfig, load
from robot_rl.hil.keys import local_keys
from robot_rl.hil.memory import Memory
from robot_rl.hil.receiver import Receiver
from robot_rl.hil.setup import find_arm_task, keys_folder, make_algorithm, memory_rows, schema_of
from robot_rl.nodes.process import TOLD_TO_STOP, die_with_parent

_logger = logging.getLogger(__name__)
_BURST = 8
"""Updates between two looks at what has arrived."""


class StoppedError(Exception):
    """Told to stop in the middle of a warm start."""


class Learning:
    """An algorithm at work on a memory that grows: how far it may go, and where it stands."""

    def __init__(self, algorithm: Algorithm, memory: Memory, config: HilConfig) -> None:
        """Nothing is learned yet."""
        self.algorithm, self.memory, self.config = algorithm, memory, config
        self.warm = False
        """Whether the policy has been begun from demonstrations."""
        self.starting = False
        """Whether that is under way: minutes with pictures, and nothing to save yet."""
        self._begun_at: int | None = None

    def warm_start(self) -> bool:
        """Begin the policy once all demonstrations are there; true when that has just happened."""
        wanted = self.config.actor.demonstrations
        if self.warm or self.memory.demonstrations < wanted:
            return False
        _logger.info("begins with %d demonstrations", self.memory.demonstrations)
        self.starting = True
        try:
            figures = self.algorithm.warm_start(self.memory.replay)
        finally:
            self.starting = False
        _logger.info("begun: %s", figures)
        self.warm = True
        return True

    def due(self) -> int:
        """Updates that the robot's steps allow and that have not been done."""
        if not self.warm or not self.algorithm.ready(self.memory.replay):
            return 0
        return int(self.config.learner.update_ratio * self.memory.replay.online) - self.algorithm.updates

    def work(self, most: int) -> dict[str, float]:
        """Do up to `most` of the updates that are due; figures of the last one."""
        found: dict[str, Any] = {}
        for _ in range(min(most, self.due())):
            found = self.algorithm.update(self.memory.replay)
        return {name: float(value) for name, value in found.items()}


def run(config: HilConfig, folder: Path, ready: Path | None = None) -> bool:
    """Learn until the run's steps have arrived and their updates are done, or until told to stop.

    Args:
        config: Settings of the run.
        folder: The run's.
        ready: File to which the endpoint is written once it listens.

    Returns:
        Whether all is done; false where it was told to stop.
    """
    torch.set_num_threads(1)
    task = find_arm_task(config)
    schema = schema_of(config, task)
    own = folder / "learner"
    _, keys = local_keys(keys_folder(folder))
    # Started again, it listens where the actor already looks for it.
    before = ready.read_text() if ready is not None and ready.is_file() else ""
    receiver = Receiver(own / "records", schema, before or f"tcp://127.0.0.1:{config.port or '*'}", keys)
    learning = Learning(make_algorithm(config, task), Memory(schema, memory_rows(config, schema)), config)
    if config.learner.demonstrations is not None:
        learning.memory.take_demonstrations(config.learner.demonstrations)
    learning.memory.take(receiver.history())
    checkpoint = own / "checkpoint.safetensors"
    if checkpoint.is_file():
        learning.algorithm.load_state_dict(load_file(checkpoint))
        learning.warm = True
        _logger.info("going on from update %d, %d steps", learning.algorithm.updates, learning.memory.steps)
    receiver.start()
    if learning.warm:
        _publish(receiver, learning.algorithm)
    if ready is not None:
        write_text(ready, receiver.endpoint)
    progress = Progress(own)
    stopping: list[bool] = []

    def stop(*_: object) -> None:
        stopping.append(True)
        if learning.starting:
            raise StoppedError

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        _loop(config, learning, receiver, checkpoint, progress, stopping)
    except StoppedError:
        _logger.info("stopped in the warm start, which begins anew next time")
    finally:
        if learning.warm:
            _save(checkpoint, learning.algorithm)
        receiver.stop()
        progress.close()
    return not stopping


def _loop(
    config: HilConfig,
    learning: Learning,
    receiver: Receiver,
    checkpoint: Path,
    progress: Progress,
    stopping: list[bool],
) -> None:
    memory, algorithm = learning.memory, learning.algorithm
    published, saved, logged = algorithm.updates, time.monotonic(), time.monotonic()
    figures: dict[str, float] = {}
    while not stopping:
        memory.take(receiver.poll(0.0 if learning.due() > 0 else 0.05))
        if learning.warm_start():
            _publish(receiver, algorithm)
            _save(checkpoint, algorithm)
        if learning.warm and memory.steps >= config.actor.steps and memory.between_episodes and learning.due() <= 0:
            break
        figures = learning.work(_BURST) or figures
        if learning.warm and algorithm.updates >= published + config.learner.publish_every:
            _publish(receiver, algorithm)
            published = algorithm.updates
        now = time.monotonic()
        if learning.warm and now > saved + config.learner.checkpoint_seconds:
            _save(checkpoint, algorithm)
            saved = now
        if now > logged + 5.0:
            progress.write(learning, {"waiting": receiver.status.waiting, **figures})
            logged = now
    progress.write(learning, figures)


class Progress:
    """`progress.jsonl` and TensorBoard: how far the learner is, every few seconds."""

    def __init__(self, folder: Path) -> None:
        """Go on with what is in `folder`."""
        self._path = folder / "progress.jsonl"
        self._board = SummaryWriter(folder / "tensorboard")
        self._before: tuple[float, int] | None = None
        self._rate = 0.0

    def write(self, learning: Learning, figures: Mapping[str, float]) -> None:
        """Add a row."""
        memory, updates = learning.memory, learning.algorithm.updates
        spent, done = self._before or (time.process_time(), updates)
        if updates > done:  # a row without updates says nothing of their speed
            self._rate = (updates - done) / max(1e-9, time.process_time() - spent)
        row = {
            "wall_s": time.time(),
            "steps": memory.steps,
            "updates": updates,
            "update_ratio": updates / max(1, memory.replay.online),
            "updates_per_cpu_s": self._rate,
            "demonstration_steps": memory.replay.demonstrations,
            **figures,
        }
        self._before = (time.process_time(), updates)
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        for name, value in row.items():
            self._board.add_scalar(f"learner/{name}", value, memory.steps)

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        self._board.close()


def _publish(receiver: Receiver, algorithm: Algorithm) -> None:
    """Send the policy that acts, as a copy: the next update writes into the same tensors."""
    state = {name: value.clone() for name, value in algorithm.behaviour().state_dict().items()}
    receiver.publish(algorithm.updates, save(state))


def _save(path: Path, algorithm: Algorithm) -> None:
    """Write a checkpoint whole or not at all."""
    with whole_file(path) as fresh:
        save_file({name: value.contiguous() for name, value in algorithm.state_dict().items()}, fresh)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="learner %(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    where = Path(sys.argv[1])
    die_with_parent(own_group=False)
    sys.exit(0 if run(load(where / "config.json"), where, where / "learner" / "endpoint") else TOLD_TO_STOP)
