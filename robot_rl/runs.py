"""A training run's folder: its settings, its learner, its checkpoints.

Everything in it is JSON or safetensors; loading a run executes nothing that the folder contains.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tyro.conf import Positional

from policies.writing import whole_file
from robot_rl import ppo, ppo_lagrangian
from robot_rl.apg import Apg, ApgConfig
from robot_rl.errors import UserError, unknown_name
from robot_rl.evaluate import randomization_terms
from robot_rl.imitation.act import ActConfig
from robot_rl.imitation.algorithms import IMITATION, make_imitator
from robot_rl.imitation.bc import BcConfig
from robot_rl.imitation.bc_rnn import BcRnnConfig
from robot_rl.imitation.consistency import ConsistencyConfig
from robot_rl.imitation.demonstrations import Choice, DemonstrationConfig
from robot_rl.imitation.diffusion import DiffusionConfig
from robot_rl.ppo import PpoConfig
from robot_rl.ppo_lagrangian import PpoLagrangianConfig
from robot_rl.rebuild import rebuild
from sim.adr import AutomaticRandomization
from sim.adr_file import load_automatic
from sim.tasks import TASKS, Task
from sim.tasks.arm import ArmTask


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a policy; ends with an evaluation and a bundle."""

    task: Positional[str]
    """Task, e.g. quadrotor-hover; `robot-rl list` shows them."""
    algorithm: Literal["apg", "ppo", "ppo-lagrangian", "bc", "bc-rnn", "act", "diffusion", "consistency"] = "apg"
    """Analytic policy gradients (differentiable tasks, seconds), PPO (any task, minutes), PPO that keeps a task's
    costs under their limit; or the imitation of `--demos`: docs/imitation.md compares the five."""
    seed: int = 0
    """Decides everything that is random."""
    out: Path | None = None
    """Folder of the run; runs/TASK-ALGORITHM-SEED if not given."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    adr: Path | None = None
    """YAML file of automatic domain randomization: ranges that grow as far as the policy copes (arms, `ppo`)."""
    demos: Path | None = None
    """File or folder of recorded episodes to imitate: what `robot-rl demos collect`, the cockpit or `robot-rl hil`
    wrote."""
    demo_share: float = 1.0
    """Share of the episodes that is used."""
    demo_choice: Choice = "random"
    """Which ones where the share is below 1: drawn by the seed, those that `robot-rl demos score` puts highest, or
    the first ones."""
    demo_failures: bool = False
    """Whether episodes that failed are imitated too; else they are left out before the share is taken."""
    demo_drivers: tuple[str, ...] = ("person", "base")
    """Whose steps are imitated, of `policy`, `person`, `base`; the others are context only."""
    evaluation_episodes: int = 1000
    """Flights of the final evaluation; 0 leaves it out."""
    checkpoint_seconds: float = 30.0
    """s of wall time between checkpoints."""
    apg: ApgConfig = ApgConfig()
    """Settings of `apg`."""
    ppo: PpoConfig = PpoConfig()
    """Settings of `ppo`."""
    ppo_lagrangian: PpoLagrangianConfig = PpoLagrangianConfig()
    """Settings of `ppo-lagrangian`."""
    bc: BcConfig = BcConfig()
    """Settings of `bc`."""
    bc_rnn: BcRnnConfig = BcRnnConfig()
    """Settings of `bc-rnn`."""
    act: ActConfig = ActConfig()
    """Settings of `act`."""
    diffusion: DiffusionConfig = DiffusionConfig()
    """Settings of `diffusion`."""
    consistency: ConsistencyConfig = ConsistencyConfig()
    """Settings of `consistency`."""


class Learner(Protocol):
    """What an algorithm offers: `robot_rl.apg.Apg` is one."""

    @property
    def updates(self) -> int:
        """Done so far."""

    @property
    def task(self) -> Any:
        """What is trained on."""

    def update(self) -> dict[str, float]:
        """One update; returns metrics, `loss` among them."""

    def policy(self) -> nn.Module:
        """The network: observation (N, D) to normalized action (N, A)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there."""


def restore(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The learner of a run's newest checkpoint, and what its bundle says of the training.

    Raises:
        UserError: The folder holds no checkpoint.
    """
    stored = json.loads((folder / "config.json").read_text())
    config = dataclasses.replace(rebuild(TrainConfig, stored, lenient=True), out=folder)
    learner, _ = make_learner(config, find_task(config))
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        raise UserError(f"{folder} has no checkpoint.safetensors yet")
    learner.load_state_dict(load_file(path))
    told = folder / "training.json"
    imitated = json.loads(told.read_text()).get("demonstrations") if told.is_file() else None
    return learner, {**training_record(config, learner), **({"demonstrations": imitated} if imitated else {})}


