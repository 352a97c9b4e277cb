"""What the cameras of a MuJoCo scene see, rendered in software or on a GPU, without a window.

One model, one GL context and one list of shapes serve all environments: the state and the randomized fields of an
environment are copied in (a few microseconds), positions are computed, dynamics are not.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Literal

import mujoco
import numpy as np

from sim.camera_model import CameraModel, Lens, camera_model, lens_of, quaternion_of
from sim.engines.base import ArmEngine
from sim.engines.mujoco import MujocoEngine
from sim.gl import open_context
from sim.scene import Camera, Scene

_FLIP = np.diag([1.0, -1.0, -1.0])
"""From OpenCV's optical frame to MuJoCo's camera frame, which looks along -z with y up."""
_MOST_GEOMS = 2000
_SKY = 0.2
"""Share of the far plane's distance, over 10 m in any scene, from which on there is nothing but sky."""
_PICTURE_SIZE = 1280
"""Pixels: widest image of quality `picture`."""


def overview_camera(scene: Scene, *, width: int = 640, height: int = 480) -> Camera:
    """A camera that sees arms and workspace from front left: for videos and pictures of any scene."""
    bases = np.array([mount.position for mount in scene.arms])
    spread = float(np.ptp(bases, axis=0).max())
    # The workspace is before a single arm, and between two of them.
    center = bases.mean(axis=0) + [0.24 if len(bases) == 1 else 0.12, 0.0, 0.26]
    away = (1.45 + 0.75 * spread) * np.array([0.78, 0.47, 0.41])
    return Camera(
        name="overview",
        position=tuple((center + away).tolist()),
        target=tuple(center.tolist()),
        field_of_view=0.75,
        width=width,
        height=height,
    )


class Cameras:
    """Renders the cameras of a scene; holds a GL context between the first image and `close`.

    A context belongs to one thread: render from the thread that rendered first.
    """

    def __init__(
        self,
        engine: ArmEngine,
        *,
        models: Mapping[str, CameraModel] | None = None,
        quality: Literal["fast", "picture"] = "fast",
    ) -> None:
        """Prepare; no library is loaded before the first image.

        Args:
            engine: Whose environments are shown.
            models: Calibrated cameras by name. Their intrinsics and distortion replace those of the scene's cameras;
                the pose is the scene's, see `sim.camera_model.scene_camera`.
            quality: `fast` has neither shadows nor smooth edges, and coarser curves; `picture` is for people.

        Raises:
            ValueError: The engine is another one, or a model is of a camera that the scene does not have.
        """
        if not isinstance(engine, MujocoEngine):
            raise ValueError(f"cameras see scenes of the engine 'mujoco' only; this is {type(engine).__name__}")
        self.engine, self.quality = engine, quality
        self._models = {camera.name: camera_model(camera) for camera in engine.scene.cameras}
        for name, model in (models or {}).items():
            if name not in self._models:
                raise ValueError(f"there is no camera {name!r}; the scene has {sorted(self._models) or 'none'}")
            self._models[name] = model
        self._nominal_fov = {c.name: c.field_of_view for c in engine.scene.cameras}
        self._lenses: dict[str, Lens] = {}
        self._renderer: _Renderer | None = None

    def model(self, camera: str) -> CameraModel:
        """Intrinsics and nominal pose of a camera."""
        self._check(camera)
        return self._models[camera]

    def pose(self, env: int, camera: str) -> np.ndarray:
        """World pose (7,) of the camera's optical frame now, in environment `env`."""
        self._check(camera)
        opened = self._open()
        opened.load(self.engine, env)
        position, matrix = opened.camera_pose(camera)
        return np.array([*position, *quaternion_of(matrix)])

    def render(self, env: int, camera: str | Camera) -> np.ndarray:
        """Image (H, W, 3) uint8, red-green-blue, of environment `env` from a camera of the scene or a standing one."""
        return self._render(env, camera, with_depth=False)[0]

    def render_depth(self, env: int, camera: str | Camera) -> tuple[np.ndarray, np.ndarray]:
        """The image and its depth (H, W) float32 m along the optical axis; infinite where nothing is seen."""
        color, depth = self._render(env, camera, with_depth=True)
        assert depth is not None
        return color, depth

    def images(self, camera: str, ids: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Images (K, H, W, 3) uint8 of the environments `ids`, of all without."""
        chosen = range(self.engine.num_envs) if ids is None else [int(i) for i in ids]
        model = self.model(camera)
        images = np.empty((len(chosen), model.height, model.width, 3), np.uint8)
        for row, env in enumerate(chosen):
            images[row] = self.render(env, camera)
        return images

    def close(self) -> None:
        """Give the GL context back; rendering again opens another one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> Cameras:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, camera: str) -> None:
        if camera not in self._models:
            raise ValueError(f"there is no camera {camera!r}; the scene has {sorted(self._models) or 'none'}")

    def _open(self) -> _Renderer:
        if self._renderer is None:
            shown = [self._lens(name).pinhole if not m.is_pinhole else m for name, m in self._models.items()]
            size = (max((m.width for m in shown), default=1), max((m.height for m in shown), default=1))
            if self.quality == "picture":
                size = (max(size[0], _PICTURE_SIZE), max(size[1], _PICTURE_SIZE))
            self._renderer = _Renderer(self.engine.model, size, self.quality == "picture")
        return self._renderer

    def _lens(self, camera: str) -> Lens:
        if camera not in self._lenses:
            self._lenses[camera] = lens_of(self._models[camera])
        return self._lenses[camera]

    def _render(self, env: int, camera: str | Camera, with_depth: bool) -> tuple[np.ndarray, np.ndarray | None]:
        if not 0 <= env < self.engine.num_envs:
            raise ValueError(f"there is no environment {env}; they are numbered 0 to {self.engine.num_envs - 1}")
        if isinstance(camera, Camera):
            if camera.attached_to:
                raise ValueError(f"camera {camera.name!r} is attached to an arm: it has to be in the scene")
            model, name = camera_model(camera), ""
        else:
            self._check(camera)
            model, name = self._models[camera], camera
        lens = None if model.is_pinhole else self._lens(name)
        shown = model if lens is None else lens.pinhole
        opened = self._open()
        opened.fit(shown.width, shown.height)
        opened.load(self.engine, env)
        if name:
            position, matrix = opened.camera_pose(name)
            # A randomized field of view scales the focal length.
            zoom = math.tan(0.5 * self._nominal_fov[name]) / math.tan(0.5 * opened.field_of_view(name))
            shown = dataclasses.replace(shown, fx=zoom * shown.fx, fy=zoom * shown.fy) if zoom != 1.0 else shown
        else:
            position, matrix = np.array(model.position), _matrix(model.orientation)
        color, depth = opened.draw(shown, position, matrix, with_depth)
        if lens is not None:
            color = lens.bend(color)
            depth = None if depth is None else lens.bend(depth, interpolate=False)
        return color, depth


