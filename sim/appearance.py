"""Random looks of a MuJoCo scene: colours, textures, lights, camera poses, one draw per environment and episode.

Every draw starts from the model as it was built, so that nothing compounds; a zero does nothing at all. Physics is
not touched.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from policies import rotation
from sim.engines.mujoco import MujocoEngine
from sim.engines.mujoco_look import TEXTURES
from sim.scene import Scene

_LIMITS = {"color": 1.0, "arm_color": 1.0, "texture": 1.0, "light_direction": math.pi / 2, "field_of_view": 0.5}


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """How far looks stray from those of the model, each way."""

    color: float = 0.0
    """Of red, green and blue of table, floor and bodies; 1 reaches any colour from any other."""
    arm_color: float = 0.0
    """Likewise of arms and grippers."""
    texture: float = 0.0
    """Probability that table, floor or a shape wears one of the procedural textures."""
    light_position: float = 0.0
    """m, along each axis."""
    light_direction: float = 0.0
    """rad, about each axis."""
    light_brightness: float = 0.0
    """Factor of brightness less 1: 0.5 is half to one and a half of it."""
    light_color: float = 0.0
    """Likewise, of red, green and blue of a lamp by themselves."""
    camera_position: float = 0.0
    """m, along each axis of the camera's parent frame."""
    camera_rotation: float = 0.0
    """rad, about each axis of the camera."""
    field_of_view: float = 0.0
    """Factor less 1."""

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value, most = getattr(self, entry.name), _LIMITS.get(entry.name, math.inf)
            if not (0.0 <= value <= most and math.isfinite(value)):
                raise ValueError(f"appearance: {entry.name} is {value}; expected 0 to {most:g}")


LABORATORY = Appearance(
    color=0.15,
    arm_color=0.05,
    texture=0.3,
    light_position=0.3,
    light_direction=0.2,
    light_brightness=0.4,
    light_color=0.1,
    camera_position=0.01,
    camera_rotation=0.02,
    field_of_view=0.03,
)
"""What differs from one day and one laboratory to the next."""


def apply_appearance(engine: MujocoEngine, ids: np.ndarray, ranges: Appearance, generator: np.random.Generator) -> None:
    """Draw new looks for the environments `ids` (K,) int.

    Model fields that a range does not need stay shared by all environments.
    """
    model, count = engine.model, len(ids)
    # Each group of draws has a generator of its own: one range does not change the draws of the others.
    paint, wear, lamps, views = (np.random.default_rng(seed) for seed in generator.integers(2**62, size=4))
    is_arm = np.array([_is_arm(engine.scene, model.body(int(b)).name) for b in model.geom_bodyid])
    reach = np.where(is_arm, ranges.arm_color, ranges.color)
    painted = np.flatnonzero(reach)
    if len(painted):
        # The opacity stays: what a body has instead of some other shape may be invisible.
        shift = _spread(paint, (count, model.ngeom, 3)) * reach[:, None]
        color = np.clip(model.geom_rgba[:, :3] + shift, 0.0, 1.0)
        engine.batch.expand("geom_rgba")[np.ix_(ids, painted, np.arange(3))] = color[:, painted]
    if ranges.texture:
        materials = np.array([model.material(name).id for name in TEXTURES])
        chosen = materials[wear.integers(len(materials), size=(count, model.ngeom))]
        worn = (wear.random((count, model.ngeom)) < ranges.texture) & ~is_arm
        engine.batch.expand("geom_matid")[ids] = np.where(worn, chosen, model.geom_matid)
    shape = (count, model.nlight, 3)
    shift, turn, bright, tint = (_spread(lamps, s) for s in (shape, shape, (*shape[:2], 1), shape))
    if ranges.light_position:
        engine.batch.expand("light_pos")[ids] = model.light_pos + ranges.light_position * shift
    if ranges.light_direction:
        turned = rotation.rotate(rotation.from_rotation_vector(ranges.light_direction * turn), model.light_dir)
        engine.batch.expand("light_dir")[ids] = turned
    if ranges.light_brightness or ranges.light_color:
        factor = (1.0 + ranges.light_brightness * bright) * (1.0 + ranges.light_color * tint)
        engine.batch.expand("light_diffuse")[ids] = (model.light_diffuse * factor).clip(0.0, 1.0)
    shape = (count, model.ncam, 3)
    shift, turn, zoom = (_spread(views, s) for s in (shape, shape, shape[:2]))
    if ranges.camera_position:
        engine.batch.expand("cam_pos")[ids] = model.cam_pos + ranges.camera_position * shift
    if ranges.camera_rotation:
        small = rotation.from_rotation_vector(ranges.camera_rotation * turn)
        nominal = np.broadcast_to(model.cam_quat, (count, model.ncam, 4))
        engine.batch.expand("cam_quat")[ids] = rotation.multiply(nominal, small)
    if ranges.field_of_view:
        engine.batch.expand("cam_fovy")[ids] = model.cam_fovy * (1.0 + ranges.field_of_view * zoom)


def _spread(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.uniform(-1.0, 1.0, shape)


def _is_arm(scene: Scene, body: str) -> bool:
    return any(body.startswith(f"{mount.name}/") for mount in scene.arms)
