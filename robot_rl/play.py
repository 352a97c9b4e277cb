"""`robot-rl play`: watch a policy, or the scripted expert, at its task: in a window, in the browser, as a video."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from tyro.conf import Positional

from policies.bundle import ZOO
from robot_rl.errors import UserError, unknown_name
from robot_rl.evaluate import parse_settings, randomization_terms, set_task
from robot_rl.play_controls import SPEEDS, Clock, Controls
from robot_rl.play_stage import FRAME_RATE, Frames, Stage
from robot_rl.video import Filming
from sim.tasks import TASKS
from sim.tasks.arm import ArmTask

_PAUSE_AT_END = 1.0
"""s for which the end of an episode is shown."""


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """Watch a policy at its task: in a window where there is a display, else in the browser, or as a video."""

    task: Positional[str]
    """Task, see `robot-rl list`."""
    bundle: Positional[str] = ""
    """Folder of a bundle or name of a shipped one; `expert`, `random` or `zero`. Without: an arm's scripted expert, a
    quadrotor's shipped bundle."""
    engine: Literal["torch", "mujoco", "pybullet", "warp"] | None = None
    """Physics: for arms mujoco or pybullet; None is the task's own."""
    seed: int = 0
    """Seed of starts, robots and noise."""
    randomization: str = "default"
    """`default`, `none`, or a YAML file of randomization terms."""
    set: tuple[str, ...] = ()
    """Settings of the task as name=value, e.g. clearance=0.0002."""
    episodes: int | None = None
    """Number of episodes; 0 plays until it is stopped. Without: 1 for a video alone, else 0."""
    video: Path | None = None
    """File for an MP4. Without `--viewer` nothing else is shown, and it is made as fast as the machine can."""
    viewer: Literal["auto", "window", "browser", "none"] = "auto"
    """`auto` opens a window where there is a display, else it serves a page."""
    host: str = "127.0.0.1"
    """Address that the page is served at; 0.0.0.0 lets other machines in."""
    port: int = 8080
    """Port of the page, or the next free one."""
    speed: float = 1.0
    """Factor of real time, also of the video."""
    camera: str = ""
    """Camera of the scene, e.g. `front`; without, a view of everything."""


class Viewer(Protocol):
    """What shows a stage."""

    def begin(self) -> None:
        """A new episode."""

    def show(self) -> None:
        """Show a frame."""

    def alive(self) -> bool:
        """Whether there is still somebody to show it to."""

    def close(self) -> None:
        """End."""


def run(config: PlayConfig) -> int:
    """Play until the episodes are over, or until somebody stops it."""
    torch.set_num_threads(1)
    if not SPEEDS[0] <= config.speed <= SPEEDS[1]:
        raise UserError(f"--speed {config.speed:g} is outside of {SPEEDS[0]:g} to {SPEEDS[1]:g}")
    kind = _viewer_kind(config)
    stage = open_stage(config)
    controls = Controls(config.speed)
    viewer: Viewer | None = None
    film: Filming | None = None
    try:
        viewer = _open_viewer(kind, stage, controls, config)
        film = Filming(stage, config.video, config.camera) if config.video is not None else None
        episodes = config.episodes if config.episodes is not None else 1 if viewer is None else 0
        if viewer is None and episodes == 0:
            raise UserError("--episodes 0 never ends without a viewer; give a number")
        play(stage, controls, episodes, viewer, film)
    except KeyboardInterrupt:
        if film is None:
            raise
        _say("stopped")  # what has been filmed is kept
    finally:
        for opened in (film, viewer, stage):
            if opened is not None:
                opened.close()
    if film is not None:
        seconds = film.file.frames / FRAME_RATE
        _say(f"video {film.path}: {film.file.frames} frames, {seconds:.1f} s, {film.path.stat().st_size // 1024} kB")
    return 0


