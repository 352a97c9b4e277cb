"""Going through recorded frames and correcting their labels: what the page and the contact sheet have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robot_rl.rewards.dataset import LabelledEpisode
from robot_rl.rewards.labels import FAILURE, SUCCESS, UNCLEAR, WORDS, HandLabels

COLORS = {SUCCESS: (60, 170, 80), FAILURE: (200, 70, 60), UNCLEAR: (150, 150, 150)}
"""Red, green, blue by label."""


class Labeling:
    """A place among the frames of episodes; labels that are given are saved at once."""

    def __init__(self, episodes: Sequence[LabelledEpisode], hand: HandLabels) -> None:
        """Begin at the end of the first episode, where success is.

        Args:
            episodes: What is gone through.
            hand: What is corrected.
        """
        self.episodes, self.hand = list(episodes), hand
        self._labels = [episode.labels.copy() for episode in episodes]
        self._by_hand = [episode.by_hand.copy() for episode in episodes]
        self.index = 0
        self.frame = self.last

    @property
    def episode(self) -> LabelledEpisode:
        """The one that is looked at."""
        return self.episodes[self.index]

    @property
    def last(self) -> int:
        """Number of its last frame."""
        return len(self.episode.labels) - 1

    @property
    def label(self) -> int:
        """Of the frame that is looked at."""
        return int(self._labels[self.index][self.frame])

    def labels(self, index: int) -> NDArray[np.int8]:
        """Labels (F,) of an episode as they are now."""
        return self._labels[index]

    def by_hand(self, index: int) -> NDArray[np.bool_]:
        """Where (F,) a person gave them."""
        return self._by_hand[index]

    def step(self, by: int) -> None:
        """Go on or back by frames, within the episode."""
        self.frame = int(np.clip(self.frame + by, 0, self.last))

    def turn(self, by: int) -> None:
        """Go on or back by episodes, to the end of that one."""
        self.index = int(np.clip(self.index + by, 0, len(self.episodes) - 1))
        self.frame = self.last

    def mark(self, label: int | None, *, onward: bool = False) -> None:
        """Label the frame, or all from here to the end of the episode; None goes back to the default."""
        for frame in range(self.frame, self.last + 1) if onward else (self.frame,):
            self.hand.set(self.episode.file, self.episode.number, frame, label)
            self._labels[self.index][frame] = self.episode.defaults[frame] if label is None else label
            self._by_hand[self.index][frame] = label is not None
        self.hand.save()

    def text(self) -> str:
        """Where one is and what is said of it, as Markdown."""
        counts = {word: sum(int((one == value).sum()) for one in self._labels) for value, word in WORDS.items()}
        origin = "by hand" if self._by_hand[self.index][self.frame] else "from the recording"
        return "\n".join([
            f"**{self.episode.name}**, {'success' if self.episode.success else 'failure'}, "
            f"{self.index + 1} of {len(self.episodes)}",
            "",
            f"frame {self.frame} of {self.last}: **{WORDS[self.label]}** ({origin})",
            "",
            ", ".join(f"{count} {word}" for word, count in counts.items()),
        ])  # fmt: skip


def side_by_side(images: Mapping[str, NDArray[np.uint8]], frame: int, height: int) -> NDArray[np.uint8]:
    """One frame of all cameras beside each other (height, W, 3), enlarged or shrunk to the nearest pixel."""
    parts = []
    for camera in sorted(images):
        picture = images[camera][frame]
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        rows = np.arange(height) * picture.shape[0] // height
        columns = np.arange(width) * picture.shape[1] // width
        parts.append(picture[rows[:, None], columns[None]])
    return np.concatenate(parts, axis=1)


def framed(picture: NDArray[np.uint8], label: int, by_hand: bool, border: int) -> NDArray[np.uint8]:
    """A picture with a border in its label's colour; a second, white one says that it came by hand."""
    height, width = picture.shape[:2]
    result = np.empty((height + 2 * border, width + 2 * border, 3), np.uint8)
    result[:] = COLORS[label]
    if by_hand:
        inner = max(1, border // 2)
        result[inner:-inner, inner:-inner] = 255
    result[border:-border, border:-border] = picture
    return result
