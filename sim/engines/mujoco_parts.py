"""What arms and objects in a MuJoCo model have in common: shapes, collision groups, contacts, inertia."""

from __future__ import annotations

import mujoco
import numpy as np

from sim.scene import Scene

KINDS = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
}
OBJECT = 1
"""Collision group of everything that is no arm; the arms have 2, 4, …"""


def collide(geom: mujoco.MjsGeom, scene: Scene, group: int, others: int, friction: float) -> None:
    """Let a shape of a collision `group` touch the `others`, with the scene's contacts."""
    geom.contype, geom.conaffinity = group, others
    geom.friction = [friction, 0.005, 0.0001]
    geom.solref = [max(scene.contact_time, 2.0 * scene.timestep), 1.0]
    geom.solimp = [0.95, 0.99, 0.001, 0.5, 2.0]


def set_inertia(body: mujoco.MjsBody, mass: float, center: np.ndarray, inertia: np.ndarray) -> None:
    """Mass kg, centre (3,) m and inertia (3, 3) kg m² about it, in the body's frame."""
    body.explicitinertial = True
    body.mass, body.ipos = mass, center
    i = inertia
    # Where the body's axes are those of its inertia, MuJoCo saves work, and would not notice a centre of mass that
    # randomization shifts: a billionth keeps it from doing so.
    xy = i[0, 1] if i[0, 1] != 0.0 else 1e-9 * np.trace(i)
    body.fullinertia = [i[0, 0], i[1, 1], i[2, 2], xy, i[0, 2], i[1, 2]]