def open_stage(config: PlayConfig) -> Stage:
    """The task, its environment and who plays, as the arguments say.

    Raises:
        UserError: Something that they name does not exist.
    """
    if config.task not in TASKS:
        raise unknown_name("task", config.task, TASKS)
    task = TASKS[config.task]
    settings = parse_settings(config.set)
    if settings:
        if not isinstance(task, ArmTask):
            raise UserError(f"task {task.name!r} has no settings; --set is for arms")
        task = set_task(task, settings)
    terms = randomization_terms(task, config.randomization)
    actor = config.bundle or default_actor(config.task)
    return Stage(task, actor, terms=terms, engine=config.engine, seed=config.seed)


def default_actor(task: str) -> str:
    """Who plays where nobody is named: an arm's expert, a quadrotor's shipped bundle."""
    if isinstance(TASKS[task], ArmTask):
        return "expert"
    if not (ZOO / task).is_dir():
        raise UserError(f"no bundle of {task!r} ships with the package; give one, 'random' or 'zero'")
    return task


def play(stage: Stage, controls: Controls, episodes: int, viewer: Viewer | None, film: Filming | None) -> None:
    """Play episodes; with a viewer in real time.

    Args:
        stage: What is played.
        controls: Pause, speed, end.
        episodes: How many; 0 until `controls` are closed.
        viewer: What shows it, if anything does.
        film: What films it, if anything does.
    """
    clock = Clock(controls)
    while not controls.closed and (episodes == 0 or stage.episode.number < episodes):
        stage.begin()
        controls.take_next()
        _play_episode(stage, controls, clock, viewer, film)
        episode = stage.episode
        outcome = episode.outcome or "stopped"
        _say(f"episode {episode.number}: {outcome} after {episode.time:.1f} s, return {episode.total:.1f}")
        if viewer is not None:
            stage.look.update()
            viewer.show()
            controls.sleep(_PAUSE_AT_END / controls.speed)


def _play_episode(stage: Stage, controls: Controls, clock: Clock, viewer: Viewer | None, film: Filming | None) -> None:
    frames = Frames(controls.speed / FRAME_RATE)
    filmed = Frames(controls.speed / FRAME_RATE)

    def on_time(time: float) -> None:
        if film is not None and filmed.due(time):
            stage.look.update()
            film.show()
        if viewer is None:
            return
        frames.interval = controls.speed / FRAME_RATE
        if not controls.hurried and frames.due(time):
            clock.wait(time)
            stage.look.update()
            viewer.show()

    if viewer is not None:
        viewer.begin()
    clock.restart(0.0)
    on_time(0.0)
    while not stage.episode.outcome and not controls.hurried:
        if viewer is not None and controls.gate(viewer.alive):
            clock.restart(stage.episode.time)
        stage.advance(on_time)


def _viewer_kind(config: PlayConfig) -> str:
    from robot_rl.play_window import has_display

    kind: str = config.viewer
    if kind == "auto":
        kind = "none" if config.video is not None else "window" if has_display() else "browser"
    if kind == "none" and config.video is None and not config.episodes:
        raise UserError("--viewer none shows nothing: give --video FILE, or --episodes for the outcomes alone")
    if kind == "window" and config.video is not None:
        raise UserError("a window and a video at once need two kinds of OpenGL; use --viewer browser or none")
    return kind


def _open_viewer(kind: str, stage: Stage, controls: Controls, config: PlayConfig) -> Viewer | None:
    if kind == "window":
        from robot_rl.play_window import KEYS, Window

        try:
            window = Window(stage, controls, camera=config.camera)
        except UserError as error:
            if config.viewer == "window":
                raise
            _say(f"{error}; serving a page instead")
            kind = "browser"
        else:
            _say(KEYS)
            return window
    if kind == "browser":
        from robot_rl.play_browser import Browser

        browser = Browser(stage, controls, host=config.host, port=config.port, camera=config.camera)
        _say(f"open {browser.url} (Ctrl-C ends it)")
        return browser
    return None


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
