"""A MuJoCo model of a scene, built from numbers with MjSpec: no mesh files, no XML.

Names in the model: `<arm>/<joint>`, `<arm>/link<k>`, `<arm>/palm`, `<arm>/tool`, `<arm>/finger_left`,
`<arm>/finger_right`; bodies, cameras and actuators by their own names, shapes `<body>/<number>`.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from sim.engines.mujoco_arm import add_arm
from sim.engines.mujoco_look import FLOOR, TABLE, add_look
from sim.engines.mujoco_parts import KINDS, OBJECT, collide, set_inertia
from sim.scene import Body, Camera, Scene, Shape, mass_properties

_TABLE_SIZE = (0.6, 0.8, 0.02)
_TABLE_CENTER = (0.35, 0.0, -0.02)


def build_model(scene: Scene) -> mujoco.MjModel:
    """The compiled model of a scene."""
    model = build_spec(scene).compile()
    # MuJoCo must know of every shape that can collide; those that only a cousin has do not yet.
    for body in scene.bodies:
        for index, shape in enumerate(body.variants[0]):
            if not shape.collides:
                geom = model.geom(f"{body.name}/{index}")
                geom.contype[:], geom.conaffinity[:] = 0, 0
    return model


def build_spec(scene: Scene) -> mujoco.MjSpec:
    """The model of a scene, to be changed before it is compiled."""
    spec = mujoco.MjSpec()
    spec.modelname = "scene"
    spec.option.timestep = scene.timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.compiler.degree = False
    add_look(spec)
    spec.visual.global_.offwidth = max([640, *(camera.width for camera in scene.cameras)])
    spec.visual.global_.offheight = max([480, *(camera.height for camera in scene.cameras)])
    _add_surroundings(spec, scene)
    for index, mount in enumerate(scene.arms):
        add_arm(spec, scene, mount, 2 << index, sum(2 << i for i in range(index)))
    previous: dict[str, tuple[Body, mujoco.MjsBody]] = {}
    for body in scene.bodies:
        _add_body(spec, scene, body, previous)
    for body in scene.bodies:
        if body.tied_to:
            _tie(spec, scene, body)
    for camera in scene.cameras:
        _add_camera(spec, camera)
    return spec


def _add_surroundings(spec: mujoco.MjSpec, scene: Scene) -> None:
    world = spec.worldbody
    floor = world.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[6.0, 6.0, 6.0], pos=[0, 0, -0.75])
    floor.rgba, floor.material = FLOOR, "matt"
    floor.contype, floor.conaffinity = OBJECT, 0xFF
    if scene.table:
        top = world.add_geom(
            name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=list(_TABLE_SIZE), pos=list(_TABLE_CENTER)
        )
        top.rgba, top.material = TABLE, "wood"
        collide(top, scene, OBJECT, 0xFF, 1.0)


# Objects and cameras


def _add_body(spec: mujoco.MjSpec, scene: Scene, body: Body, previous: dict[str, tuple[Body, mujoco.MjsBody]]) -> None:
    parent = spec.body(f"{body.attached_to}/tool") if body.attached_to else spec.worldbody
    if body.cable and body.cable in previous:
        before, before_body = previous[body.cable]
        added = before_body.add_body(name=body.name, pos=[0.0, 0.0, _reach(before) + _reach(body)])
        joint = added.add_joint(name=body.name, type=mujoco.mjtJoint.mjJNT_BALL, pos=[0.0, 0.0, -_reach(body)])
        joint.stiffness = [body.cable_stiffness, 0.0, 0.0]
        joint.damping = [body.cable_damping, 0.0, 0.0]
        if before.motion != "free" and not before.attached_to:
            # MuJoCo lets a body touch its parent where that stands, and joined segments overlap.
            spec.add_exclude(bodyname1=before.name, bodyname2=body.name)
    else:
        added = parent.add_body(name=body.name, pos=list(body.position), quat=list(body.orientation))
        if body.attached_to:
            added.gravcomp = 1.0
        elif body.motion == "free":
            added.add_freejoint(name=body.name)
        elif body.motion == "placed":
            added.mocap = True
    if body.cable:
        previous[body.cable] = (body, added)
    if body.attached_to or body.motion == "free" or body.cable:
        center, inertia = mass_properties(body)
        set_inertia(added, body.mass, center, inertia)
    free = body.motion == "free" and not body.attached_to
    for index, shape in enumerate(body.variants[0]):
        geom = _add_shape(added, f"{body.name}/{index}", shape)
        collide(geom, scene, OBJECT, 0xFF, body.friction)
        geom.priority = 1 if free else 0  # the friction of a contact is that of the free body in it
        if not any(shapes[index].collides for shapes in body.variants):
            geom.contype, geom.conaffinity = 0, 0


def _tie(spec: mujoco.MjSpec, scene: Scene, body: Body) -> None:
    """Keep the far end of a cable's segment where it is tied, free to turn."""
    spec.body(body.name).add_site(name=f"{body.name}/end", pos=[0.0, 0.0, _reach(body)], group=5)
    spec.body(body.tied_to).add_site(name=f"{body.name}/tie", pos=list(body.tie_point), group=5)
    knot = spec.add_equality(type=mujoco.mjtEq.mjEQ_CONNECT, name1=f"{body.name}/end", name2=f"{body.name}/tie")
    knot.objtype = mujoco.mjtObj.mjOBJ_SITE
    knot.solref = [max(scene.contact_time, 2.0 * scene.timestep), 1.0]


def _reach(body: Body) -> float:
    """Half length of a cable's segment along its z axis."""
    shape = body.shapes[0]
    return shape.size[2] if shape.kind == "box" else shape.size[-1]


def _add_shape(body: mujoco.MjsBody, name: str, shape: Shape) -> mujoco.MjsGeom:
    size = [*shape.size, *[0.0] * (3 - len(shape.size))]
    return body.add_geom(
        name=name,
        type=KINDS[shape.kind],
        size=size,
        pos=list(shape.position),
        quat=list(shape.orientation),
        rgba=list(shape.color),
        mass=0.0,
    )


def _add_camera(spec: mujoco.MjSpec, camera: Camera) -> None:
    parent = spec.body(f"{camera.attached_to}/tool") if camera.attached_to else spec.worldbody
    forward = np.subtract(camera.target, camera.position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, camera.up)
    right = right / np.linalg.norm(right)
    up = np.cross(right, forward)
    quaternion = np.zeros(4)
    # MuJoCo's cameras look along -z, with x to the right.
    mujoco.mju_mat2Quat(quaternion, np.stack([right, up, -forward], axis=1).flatten())
    parent.add_camera(
        name=camera.name, pos=list(camera.position), quat=quaternion, fovy=math.degrees(camera.field_of_view)
    )
