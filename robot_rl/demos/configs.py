"""Arguments of `robot-rl demos`: one dataclass a subcommand. Nothing heavy is imported to parse them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

Format = Literal["lerobot", "robomimic", "gymnasium"]
Looks = Literal["varied", "cell", "plain"]
Quality = Literal["expert", "noisy", "biased", "mixed"]


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Let a scripted expert demonstrate a task in simulation, and record it."""

    task: Positional[str]
    """Task of an arm or a quadrotor, e.g. arm-pick-lift."""
    out: Path
    """Folder of the data set; called again, what is there is added to."""
    expert: Literal["scripted"] = "scripted"
    """Who knows how: the scripted solution of an arm's task, the geometric controller of a quadrotor."""
    episodes: int = 200
    """Episodes that the set has in the end."""
    quality: Quality = "expert"
    """Skill: `expert`, `noisy` (unsteady hands, stretches in a wrong direction), `biased` (hesitates and pushes to one
    side), or `mixed`, one of them drawn for every episode."""
    seed: int = 0
    """Of starts, robots and people."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """The task's own settings, e.g. `clearance 0.0005`."""
    cameras: tuple[str, ...] = ()
    """Cameras whose pictures are recorded."""
    resolution: int = 64
    """Pixels of both sides of a picture."""
    looks: Looks = "cell"
    """What the cameras see: `varied`, another laboratory in every episode; `cell`, one laboratory and imperfect
    cameras; `plain`, as rendered."""
    hide_poses: bool = False
    """Leave the poses of objects out of the observation: what learns from pictures has none."""
    failures: Literal["drop", "keep"] = "drop"
    """What becomes of failed attempts: a person throws them away."""


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """List the episodes of a data set."""

    path: Positional[Path]
    """File or folder of episodes."""
    json: bool = False
    """Write an array with one object per episode."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """Show a data set: a table of its figures, and a plot per episode."""

    path: Positional[Path]
    """File or folder of episodes."""
    plots: Path | None = None
    """Folder for the plots, one PNG per episode; no plots if not given."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """What counts as sound."""

    late: float = 0.5
    """Share of a control period by which a step may be late."""
    late_share: float = 0.05
    """Share of the steps that may be later than that; more is jitter."""
    rate_error: float = 0.1
    """Share by which the mean rate may differ from the declared one."""
    stale: float = 0.5
    """s for which a stream may repeat itself, or be silent beyond five of its periods, while actions change."""
    latency: float = 0.2
    """s between measurement and receipt that a stream may have."""
    idle: float = 1.0
    """s of rest in one piece."""
    saturated_share: float = 0.5
    """Share of the steps in which a component of the action may be at its limit."""
    jump: float = 4.0
    """How many times the largest change in a step that other episodes have is a jump."""
    latest: float = 0.25
    """s by which motion may follow its action; motion before its action is wrong in any case."""


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Check a data set; the exit status is 0 where it is sound, or soundly recovered, and 1 otherwise."""

    path: Positional[Path]
    """File or folder of episodes."""
    json: bool = False
    """Write the findings as JSON."""
    settings: CheckSettings = CheckSettings()
    """What counts as sound."""


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Make recordings that were cut off whole, for Foxglove and `ros2 bag`; our own reader needs no such thing."""

    path: Positional[Path]
    """Recording (*.mcap) or folder of recordings."""
    keep: bool = True
    """Keep the old file as NAME.mcap.cut."""


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Make control steps of streams: recordings of a ROS 2 robot become demonstrations."""

    path: Positional[Path]
    """Recording (*.mcap) or folder of recordings."""
    mapping: Path
    """YAML file that says which streams make observation and action, see docs/demonstrations.md."""
    out: Path
    """Folder of the new set; it must not exist, or be empty."""


@dataclass(frozen=True, kw_only=True)
class TrimConfig:
    """Write a copy without the beginnings and ends of the episodes."""

    path: Positional[Path]
    """File or folder of episodes."""
    out: Path
    """Folder of the copy; it must not exist, or be empty."""
    start: float = 0.0
    """s to cut off at the beginning of every episode."""
    end: float = 0.0
    """s to cut off at the end of every episode."""
    idle: float | None = None
    """s of rest to keep at both ends: what rests longer there is cut off too."""


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Write one data set of several."""

    paths: Positional[tuple[Path, ...]]
    """Files or folders of episodes of one kind."""
    out: Path
    """Folder of the new set; it must not exist, or be empty."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Write two data sets, to train and to validate, of one."""

    path: Positional[Path]
    """File or folder of episodes."""
    out: Path
    """Folder of the two; it must not exist, or be empty."""
    valid: float = 0.1
    """Share of the episodes to validate; at least one."""
    seed: int = 0
    """Decides which."""


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Write a data set in another project's format."""

    path: Positional[Path]
    """File or folder of episodes."""
    to: Format
    """`lerobot`: LeRobotDataset v3.0; `robomimic`: its HDF5; `gymnasium`: Minari's HDF5."""
    out: Path
    """Folder (lerobot, gymnasium) or file (robomimic, *.hdf5); it must not exist, or be an empty folder."""
    instruction: str = ""
    """The task in words, for policies that read them; the task's name if not given."""
    codec: Literal["h264", "av1"] = "h264"
    """Of videos (lerobot)."""
    valid: float = 0.1
    """Share of the episodes in the filter `valid` (robomimic)."""
    seed: int = 0
    """Decides which."""


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Carry recorded actions out again: in simulation, or on a robot through its safety layer."""

    path: Positional[Path]
    """File or folder of episodes."""
    episode: str = ""
    """Name of one episode, as `list` shows it, or its number; all of them if not given."""
    engine: Literal["", "mujoco", "pybullet"] = ""
    """Physics; that of the recording if not given."""
    ros: bool = False
    """On a robot: send the motion to `command/twist` of a running and armed arm, whose supervisor guards it."""
    plane: Path | None = None
    """On a robot without ROS: folder of the slots of its control process, which is armed and guards it."""
    namespace: str = ""
    """Of the robot's topics (`--ros`), e.g. /left."""
    speed: float = 0.5
    """Share of the recorded speed (robot)."""
    approach: float = 0.05
    """m/s with which a robot is led to the first pose."""
    reach: float = 0.3
    """m: a robot that is further than this from the first pose is refused."""
    stray: float = 0.05
    """m: a robot that is further than this from the recorded way is stopped."""
    json: bool = False
    """Write an array with one object per episode."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How episodes are compared."""

    neighbours: int = 5
    """k, the other episodes whose nearest step a step is compared with."""
    weight: float = 0.25
    """Of transition diversity beside action divergence."""
    most_episodes: int = 300
    """Episodes that others are compared with; of larger sets, evenly chosen ones."""
    most_steps: int = 200
    """Steps of an episode that are compared; of longer ones, evenly chosen ones."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Rate how good the episodes of a data set are to learn from, the worst first."""

    path: Positional[Path]
    """File or folder of episodes."""
    json: bool = False
    """Write an array with one object per episode, the worst first."""
    keep: float | None = None
    """Share of the episodes, the best, to copy to `--out`."""
    out: Path | None = None
    """Folder for `--keep`; it must not exist, or be empty."""
    settings: ScoreSettings = ScoreSettings()
    """How they are compared."""
