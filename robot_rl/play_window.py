"""MuJoCo's own window for `robot-rl play`, where there is a display."""

from __future__ import annotations

import os
import sys
from typing import Any

import mujoco
import numpy as np

from robot_rl.errors import UserError
from robot_rl.play_controls import Controls
from robot_rl.play_stage import Stage
from robot_rl.video import scene_camera
from sim.look import copy_state

KEYS = "space: pause, right arrow: one step, enter: next episode, + and -: speed"
_SPACE, _ENTER, _RIGHT, _PLUS, _MINUS = 32, 257, 262, (61, 334), (45, 333)


def has_display() -> bool:
    """Whether a window could be opened here."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Window:
    """MuJoCo's viewer with a stage in it."""

    def __init__(self, stage: Stage, controls: Controls, *, camera: str = "") -> None:
        """Open it.

        Args:
            stage: What is shown.
            controls: What the keys act on.
            camera: Camera of the scene; empty for a free view of everything.

        Raises:
            UserError: It can't be opened; says why.
        """
        self.stage, self.controls = stage, controls
        view = scene_camera(stage, camera)
        _check()
        from mujoco import viewer

        self.model = stage.look.engine.batch.get_model(0)
        self.data = mujoco.MjData(self.model)
        self._copy()
        # Shadows and smooth edges: a window is for people.
        self.model.vis.quality.shadowsize, self.model.vis.quality.offsamples = 2048, 4
        try:
            self._handle: Any = viewer.launch_passive(
                self.model, self.data, key_callback=self._press, show_left_ui=False, show_right_ui=False
            )
        except RuntimeError as error:
            fix = "start it with mjpython, which comes with MuJoCo: mjpython -m robot_rl.cli play ..."
            raise UserError(f"no window: {error}{'; ' + fix if sys.platform == 'darwin' else ''}") from error
        with self._handle.lock():
            self._aim(view)

    def begin(self) -> None:
        """A new episode."""

    def show(self) -> None:
        """Show everything where it is now."""
        if not self._handle.is_running():
            self.controls.close()
            return
        with self._handle.lock():
            self._copy()
            episode = self.stage.episode
            self.data.time = episode.time
        names = "Task\nPlayed by\nEpisode\nTime\nReturn\nOutcome\nSpeed"
        values = "\n".join([
            self.stage.task.name, self.stage.actor.name, str(episode.number), f"{episode.time:.1f} s",
            f"{episode.total:.1f}", episode.outcome or "-", f"{self.controls.speed:g}",
        ])  # fmt: skip
        self._handle.set_texts(
            (mujoco.mjtFontScale.mjFONTSCALE_100, mujoco.mjtGridPos.mjGRID_BOTTOMLEFT, names, values)
        )
        self._handle.sync()

    def alive(self) -> bool:
        """Whether nobody has closed it."""
        running = bool(self._handle.is_running())
        if not running:
            self.controls.close()
        return running

    def close(self) -> None:
        """Close it."""
        self._handle.close()

    def _copy(self) -> None:
        copy_state(self.stage.look, self.model, self.data)
        self.model.light_castshadow[:1] = True

    def _aim(self, view: Any) -> None:
        """Begin with a camera's view."""
        eye = self._handle.cam
        if view.attached_to:
            eye.type, eye.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self.model.camera(view.name).id
            return
        # From the camera to what it looks at; MuJoCo's azimuth and elevation are those of this direction.
        way = np.subtract(view.target, view.position)
        eye.lookat[:] = view.target
        eye.distance = float(np.linalg.norm(way))
        eye.azimuth = float(np.degrees(np.arctan2(way[1], way[0])))
        eye.elevation = float(np.degrees(np.arcsin(way[2] / eye.distance)))

    def _press(self, key: int) -> None:
        if key == _SPACE:
            self.controls.pause()
        elif key == _RIGHT:
            self.controls.step()
        elif key == _ENTER:
            self.controls.next()
        elif key in _PLUS:
            self.controls.set_speed(1.25 * self.controls.speed)
        elif key in _MINUS:
            self.controls.set_speed(0.8 * self.controls.speed)


def _check() -> None:
    """Say where no window can be opened: MuJoCo would wait for it for ever."""
    if not has_display():
        raise UserError("there is no display (DISPLAY and WAYLAND_DISPLAY are not set); use --viewer browser")
    if sys.platform == "darwin":
        return
    import glfw

    if not glfw.init():
        asked = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or ""
        raise UserError(f"display {asked!r} can't be opened; use --viewer browser")
