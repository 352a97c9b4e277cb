"""Settings of a human-in-the-loop run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from robot_rl.hil.algorithms.bc import BcConfig
from robot_rl.hil.algorithms.hg_dagger import HgDaggerConfig
from robot_rl.hil.algorithms.jsrl import JsrlConfig
from robot_rl.hil.algorithms.pvp import PvpConfig
from robot_rl.hil.algorithms.resfit import ResfitConfig
from robot_rl.hil.algorithms.rlif import RlifConfig
from robot_rl.hil.algorithms.rlpd import RlpdConfig
from robot_rl.hil.algorithms.sirius import SiriusConfig
from robot_rl.hil.operators import OperatorConfig
from robot_rl.rebuild import rebuild
from robot_rl.seeing import Looks

AlgorithmName = Literal["rlpd", "rlif", "pvp", "bc", "hg-dagger", "sirius", "resfit", "jsrl"]


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """The process that runs the robot."""

    steps: int = 9000
    """Control steps of the whole run, demonstrations included, which are driven to the last even if they take more."""
    demonstrations: int = 20
    """Episodes that the person drives before there is a policy."""
    speed: float = 1.0
    """Simulated seconds per second of wall time; a robot has 1."""
    operator: str = "scripted"
    """Who corrects: `scripted`, the task's scripted expert with a person's weaknesses, or a person at a device:
    keyboard, gamepad, spacemouse, leader:FILE (`robot_rl.devices.opening`), or cockpit, a page in the browser."""
    scripted: OperatorConfig = OperatorConfig()
    """How the scripted one behaves."""
    practise: bool = False
    """Put the scene back by a scripted reset policy instead of a simulator's reset: training runs unattended."""
    give_up: Path | None = None
    """Recorded episodes from which a predictor of failure is fitted: hopeless episodes are given up early, where that
    shortens the time until the next success."""
    reset_seconds: float = 4.0
    """s that a reset takes, for the rule when to give up."""
    cameras: tuple[str, ...] = ()
    """Cameras whose pictures the policy gets, in place of the poses of objects."""
    resolution: int = 64
    """Pixels of both sides of a picture."""
    looks: Looks = "cell"
    """What the simulated cameras see: `varied`, another laboratory in every episode; `cell`, one laboratory and
    imperfect cameras; `plain`, as rendered."""
    reward: Path | None = None
    """Folder of a reward from `robot-rl reward train`, which then says when the task is done; the task itself if not
    given."""


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """The process that learns."""

    update_ratio: float = 4.0
    """Updates per control step, as far as the core allows."""
    publish_every: int = 50
    """Updates between two versions of the policy for the robot."""
    checkpoint_seconds: float = 30.0
    """s of wall time between checkpoints."""
    demonstrations: Path | None = None
    """Recorded episodes to begin with: a log, or a folder of logs."""
    picture_memory: float = 4.0
    """GB of pictures that are remembered; the oldest half is forgotten when they are full."""


@dataclass(frozen=True, kw_only=True)
class HilConfig:
    """Train a policy on a robot that a person corrects; ends with an evaluation and a bundle."""

    task: Positional[str]
    """Task of an arm, e.g. arm-pick-lift."""
    algorithm: AlgorithmName = "rlpd"
    """How it learns."""
    seed: int = 0
    """Decides everything that is random, but for the moments at which messages arrive."""
    out: Path | None = None
    """Folder of the run; runs/hil/TASK-ALGORITHM-SEED if not given. Called again, the run goes on."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    relative_frames: bool = False
    """Proprioception in the frame of the episode's first tool pose, motion and action in the current one."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """The task's own settings, e.g. `clearance 0.0005`."""
    port: int = 0
    """TCP port of the link between actor and learner on this machine; 0 takes a free one."""
    evaluation_episodes: int = 100
    """Episodes of the final evaluation, without help; 0 leaves it out."""
    actor: ActorConfig = ActorConfig()
    """The robot's side."""
    learner: LearnerConfig = LearnerConfig()
    """The learning side."""
    rlpd: RlpdConfig = RlpdConfig()
    """Settings of `rlpd`."""
    rlif: RlifConfig = RlifConfig()
    """Settings of `rlif`."""
    pvp: PvpConfig = PvpConfig()
    """Settings of `pvp`."""
    bc: BcConfig = BcConfig()
    """Settings of `bc`."""
    hg_dagger: HgDaggerConfig = HgDaggerConfig()
    """Settings of `hg-dagger`."""
    sirius: SiriusConfig = SiriusConfig()
    """Settings of `sirius`."""
    resfit: ResfitConfig = ResfitConfig()
    """Settings of `resfit`."""
    jsrl: JsrlConfig = JsrlConfig()
    """Settings of `jsrl`."""

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return self.out or Path("runs") / "hil" / f"{self.task}-{self.algorithm}-{self.seed}"


def save(config: HilConfig, path: Path) -> None:
    """Write a config as JSON."""
    path.write_text(to_json(config))


def to_json(config: HilConfig) -> str:
    """A config as text."""
    return json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n"


def load(path: Path) -> HilConfig:
    """Read a config that `save` wrote."""
    return rebuild(HilConfig, json.loads(path.read_text()), lenient=True)