def find_task(config: TrainConfig) -> Task:
    """The task that a config names, with the randomization that it names."""
    if config.task not in TASKS:
        raise unknown_name("task", config.task, TASKS)
    task = TASKS[config.task]
    return dataclasses.replace(task, randomization=randomization_terms(task, config.randomization))


def make_learner(config: TrainConfig, task: Task) -> tuple[Learner, int]:
    """A fresh learner, and the number of updates that it shall do."""
    if config.algorithm in IMITATION:
        if config.adr is not None:
            raise UserError(f"--adr needs --algorithm ppo; {config.algorithm} learns from recorded episodes")
        source = DemonstrationConfig(
            path=config.demos,
            share=config.demo_share,
            choice=config.demo_choice,
            failures=config.demo_failures,
            drivers=config.demo_drivers,
        )
        imitator = make_imitator(
            task, config.algorithm, getattr(config, config.algorithm.replace("-", "_")), source, config.seed
        )
        return imitator, imitator.total
    if config.demos is not None:
        raise UserError(f"--demos is imitated by {', '.join(IMITATION)}; {config.algorithm} learns from the simulator")
    if config.algorithm == "ppo":
        try:
            growing = None if config.adr is None else load_automatic(config.adr)
            return ppo.init(task, config.ppo, config.seed, automatic=growing), config.ppo.updates
        except ValueError as error:
            raise UserError(str(error)) from error
    if config.adr is not None:
        raise UserError(f"--adr needs --algorithm ppo; {config.algorithm} has no automatic randomization")
    if config.algorithm == "ppo-lagrangian":
        try:
            constrained = ppo_lagrangian.init(task, config.ppo_lagrangian, config.seed)
        except ValueError as error:
            raise UserError(str(error)) from error
        return constrained, config.ppo_lagrangian.updates
    if isinstance(task, ArmTask):
        raise UserError(f"apg needs a differentiable task, such as quadrotor-hover; train {task.name} with ppo")
    learner = Apg(task, config.apg, config.seed)
    return learner, learner.total


def resume(learner: Learner, config: TrainConfig, out: Path) -> bool:
    """Load the checkpoint of an earlier call with the same settings; refuse one with others."""
    stored = json.dumps(_config_data(config), indent=2) + "\n"
    path = out / "config.json"
    checkpoint = out / "checkpoint.safetensors"
    if checkpoint.is_file() and path.is_file():
        earlier = rebuild(
            TrainConfig, json.loads(path.read_text()), lenient=True
        )  # settings that are newer have their defaults
        if _config_data(earlier) != _config_data(config):
            raise UserError(
                f"{out} holds a run with other settings (compare {path}); give another --out or delete that folder"
            )
        learner.load_state_dict(load_file(checkpoint))
        return True
    path.write_text(stored)
    return False


def _config_data(config: TrainConfig) -> dict[str, Any]:
    return {**json.loads(json.dumps(dataclasses.asdict(config), default=str)), "out": None}


def automatic_randomization(learner: Learner) -> AutomaticRandomization | None:
    """The ranges that grow while it learns, if there are any."""
    found: AutomaticRandomization | None = getattr(getattr(learner, "env", None), "automatic", None)
    return found


def training_record(config: TrainConfig, learner: Learner) -> dict[str, Any]:
    """What a bundle's manifest says of the training so far."""
    data = _config_data(config)
    growing = automatic_randomization(learner)
    return {
        "algorithm": config.algorithm,
        "seed": config.seed,
        "config": {**data[config.algorithm.replace("-", "_")], "updates": learner.updates},
        "randomization": config.randomization,
        **({} if growing is None else {"automatic": growing.record()}),
        **demonstrations_of(learner),
        "terms": [dataclasses.asdict(term) for term in find_task(config).randomization],
        **provenance(),
    }


def demonstrations_of(learner: Learner) -> dict[str, Any]:
    """What a manifest says about what was imitated; empty where nothing was."""
    record: dict[str, Any] = getattr(learner, "record", {})
    return {"demonstrations": record} if record else {}


def save_checkpoint(learner: Learner, out: Path) -> None:
    """Write a checkpoint whole or not at all: a kill at any moment leaves the last one.

    Ranges of automatic randomization are also written to `adr.json`, for people.
    """
    with whole_file(out / "checkpoint.safetensors") as fresh:
        save_file(learner.state_dict(), fresh)
    growing = automatic_randomization(learner)
    if growing is not None:
        (out / "adr.json").write_text(json.dumps(growing.record(), indent=2) + "\n")


def provenance() -> dict[str, Any]:
    """Source commit and versions that a training run stands on."""
    packages = {}
    for package in ("torch", "numpy", "onnx", "onnxruntime"):
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            packages[package] = "not installed"
    root = Path(__file__).resolve().parent.parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        commit = answer.stdout.strip() or "unknown"
    except OSError:
        commit = "unknown"
    return {"commit": commit, "python": platform.python_version(), "versions": packages}
