"""`robot-rl reward label|train|eval`: from recorded episodes to a reward that is computed from pictures."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from robot_rl.errors import UserError, require_packages
from robot_rl.rewards.dataset import load_labelled
from robot_rl.rewards.guard import GUARDS, Guard
from robot_rl.rewards.labeling import Labeling
from robot_rl.rewards.labels import HandLabels, LabelRule, labels_path
from robot_rl.rewards.progress_training import ProgressSettings, train_progress
from robot_rl.rewards.training import ClassifierSettings, measure, train_classifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Go through the frames of recorded episodes and correct which of them show success."""

    path: Positional[Path]
    """File or folder of episodes; the labels are saved beside it."""
    cameras: tuple[str, ...] = ()
    """Cameras to show; all if not given."""
    rule: LabelRule = LabelRule()
    """Labels without a person."""
    contact_sheet: Path | None = None
    """Write a picture of all episodes with their labels to this .png file, and serve nothing."""
    host: str = "127.0.0.1"
    """Address to listen at; 127.0.0.1 is for this machine only."""
    port: int = 8080
    """Port of the page, or the next one that is free."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainRewardConfig:
    """Train a reward from recorded episodes."""

    path: Positional[Path]
    """File or folder of episodes with pictures."""
    out: Path
    """Folder of the reward."""
    kind: Literal["success", "progress"] = "success"
    """Whether the task is done, or how far it has come."""
    cameras: tuple[str, ...] = ()
    """Cameras to use; all if not given."""
    size: int = 64
    """Pixels to which both sides of a picture are shrunk."""
    labels: Path | None = None
    """Hand labels; those beside the episodes if not given."""
    rule: LabelRule = LabelRule()
    """Labels without a person."""
    weights: Path | None = None
    """Encoder to begin with: encoder.safetensors of a reward with the same cameras and size."""
    guard: str = "task"
    """Physical check: `task` for the task's own where it has one, `none`, or a JSON file."""
    success: ClassifierSettings = ClassifierSettings()
    """Of the kind `success`."""
    progress: ProgressSettings = ProgressSettings()
    """Of the kind `progress`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalRewardConfig:
    """Measure a reward, as it is on disk, on recorded episodes."""

    reward: Positional[Path]
    """Folder of the reward."""
    path: Positional[Path]
    """File or folder of episodes; for an honest figure, ones that it was not trained on."""
    labels: Path | None = None
    """Hand labels; those beside the episodes if not given."""
    rule: LabelRule = LabelRule()
    """Labels without a person."""
    json: Path | None = None
    """Write the figures to this file too."""


RewardConfig = (
    Annotated[LabelConfig, tyro.conf.subcommand("label", prefix_name=False)]
    | Annotated[TrainRewardConfig, tyro.conf.subcommand("train", prefix_name=False)]
    | Annotated[EvalRewardConfig, tyro.conf.subcommand("eval", prefix_name=False)]
)
"""What `robot-rl reward` takes."""


def run(config: LabelConfig | TrainRewardConfig | EvalRewardConfig) -> int:
    """Do as the command line asks for."""
    if isinstance(config, LabelConfig):
        return label(config)
    if isinstance(config, TrainRewardConfig):
        return train(config)
    return evaluate(config)


def open_labeling(config: LabelConfig) -> Labeling:
    """Episodes and labels as they are on disk."""
    hand = HandLabels.load(labels_path(config.path))
    episodes = load_labelled(config.path, size=None, cameras=config.cameras, rule=config.rule)
    return Labeling(episodes, hand)


def label(config: LabelConfig) -> int:
    """Serve the page until Ctrl-C, or write the sheet."""
    from robot_rl.rewards.label_page import LabelPage, write_sheet

    labeling = open_labeling(config)
    if config.contact_sheet is not None:
        write_sheet(config.contact_sheet, labeling)
        sys.stdout.write(f"{config.contact_sheet}: {len(labeling.episodes)} episodes\n")
        return 0
    page = LabelPage(labeling, host=config.host, port=config.port)
    sys.stdout.write(f"{page.url}: label there, Ctrl-C here ends it; every label is saved to {labeling.hand.path}\n")
    try:
        threading.Event().wait()
    finally:
        page.close()
    return 0


def train(config: TrainRewardConfig) -> int:
    """Train and report."""
    require_packages("robot-rl reward train", "train", ("onnx", "safetensors"))
    size = (config.size, config.size)
    episodes = load_labelled(config.path, size=size, cameras=config.cameras, rule=config.rule, labels=config.labels)
    if config.kind == "progress":
        found = train_progress(episodes, config.out, config.progress, weights=config.weights)
        _print(found["report"])
    else:
        guard = find_guard(config.guard, episodes[0].task)
        found = train_classifier(episodes, config.out, config.success, guard=guard, weights=config.weights)
        _print({**found["report"], "threshold": found["threshold"], "temperature": found["temperature"]})
    sys.stdout.write(f"reward: {config.out}\n")
    return 0


def find_guard(name: str, task: str) -> Guard | None:
    """The guard that the command line names."""
    if name == "none":
        return None
    return GUARDS.get(task) if name == "task" else Guard.load(Path(name))


def evaluate(config: EvalRewardConfig) -> int:
    """Measure what is on disk."""
    from robot_rl.rewards.files import read_contents

    data = read_contents(config.reward)
    shapes = {camera: (shape[0], shape[1]) for camera, shape in data["shapes"].items()}
    size = next(iter(shapes.values()))
    episodes = load_labelled(config.path, size=size, cameras=tuple(shapes), rule=config.rule, labels=config.labels)
    figures = _progress_figures(config.reward, episodes) if data["kind"] == "progress" else None
    if figures is None:
        from robot_rl.rewards.classifier import RewardClassifier

        reward = RewardClassifier.load(config.reward)
        decision = reward.decision
        figures = measure(reward.probabilities, episodes, decision.threshold, decision.consecutive)
    _print(figures)
    if config.json is not None:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _progress_figures(folder: Path, episodes: Any) -> dict[str, Any]:
    import numpy as np

    from robot_rl.rewards.progress import ProgressReward, spearman

    reward = ProgressReward.load(folder)
    won = [episode for episode in episodes if episode.success]
    if not won:
        raise UserError("none of the episodes succeeded: there is nothing to compare progress with")
    found = [spearman(reward.values(episode.images), np.arange(len(episode.labels))) for episode in won]
    return {"episodes": len(won), "spearman_mean": float(np.mean(found)), "spearman_worst": float(np.min(found))}


def _print(figures: dict[str, Any], indent: str = "") -> None:
    for name, value in figures.items():
        if isinstance(value, dict):
            sys.stdout.write(f"{indent}{name}\n")
            _print(value, indent + "  ")
        elif isinstance(value, list):
            sys.stdout.write(f"{indent}{name:<28} {len(value)}\n")
        else:
            sys.stdout.write(
                f"{indent}{name:<28} {value:.4g}\n" if isinstance(value, float) else f"{indent}{name:<28} {value}\n"
            )
