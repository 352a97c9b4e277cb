"""The actor: runs the robot at a fixed rate with the newest policy and a person who corrects.

It waits for nobody while an episode runs. Every step is in its own log before the next one begins; a thread sends the
log to the learner (`sender`) and receives policies, which are taken over between two steps. Killed and started again,
it goes on with its log.

    python -m robot_rl.hil.actor RUN_FOLDER ENDPOINT
"""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors

from policies.writing import write_text
from robot_rl.hil.config import HilConfig, load
from robot_rl.hil.keys import actor_keys
from robot_rl.hil.log import RecordLog
from robot_rl.hil.pacing import Pacer
from robot_rl.hil.plant import Moment
from robot_rl.hil.rollout import EpisodeStatistics, Rollout
from robot_rl.hil.sender import Sender
from robot_rl.hil.setup import (
    find_arm_task,
    keys_folder,
    make_algorithm,
    make_people,
    make_plant,
    make_watch,
    schema_of,
)
from robot_rl.nodes.process import TOLD_TO_STOP, die_with_parent

_logger = logging.getLogger(__name__)


class PolicySeat:
    """The policy that acts now; newer ones are seated between two steps."""

    def __init__(self, behaviour: Any, seed: int) -> None:
        """Keep the seat empty until the first weights arrive."""
        self._behaviour = behaviour.eval()
        self._generator = torch.Generator().manual_seed(seed)
        self.version = -1
        """Of the policy that acts; -1 before there is one."""

    def take(self, weights: tuple[int, bytes] | None) -> None:
        """Seat newer weights, if there are any."""
        if weights is None:
            return
        self.version, blob = weights
        self._behaviour.load_state_dict(load_tensors(blob))

    @torch.no_grad()
    def act(self, moment: Moment, index: int) -> tuple[np.ndarray, float | None]:
        """A random action of the policy (A,) in step `index` of the episode, and its value."""
        observation = torch.from_numpy(moment.observation)[None]
        images = {name: torch.from_numpy(image)[None] for name, image in moment.images.items()}
        action, value = self._behaviour.explore(observation, images, self._generator, index)
        return action[0].numpy(), None if value is None else float(value[0])


def run(config: HilConfig, folder: Path, endpoint: str) -> bool:
    """Run the robot until the run's steps are done and the learner has them all, or until told to stop: then false."""
    torch.set_num_threads(1)
    task = find_arm_task(config)
    own = folder / "actor"
    own.mkdir(parents=True, exist_ok=True)
    life = _count_lives(own)
    log = RecordLog(own / "steps.log", schema_of(config, task))
    teacher, corrector, device = make_people(config, task, life)
    sender = Sender(log.path, log.schema, endpoint, actor_keys(keys_folder(folder)))
    sender.start()
    seat = PolicySeat(make_algorithm(config, task).behaviour(), config.seed + 7919 * life)
    shown = demonstrations_in(own / "episodes.jsonl")
    stopping = _until_told()
    pacer = Pacer(task.period / config.actor.speed)
    plant = make_plant(config, task, life, pacer.wait, stopping)
    watch = make_watch(config, task)
    rollout = Rollout(plant, corrector, first_episode=log.next_episode, first_step=log.count, watch=watch)
    if (attend := getattr(device, "attend", None)) is not None:
        attend(plant, rollout, folder)  # a device that shows the robot, such as the cockpit's page
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection in an episode would be a late step
    try:
        while not stopping():
            demonstration = shown < config.actor.demonstrations
            if rollout.steps >= config.actor.steps and not demonstration:
                break
            if not demonstration and not _wait_for_policy(seat, sender, stopping):
                break
            rollout.operator = teacher if demonstration else corrector
            rollout.begin(demonstration=demonstration)
            pacer.begin()
            while rollout.running and not stopping():
                seat.take(sender.weights())
                if seat.version not in rollout.statistics.versions[-1:]:
                    rollout.statistics.versions.append(seat.version)
                record = rollout.step(_idle(log.schema.action) if demonstration else seat.act)
                if record is not None:
                    log.append(record)
                pacer.wait()
            if not rollout.running:
                shown += rollout.statistics.success and demonstration
                _write_episode(own / "episodes.jsonl", rollout.statistics)
            _write_status(own / "status.json", rollout, pacer, sender, seat)
            gc.collect()
        sender.stop(drain_s=0.0 if stopping() else 30.0)
    finally:
        _write_status(own / "status.json", rollout, pacer, sender, seat)
        sender.stop()
        log.close()
        plant.close()
        if device is not None:
            device.close()
    return not stopping()


def demonstrations_in(path: Path) -> int:
    """Successful demonstrations that a file of episodes reports."""
    if not path.is_file():
        return 0
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return sum(row["demonstration"] and row["success"] for row in rows)


def _idle(size: int) -> Any:
    """What stands in for a policy before there is one: it wants to rest."""
    return lambda moment, index: (np.zeros(size, np.float32), None)


def _wait_for_policy(seat: PolicySeat, sender: Sender, stopping: Any) -> bool:
    """Rest between two episodes until the first policy has arrived; false when told to stop."""
    while seat.version < 0 and not stopping():
        seat.take(sender.weights())
        time.sleep(0.02)
    return not stopping()


def _count_lives(folder: Path) -> int:
    """How often the actor of this run was started before."""
    path = folder / "lives"
    count = int(path.read_text()) if path.is_file() and path.read_text().strip() else 0
    write_text(path, f"{count + 1}\n")
    return count


def _until_told() -> Any:
    """A function that is true once SIGINT or SIGTERM has come."""
    told = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.append(True))
    return lambda: bool(told)


def _write_episode(path: Path, statistics: EpisodeStatistics) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps({**asdict(statistics), "wall_s": time.time()}) + "\n")


def _write_status(path: Path, rollout: Rollout, pacer: Pacer, sender: Sender, seat: PolicySeat) -> None:
    """For those who look on; written whole."""
    status = {
        "steps": rollout.steps,
        "version": seat.version,
        "period": pacer.report(),
        "link": asdict(sender.status),
        "wall_s": time.time(),
    }
    write_text(path, json.dumps(status, indent=2) + "\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="actor %(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    where = Path(sys.argv[1])
    die_with_parent(own_group=False)
    sys.exit(0 if run(load(where / "config.json"), where, sys.argv[2]) else TOLD_TO_STOP)
