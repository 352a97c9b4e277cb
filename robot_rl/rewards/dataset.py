"""Labelled pictures of recorded episodes, split by episode: frames of one episode are almost copies of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_rl.episodes import load_episodes
from robot_rl.errors import UserError
from robot_rl.hil.shrink import shrink
from robot_rl.rewards.labels import FAILURE, SUCCESS, HandLabels, LabelRule, default_labels, file_key, labels_path

SHARES = {"train": 0.6, "validation": 0.2, "calibration": 0.2}
"""Of the episodes: to learn from, to report on, to choose temperature and threshold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledEpisode:
    """The F frames of an episode."""

    file: str
    """File that it was read from, relative to the folder that was asked for."""
    number: int
    """Its number in that file."""
    task: str
    """Name of the task."""
    success: bool
    """Whether the recording calls it a success."""
    images: Mapping[str, NDArray[np.uint8]]
    """Pictures by camera. Shape (F, h, w, 3)."""
    labels: NDArray[np.int8]
    """`SUCCESS`, `FAILURE` or `UNCLEAR`. Shape (F,)."""
    defaults: NDArray[np.int8]
    """What the recording alone says. Shape (F,)."""
    by_hand: NDArray[np.bool_]
    """Where a person gave the label. Shape (F,)."""

    @property
    def name(self) -> str:
        """File and number, for reports."""
        return f"{self.file}#{self.number}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Clearly labelled frames of several episodes."""

    images: Mapping[str, NDArray[np.uint8]]
    """Pictures by camera. Shape (K, h, w, 3)."""
    labels: NDArray[np.bool_]
    """Whether they show success. Shape (K,)."""


def load_labelled(
    path: Path,
    *,
    size: tuple[int, int] | None = (64, 64),
    cameras: Sequence[str] = (),
    rule: LabelRule = LabelRule(),
    labels: Path | None = None,
) -> list[LabelledEpisode]:
    """The episodes of a file or folder with labels.

    Args:
        path: File or folder of recorded episodes.
        size: (h, w) pixels to which pictures are shrunk; None leaves them.
        cameras: Which to keep; all of them if empty.
        rule: What the recording alone says of a frame.
        labels: File of hand labels; the one beside the episodes if not given.

    Raises:
        UserError: There are no episodes, they have no such camera, or the labels are of others.
    """
    path = Path(path)
    hand = HandLabels.load(labels_path(path) if labels is None else labels)
    found: list[LabelledEpisode] = []
    episodes = load_episodes(path)[::-1]
    while episodes:  # each is let go when its smaller pictures are there
        episode = episodes.pop()
        file = file_key(episode.source, path)
        chosen = tuple(cameras) or tuple(sorted(episode.images))
        if missing := [camera for camera in chosen if camera not in episode.images]:
            have = ", ".join(sorted(episode.images)) or "none: record with cameras"
            raise UserError(f"episode {episode.number} of {file} has no camera {missing[0]!r}; it has {have}")
        if not chosen:
            raise UserError(f"episode {episode.number} of {file} has no pictures; record with cameras")
        defaults = default_labels(episode, rule)
        given = hand.apply(file, episode.number, defaults)
        touched = [frame for (f, n, frame) in hand.frames if (f, n) == (file, episode.number)]
        by_hand = np.zeros(len(given), bool)
        by_hand[touched] = True
        pictures = {camera: episode.images[camera] for camera in chosen}
        if size is not None:
            pictures = {camera: shrink(images, _at_most(size, images)) for camera, images in pictures.items()}
        found.append(
            LabelledEpisode(
                file=file,
                number=episode.number,
                task=episode.schema.task,
                success=episode.success,
                images=pictures,
                labels=given,
                defaults=defaults,
                by_hand=by_hand,
            )  # fmt: skip
        )
    if not found:
        raise UserError(f"no episodes at {path}")
    for episode_ in found:
        if (shapes := _shapes(episode_)) != _shapes(found[0]):
            raise UserError(
                f"{episode_.name} has pictures {shapes}, {found[0].name} has {_shapes(found[0])}; "
                "choose episodes with the same cameras, or some of them with --cameras"
            )
    return found


def split(episodes: Sequence[LabelledEpisode], seed: int) -> dict[str, list[LabelledEpisode]]:
    """Whole episodes by the names of `SHARES`: those with and without success apart, so that each part has both.

    Raises:
        UserError: There are fewer than three episodes with frames of success, or parts have no frame without.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[LabelledEpisode]] = {name: [] for name in SHARES}
    won = [episode for episode in episodes if (episode.labels == SUCCESS).any()]
    lost = [episode for episode in episodes if not (episode.labels == SUCCESS).any()]
    if len(won) < len(SHARES):
        raise UserError(
            f"{len(won)} episodes have frames labelled as success; {len(SHARES)} is the least "
            "(to train, to validate, to calibrate), 20 a fair number"
        )
    for group in (won, lost):
        order = [group[i] for i in generator.permutation(len(group))]
        held = max(1, round(SHARES["validation"] * len(order))) if len(order) >= len(SHARES) else 0
        parts["validation"] += order[:held]
        parts["calibration"] += order[held : 2 * held]
        parts["train"] += order[2 * held :]
    for name, part in parts.items():
        if not any((episode.labels == FAILURE).any() for episode in part):
            raise UserError(f"the episodes to {name} have no frame without success; record longer ones or failures")
    return parts


def frames(episodes: Sequence[LabelledEpisode]) -> Frames:
    """The clearly labelled frames of episodes, at least one of them."""
    chosen = [episode.labels >= 0 for episode in episodes]
    cameras = episodes[0].images
    return Frames(
        images={c: np.concatenate([e.images[c][k] for e, k in zip(episodes, chosen, strict=True)]) for c in cameras},
        labels=np.concatenate([e.labels[k] == SUCCESS for e, k in zip(episodes, chosen, strict=True)]),
    )


def _shapes(episode: LabelledEpisode) -> dict[str, tuple[int, ...]]:
    return {camera: images.shape[1:] for camera, images in episode.images.items()}


def _at_most(size: tuple[int, int], images: NDArray[np.uint8]) -> tuple[int, int]:
    return min(size[0], images.shape[1]), min(size[1], images.shape[2])
