"""Whether a frame shows success: by what the recording says of its episode, and by hand where that is wrong.

Hand labels are a JSON file beside the episodes:

    {"version": 1, "labels": {"run.log": {"12": {"30": "success", "31": "unclear"}}}}

by file (relative to the folder), number of the episode in it, and frame from 0.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.episodes import Episode
from robot_rl.errors import UserError

SUCCESS, FAILURE, UNCLEAR = 1, 0, -1
"""Labels. What is unclear is neither trained on nor counted."""
NAMES = {"success": SUCCESS, "failure": FAILURE, "unclear": UNCLEAR}
"""Labels by their names in the file; `failure` is everything that is not success yet."""
WORDS = {value: name for name, value in NAMES.items()}
"""Names of the labels."""
VERSION = 1
"""Of the file's form."""


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """What the recording alone says of a frame."""

    positive: int = 3
    """So many last frames of a successful episode show success."""
    margin: int = 5
    """So many before them are unclear: success may have been there before it was noticed."""
    truth: bool = True
    """Whether a simulator's word counts instead, where the recording has it for every frame (`info["truth"]`)."""

    def __post_init__(self) -> None:
        if self.positive < 1 or self.margin < 0:
            raise UserError(
                f"{self.positive} positive frames and a margin of {self.margin}; expected at least 1 and at least 0"
            )


def frames_of(episode: Episode) -> int:
    """How many frames an episode has: one before each action and, where known, the one after the last."""
    return len(episode.observations)


def default_labels(episode: Episode, rule: LabelRule) -> NDArray[np.int8]:
    """Labels (F,) of an episode's frames without a person.

    The end of an episode whose recording was cut off is unclear: nobody knows how it went on.
    """
    count = frames_of(episode)
    truth = episode.info.get("truth")
    if rule.truth and truth is not None and not np.isnan(truth).any():
        return _told(np.concatenate([[False], truth > 0.0])[:count], rule.margin)
    labels = np.full(count, FAILURE, np.int8)
    if episode.success:
        labels[max(0, count - rule.positive - rule.margin) :] = UNCLEAR
        labels[-rule.positive :] = SUCCESS
    elif not episode.complete:
        labels[max(0, count - rule.positive - rule.margin) :] = UNCLEAR
    return labels


def _told(done: NDArray[np.bool_], margin: int) -> NDArray[np.int8]:
    """Labels (F,) of frames of which it is known whether they show success; `margin` before each such time are unclear.

    Those look like it: things come near and to rest.
    """
    labels = np.where(done, SUCCESS, FAILURE).astype(np.int8)
    for begun in np.flatnonzero(~done[:-1] & done[1:]) + 1:
        soon = slice(max(0, begun - margin), begun)
        labels[soon][~done[soon]] = UNCLEAR
    return labels


class HandLabels:
    """Labels that a person gave, with the file that keeps them."""

    def __init__(self, path: Path, frames: Mapping[tuple[str, int, int], int] | None = None) -> None:
        """Labels by (file, episode, frame), kept in `path`."""
        self.path = path
        self.frames = dict(frames or {})

    @classmethod
    def load(cls, path: Path) -> HandLabels:
        """Those of a file; none where there is no file.

        Raises:
            UserError: It is no such file.
        """
        if not path.exists():
            return cls(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("version") != VERSION or not isinstance(data.get("labels"), dict):
            raise UserError(f"{path} holds no labels of version {VERSION}; move it away to begin anew")
        frames = {}
        for file, episodes in data["labels"].items():
            for number, labels in _items(path, file, episodes):
                for frame, name in _items(path, f"{file}, episode {number}", labels):
                    if name not in NAMES:
                        raise UserError(
                            f"{path}: {file}, episode {number}, frame {frame} is {name!r}; "
                            f"expected {', '.join(NAMES)}"
                        )  # fmt: skip
                    frames[file, number, frame] = NAMES[name]
        return cls(path, frames)

    def apply(self, file: str, number: int, defaults: NDArray[np.int8]) -> NDArray[np.int8]:
        """Default labels (F,) of an episode with the hand's in their places.

        Raises:
            UserError: The hand labelled a frame that the episode does not have.
        """
        labels = defaults.copy()
        for (found, episode, frame), label in self.frames.items():
            if (found, episode) == (file, number):
                if frame >= len(labels):
                    raise UserError(
                        f"{self.path} labels frame {frame} of episode {number} of {file}, which has {len(labels)}: "
                        "these are labels of other episodes"
                    )
                labels[frame] = label
        return labels

    def set(self, file: str, number: int, frame: int, label: int | None) -> None:
        """Label a frame; None takes the hand's label away."""
        if label is None:
            self.frames.pop((file, number, frame), None)
        else:
            self.frames[file, number, frame] = label

    def save(self) -> None:
        """Write the file, whole or not at all."""
        labels: dict[str, dict[str, dict[str, str]]] = {}
        for (file, number, frame), label in sorted(self.frames.items()):
            labels.setdefault(file, {}).setdefault(str(number), {})[str(frame)] = WORDS[label]
        fresh = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            with open(fresh, "w", encoding="utf-8") as file_:
                json.dump({"version": VERSION, "labels": labels}, file_, indent=1)
                file_.write("\n")
                file_.flush()
                os.fsync(file_.fileno())
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)


def labels_path(path: Path) -> Path:
    """Where the hand labels of the episodes in a file or folder are kept."""
    return path / "reward_labels.json" if path.is_dir() else path.with_suffix(".labels.json")


def file_key(source: Path, path: Path) -> str:
    """Name of an episode's file in the labels of `path`, a file or a folder."""
    return source.relative_to(path).as_posix() if path.is_dir() else source.name


def _items(path: Path, what: str, data: Any) -> list[tuple[int, Any]]:
    if not isinstance(data, dict) or not all(key.isdecimal() for key in data):
        raise UserError(f"{path}: {what} is {data!r:.80}; expected an object with whole numbers as keys")
    return [(int(key), value) for key, value in data.items()]