class _Renderer:
    """A GL context with the scene's textures and shapes in it, and one model and data to draw from."""

    def __init__(self, model: mujoco.MjModel, size: tuple[int, int], pretty: bool) -> None:
        self.model = copy.copy(model)
        self.data = mujoco.MjData(self.model)
        self.pretty = pretty
        visual = self.model.vis
        visual.global_.offwidth, visual.global_.offheight = size
        # Vertices cost more than pixels in software: curves as fine as a small image can show.
        visual.quality.numslices, visual.quality.numstacks = (24, 12) if pretty else (16, 8)
        visual.quality.offsamples, visual.quality.shadowsize = (4, 1024) if pretty else (0, 0)
        self.size = size
        self.context = open_context(*size)
        # EGL ends at exit: what lives in it has to go before.
        self._farewell = weakref.WeakMethod(self.close)
        atexit.register(_call, self._farewell)
        try:
            self.context.make_current()
            self.gl = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self.gl)
        except Exception:
            self.context.free()
            raise
        self.gl.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.scene = mujoco.MjvScene(self.model, maxgeom=_MOST_GEOMS)
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = pretty
        self.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.options = mujoco.MjvOption()
        self.view = mujoco.MjvCamera()

    def fit(self, width: int, height: int) -> None:
        """Make room for larger images."""
        if width > self.size[0] or height > self.size[1]:
            self.size = (max(width, self.size[0]), max(height, self.size[1]))
            self.context.make_current()
            mujoco.mjr_resizeOffscreen(*self.size, self.gl)

    def load(self, engine: MujocoEngine, env: int) -> None:
        """Take over the state of an environment and compute where everything is."""
        engine.batch.get_model(env, self.model)
        engine.batch.get_data(env, self.data)
        if self.pretty:
            self.model.light_castshadow[:1] = True
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def camera_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) and axes (3, 3) of the optical frame in the world."""
        index = self.model.camera(name).id
        return self.data.cam_xpos[index].copy(), self.data.cam_xmat[index].reshape(3, 3) @ _FLIP

    def field_of_view(self, name: str) -> float:
        """Vertical, rad."""
        return math.radians(float(self.model.cam_fovy[self.model.camera(name).id]))

    def draw(
        self, model: CameraModel, position: np.ndarray, matrix: np.ndarray, with_depth: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Image and depth of a pinhole camera at a pose."""
        self.context.make_current()
        mujoco.mjv_updateScene(
            self.model, self.data, self.options, None, self.view, mujoco.mjtCatBit.mjCAT_ALL.value, self.scene
        )
        near, far = (float(getattr(self.scene.camera[0], f"frustum_{side}")) for side in ("near", "far"))
        for eye in self.scene.camera:
            eye.pos[:], eye.forward[:], eye.up[:] = position, matrix[:, 2], -matrix[:, 1]
            # Pixel (0, 0) is the middle of a pixel: the image begins half a pixel before it.
            left, right = ((edge - model.cx) / model.fx for edge in (-0.5, model.width - 0.5))
            top, bottom = ((edge - model.cy) / model.fy for edge in (-0.5, model.height - 0.5))
            eye.frustum_center, eye.frustum_width = 0.5 * near * (left + right), 0.5 * near * (right - left)
            eye.frustum_top, eye.frustum_bottom = -near * top, -near * bottom
        place = mujoco.MjrRect(0, 0, model.width, model.height)
        color = np.empty((model.height, model.width, 3), np.uint8)
        depth = np.empty((model.height, model.width), np.float32) if with_depth else None
        mujoco.mjr_render(place, self.scene, self.gl)
        mujoco.mjr_readPixels(color, depth, place, self.gl)
        if depth is not None:
            # The buffer holds 1 at the near plane and 0 at the far one, linear in 1 / depth.
            metres = near * far / (depth[::-1].astype(np.float64) * (far - near) + near)
            # The sky is a ball of nearly the far plane's radius.
            depth = np.where(metres < _SKY * far, metres, np.inf).astype(np.float32)
        return np.ascontiguousarray(color[::-1]), depth

    def close(self) -> None:
        """Free what the context holds, then the context."""
        atexit.unregister(self._farewell)
        if self.context is None:
            return
        self.context.make_current()
        self.gl.free()
        self.context.free()
        self.context = None


def _call(method: weakref.WeakMethod) -> None:
    found = method()
    if found is not None:
        found()


def _matrix(quaternion: Sequence[float]) -> np.ndarray:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.array(quaternion, dtype=float))
    return matrix.reshape(3, 3)
