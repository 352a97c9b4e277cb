"""The browser's page of `robot-rl play`: the scene as shapes that can be looked at from all sides, and its controls.

The page and all that it needs come from this machine (`viser`): nothing is loaded from elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from typing import Any

import mujoco
import numpy as np

from robot_rl.errors import require_packages
from robot_rl.play_controls import SPEEDS, Controls
from robot_rl.play_stage import Stage
from robot_rl.video import scene_camera
from sim.engines.mujoco_look import HIDDEN
from sim.look import copy_state

_TEXT_INTERVAL = 0.2
"""s between changes of the texts: numbers that change faster can't be read."""
_PLANE = 40.0
"""m, side of the square that stands for an endless plane."""
_NODE = "/bodies"
SKY_TOP, SKY_BOTTOM = (0.55, 0.66, 0.78), (0.92, 0.94, 0.95)
"""Colours of the background."""


class Browser:
    """A web server that shows a stage."""

    def __init__(self, stage: Stage, controls: Controls, *, host: str, port: int, camera: str = "") -> None:
        """Start to serve.

        Args:
            stage: What is shown.
            controls: What the page's buttons act on.
            host: Address to listen at; 127.0.0.1 is for this machine only.
            port: Port, or the next one that is free.
            camera: Where one looks from at first; empty for a view of everything.
        """
        require_packages("--viewer browser", "play", ("viser",))
        import viser

        self.stage, self.controls = stage, controls
        view = scene_camera(stage, camera)
        with contextlib.redirect_stdout(io.StringIO()):  # a line of our own says where it listens
            self.server: Any = viser.ViserServer(host=host, port=port, label=stage.task.name, verbose=False)
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        self.url = f"http://{shown}:{self.server.get_port()}"
        self.model = stage.look.engine.batch.get_model(0)
        self.data = mujoco.MjData(self.model)
        self._bodies: dict[int, Any] = {}
        self._poses: dict[int, np.ndarray] = {}
        self._geoms: dict[int, tuple[Any, ...]] = {}
        self._text_time = -math.inf
        server = self.server
        server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=(23, 105, 170))
        server.scene.set_background_image(_sky())
        server.scene.configure_default_lights(False)
        server.scene.configure_environment_map(None)
        server.scene.add_light_ambient("/light/ambient", intensity=1.1)
        server.scene.add_light_directional("/light/lamp", position=(0.9, 0.9, 1.9), intensity=1.7, cast_shadow=True)
        server.scene.add_light_directional("/light/weak", position=(0.3, -1.6, 1.2), intensity=0.5)
        if not view.attached_to:
            server.initial_camera.position = view.position
            server.initial_camera.look_at = view.target
            server.initial_camera.fov = view.field_of_view
        server.initial_camera.up = (0.0, 0.0, 1.0)
        self._add_controls()
        self.show()

    def begin(self) -> None:
        """A new episode: its text at once."""
        self._text_time = -math.inf

    def show(self) -> None:
        """Send where everything is now, as one change."""
        copy_state(self.stage.look, self.model, self.data)
        with self.server.atomic():
            self._draw()
            for body, handle in self._bodies.items():
                pose = np.concatenate([self.data.xpos[body], self.data.xquat[body]])
                if body in self._poses and np.abs(pose - self._poses[body]).max() < 1e-6:
                    continue
                self._poses[body] = pose
                handle.position, handle.wxyz = pose[:3], pose[3:]
        now = time.monotonic()
        if now - self._text_time > _TEXT_INTERVAL or self.stage.episode.outcome:
            self._text_time = now
            self._status.content = status(self.stage)

    def alive(self) -> bool:
        """A server goes on until it is stopped."""
        return True

    def close(self) -> None:
        """Stop to serve."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    # The scene

    def node(self, geom: int) -> str:
        """Name of a shape in the page's scene, under its body's."""
        return f"{self._node(int(self.model.geom_bodyid[geom]))}/{geom}"

    def visible(self, geom: int) -> bool:
        """Whether a shape is drawn."""
        return bool(self.model.geom_group[geom] < HIDDEN and self.model.geom_rgba[geom, 3] > 0.0)

    def _node(self, body: int) -> str:
        # A slash would make a tree of the name.
        return f"{_NODE}/{self.model.body(body).name.replace('/', '.')}"

    def _draw(self) -> None:
        """Add the shapes that are new or have changed: sizes and cousins are drawn anew for every episode."""
        model = self.model
        for geom in range(model.ngeom):
            body = int(model.geom_bodyid[geom])
            key = (
                *model.geom_size[geom].tolist(),
                *model.geom_pos[geom].tolist(),
                *model.geom_quat[geom].tolist(),
                *model.geom_rgba[geom].tolist(),
            )
            if self._geoms.get(geom) == key:
                continue
            if self._geoms.get(geom) is not None:
                self.server.scene.remove_by_name(self.node(geom))
            self._geoms[geom] = key
            if not self.visible(geom):
                continue
            if body not in self._bodies:
                self._bodies[body] = self.server.scene.add_frame(self._node(body), show_axes=False)
            self._add_shape(geom)

    def _add_shape(self, geom: int) -> None:
        model, scene = self.model, self.server.scene
        size, rgba = model.geom_size[geom], model.geom_rgba[geom]
        kind = mujoco.mjtGeom(int(model.geom_type[geom]))
        common: dict[str, Any] = {
            "color": tuple(int(round(255.0 * float(v))) for v in rgba[:3].clip(0.0, 1.0)),
            "opacity": float(rgba[3]) if rgba[3] < 1.0 else None,
            "position": model.geom_pos[geom].copy(),
            "wxyz": model.geom_quat[geom].copy(),
            "cast_shadow": bool(rgba[3] > 0.6),
        }
        name = self.node(geom)
        if kind == mujoco.mjtGeom.mjGEOM_BOX:
            scene.add_box(name, dimensions=2.0 * size, **common)
        elif kind == mujoco.mjtGeom.mjGEOM_SPHERE:
            scene.add_icosphere(name, radius=float(size[0]), **common)
        elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            scene.add_icosphere(name, radius=1.0, scale=tuple(size.tolist()), **common)
        elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
            scene.add_cylinder(name, radius=float(size[0]), height=2.0 * float(size[1]), **common)
        elif kind == mujoco.mjtGeom.mjGEOM_PLANE:
            width, depth = (2.0 * float(side) if side > 0.0 else _PLANE for side in size[:2])
            common["cast_shadow"] = False
            scene.add_box(name, dimensions=(width, depth, 0.002), **common)
        else:
            vertices, faces = _mesh(model, geom, kind)
            scene.add_mesh_simple(name, vertices, faces, **common)

    # The panel

    def _add_controls(self) -> None:
        gui, controls = self.server.gui, self.controls
        self._status = gui.add_markdown(status(self.stage))
        pause = gui.add_button("Pause", icon="player-pause")
        step = gui.add_button("One step", icon="player-skip-forward", hint="play one control period")
        again = gui.add_button("Next episode", icon="refresh")
        speed = gui.add_slider("Speed", min=SPEEDS[0], max=SPEEDS[1], step=0.1, initial_value=controls.speed)
        goal = gui.add_checkbox("Show the goal", initial_value=True)

        def say_pause() -> None:
            pause.label = "Go on" if controls.paused else "Pause"
            pause.icon = "player-play" if controls.paused else "player-pause"

        @pause.on_click
        def _(_: Any) -> None:
            controls.pause()
            say_pause()

        @step.on_click
        def _(_: Any) -> None:
            controls.step()
            say_pause()

        @again.on_click
        def _(_: Any) -> None:
            controls.next()

        @speed.on_update
        def _(_: Any) -> None:
            controls.set_speed(float(speed.value))

        @goal.on_update
        def _(_: Any) -> None:
            for body, handle in self._bodies.items():
                if self.model.body(body).name in self.stage.look.marks:
                    handle.visible = bool(goal.value)


def _sky() -> np.ndarray:
    """Image (64, 2, 3) uint8 that fills the background."""
    share = np.linspace(0.0, 1.0, 64)[:, None, None]
    shades = (1.0 - share) * np.array(SKY_TOP) + share * np.array(SKY_BOTTOM)
    return np.rint(255.0 * shades).astype(np.uint8).repeat(2, axis=1)


def status(stage: Stage) -> str:
    """What the panel says, as Markdown."""
    episode = stage.episode
    return "\n".join([
        f"**{stage.task.name}** played by **{stage.actor.name}**",
        "",
        "| | |",
        "|:--|--:|",
        f"| Episode | {episode.number} |",
        f"| Time | {episode.time:.1f} s |",
        f"| Reward | {episode.reward:.2f} |",
        f"| Return | {episode.total:.1f} |",
        f"| Outcome | {episode.outcome or '…'} |",
    ])  # fmt: skip


def _mesh(model: mujoco.MjModel, geom: int, kind: mujoco.mjtGeom) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) m and faces (F, 3) of a capsule or a mesh."""
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        import trimesh

        radius, half = (float(value) for value in model.geom_size[geom, :2])
        shape = trimesh.creation.capsule(height=2.0 * half, radius=radius, count=[24, 24])
        vertices = np.asarray(shape.vertices, dtype=float)
        # The version of trimesh decides where a capsule has its middle.
        vertices[:, 2] -= 0.5 * (vertices[:, 2].min() + vertices[:, 2].max())
        return vertices, np.asarray(shape.faces)
    if kind != mujoco.mjtGeom.mjGEOM_MESH:
        raise ValueError(f"shape {geom} of the scene is a {kind.name}: the browser can't show it")
    mesh = int(model.geom_dataid[geom])
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    return model.mesh_vert[first : first + count].copy(), model.mesh_face[face : face + faces].copy()
