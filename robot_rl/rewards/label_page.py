"""`robot-rl reward label`: the page on which a person goes through frames, and a sheet of all for a machine without."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import UserError, require_packages
from robot_rl.rewards.labeling import Labeling, framed, side_by_side
from robot_rl.rewards.labels import FAILURE, SUCCESS, UNCLEAR

_HEIGHT = 320
"""Pixels of a frame on the page."""
_THUMBNAIL = 72
"""Pixels of a frame on the sheet."""
_COLUMNS = 14
"""Most frames of an episode on the sheet: half of them are its last ones."""


class LabelPage:
    """A web server that shows frames and takes labels, from this machine unless told otherwise."""

    def __init__(self, labeling: Labeling, *, host: str, port: int) -> None:
        """Start to serve at a port, or the next one that is free."""
        require_packages("robot-rl reward label", "play", ("viser",))
        import viser

        self.labeling = labeling
        with contextlib.redirect_stdout(io.StringIO()):  # a line of our own says where it listens
            self.server: Any = viser.ViserServer(host=host, port=port, label="labels", verbose=False)
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        self.url = f"http://{shown}:{self.server.get_port()}"
        gui = self.server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        self._picture = gui.add_image(self._view(), format="png")
        self._text = gui.add_markdown(labeling.text())
        for label, key, icon, action in self._actions():
            self._add(label, key, icon, action)

    def _actions(self) -> list[tuple[str, str, str, Callable[[], None]]]:
        own = self.labeling
        return [
            ("Next frame", "D", "player-skip-forward", lambda: own.step(1)),
            ("Previous frame", "A", "player-skip-back", lambda: own.step(-1)),
            ("Next episode", "W", "arrow-right", lambda: own.turn(1)),
            ("Previous episode", "S", "arrow-left", lambda: own.turn(-1)),
            ("Success", "J", "check", lambda: own.mark(SUCCESS)),
            ("Success from here on", "H", "checks", lambda: own.mark(SUCCESS, onward=True)),
            ("Not yet", "K", "x", lambda: own.mark(FAILURE)),
            ("Unclear", "L", "question-mark", lambda: own.mark(UNCLEAR)),
            ("As the recording says", "U", "arrow-back-up", lambda: own.mark(None)),
        ]

    def _add(self, label: str, key: str, icon: str, action: Callable[[], None]) -> None:
        gui = self.server.gui

        def act(_: Any) -> None:
            action()
            self.show()

        gui.add_button(f"{label} ({key})", icon=icon).on_click(act)
        if hasattr(gui, "add_command"):  # of viser 1.0: without, buttons alone
            gui.add_command(label, hotkey=key).on_trigger(act)

    def _view(self) -> NDArray[np.uint8]:
        own = self.labeling
        picture = side_by_side(own.episode.images, own.frame, _HEIGHT)
        return framed(picture, own.label, bool(own.by_hand(own.index)[own.frame]), 8)

    def show(self) -> None:
        """Show where one is now."""
        self._picture.image = self._view()
        self._text.content = self.labeling.text()

    def close(self) -> None:
        """Stop to serve."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()


def contact_sheet(labeling: Labeling) -> NDArray[np.uint8]:
    """A row of frames (H, W, 3) for every episode: some from its beginning on, all of its end, framed by label."""
    rows = []
    for index, episode in enumerate(labeling.episodes):
        count = len(episode.labels)
        tail = np.arange(max(0, count - _COLUMNS // 2), count)
        head = np.linspace(0, tail[0], _COLUMNS - len(tail), endpoint=False).astype(int)
        labels, by_hand = labeling.labels(index), labeling.by_hand(index)
        tiles = [
            framed(side_by_side(episode.images, frame, _THUMBNAIL), int(labels[frame]), bool(by_hand[frame]), 3)
            for frame in np.unique([*head, *tail])
        ]
        rows.append(np.concatenate(tiles, axis=1))
    width = max(row.shape[1] for row in rows)
    sheet = np.full((sum(row.shape[0] + 4 for row in rows), width, 3), 255, np.uint8)
    top = 0
    for row in rows:
        sheet[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + 4
    return sheet


def write_sheet(path: Path, labeling: Labeling) -> None:
    """Write the contact sheet as a picture file.

    Raises:
        UserError: It cannot be written.
    """
    require_packages("--contact-sheet", "camera", ("cv2",))
    import cv2

    sheet = contact_sheet(labeling)
    try:
        written = cv2.imwrite(str(path), sheet[..., ::-1])
    except cv2.error as error:
        raise UserError(f"{path} cannot be written: give a name that ends in .png") from error
    if not written:
        raise UserError(f"{path} cannot be written: is there such a folder?")
