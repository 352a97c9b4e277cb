"""Pictures of the tasks, one each, that a person recognizes: `python -m robot_rl.pictures FOLDER [TASK ...]`."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from robot_rl.errors import UserError, require_packages, unknown_name
from robot_rl.play import PlayConfig, open_stage
from robot_rl.play_stage import Stage
from robot_rl.video import open_cameras
from sim.scene import Camera
from sim.tasks import TASKS

_QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is seen of a task, when."""

    seed: int = 0
    """Of the episode."""
    share: float = 0.55
    """Of the episode that has been played."""
    closer: float = 1.0
    """How many times larger than in the view of everything."""
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """m, by which the middle of the picture is moved."""
    turn: float = 0.0
    """rad, by which the camera is moved around it, counter-clockwise seen from above."""


_TABLE = (0.2, 0.0, -0.14)
MOMENTS: dict[str, Moment] = {
    "arm-cable-route": Moment(share=0.5, closer=2.6, shift=(0.24, 0.0, -0.2)),
    "arm-flip": Moment(share=0.65, closer=1.25, shift=(0.2, 0.0, 0.2), turn=0.7),
    "arm-handover": Moment(share=0.75),
    "arm-peg-insert": Moment(share=0.1, closer=3.2, shift=(0.24, 0.0, -0.18), turn=0.3),
    "arm-pick-lift": Moment(share=0.95, closer=1.6, shift=_TABLE),
    "arm-push": Moment(share=0.6, closer=1.7, shift=_TABLE),
    "arm-reach": Moment(seed=1, share=0.4, closer=1.25, shift=(0.1, 0.0, 0.05)),
    "arm-reach-region": Moment(share=0.45),
    "quadrotor-hover": Moment(share=0.25),
    "quadrotor-track": Moment(share=0.33, closer=0.75),
}
"""Task → its moment, where another one than the default shows more."""


def take_picture(task: str) -> np.ndarray:
    """Image (480, 640, 3) uint8 of a task, played by its expert or its shipped bundle on the nominal robot.

    Raises:
        UserError: No such task, or no image can be rendered here.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    moment = MOMENTS.get(task, Moment())
    periods = _play(_stage(task, moment), None)
    stage = _stage(task, moment)
    _play(stage, max(1, round(moment.share * periods)))
    with open_cameras(stage) as cameras:
        try:
            return cameras.render(0, _view(stage.look.camera(), moment))
        except RuntimeError as error:
            raise UserError(f"no picture can be rendered here: {error}") from error


def write_pictures(folder: Path, tasks: Sequence[str] = ()) -> list[Path]:
    """Write `<task>.jpg` for every task, or for those that are named; returns the files."""
    require_packages("pictures", "report", ("PIL",))
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for task in tasks or sorted(TASKS):
        file = folder / f"{task}.jpg"
        Image.fromarray(take_picture(task)).save(file, quality=_QUALITY, optimize=True)
        files.append(file)
    return files


def _stage(task: str, moment: Moment) -> Stage:
    return open_stage(PlayConfig(task=task, seed=moment.seed, randomization="none"))


def _play(stage: Stage, periods: int | None) -> int:
    """Play so many control periods, or to the end; returns how many it were."""
    stage.begin()
    played = 0
    while not stage.episode.outcome and (periods is None or played < periods):
        # Every frame counts: a trail is made of what was seen.
        stage.advance(lambda _: None)
        stage.look.update()
        played += 1
    return played


def _view(camera: Camera, moment: Moment) -> Camera:
    """Nearer to a point that is moved, around which the camera is turned."""
    away = np.subtract(camera.position, camera.target) / moment.closer
    cos, sin = math.cos(moment.turn), math.sin(moment.turn)
    away = np.array([cos * away[0] - sin * away[1], sin * away[0] + cos * away[1], away[2]])
    target = np.add(camera.target, moment.shift)
    return dataclasses.replace(camera, position=tuple((target + away).tolist()), target=tuple(target.tolist()))


def main(arguments: Sequence[str]) -> int:
    """Write pictures into the folder that is named first, of the tasks named after it or of all."""
    torch.set_num_threads(1)
    if not arguments:
        print("usage: python -m robot_rl.pictures FOLDER [TASK ...]", file=sys.stderr)
        return 2
    try:
        for file in write_pictures(Path(arguments[0]), arguments[1:]):
            print(f"{file}: {file.stat().st_size // 1024} kB")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
