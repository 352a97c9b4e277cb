"""A MuJoCo model of a scene, built from numbers with MjSpec: no mesh files, no XML.

Names in the model: `<arm>/<joint>`, `<arm>/link<k>`, `<arm>/palm`, `<arm>/tool`, `<arm>/finger_left`,
`<arm>/finger_right`; bodies, cameras and actuators by their own names, shapes `<body>/<number>`.
"""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import numpy as np

from hardware.descriptions import load_arm
from hardware.descriptions.arm import ArmDescription, Capsule
from sim.engines.base import TORQUE_HISTORY
from sim.engines.mujoco_look import FLOOR, HIDDEN, PALM, SEAM, SHELL, TABLE, add_look
from sim.scene import ArmMount, Body, Camera, Scene, Shape, mass_properties

KINDS = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
}
OBJECT = 1
"""Collision group of everything that is no arm; the arms have 2, 4, …"""
_TABLE_SIZE = (0.6, 0.8, 0.02)
_TABLE_CENTER = (0.35, 0.0, -0.02)
_FINGER_ARMATURE = 0.2
"""kg, inertia of the gripper's drive seen at a finger."""
_SATURATION = 0.003
"""m of width error at which a gripper pushes with all its force."""


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
        _add_arm(spec, scene, mount, 2 << index, sum(2 << i for i in range(index)))
    previous: dict[str, tuple[Body, mujoco.MjsBody]] = {}
    for body in scene.bodies:
        _add_body(spec, scene, body, previous)
    for camera in scene.cameras:
        _add_camera(spec, camera)
    return spec


def load_own_model(path: Path) -> mujoco.MjSpec:
    """A user's MJCF or URDF as a spec.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: MuJoCo cannot read it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"arm model {str(path)!r} does not exist; give the path of an MJCF or URDF file")
    try:
        return mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise ValueError(f"arm model {path}: {error}") from error


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
        _collide(top, scene, OBJECT, 0xFF, 1.0)


def _collide(geom: mujoco.MjsGeom, scene: Scene, group: int, others: int, friction: float) -> None:
    geom.contype, geom.conaffinity = group, others
    geom.friction = [friction, 0.005, 0.0001]
    geom.solref = [max(scene.contact_time, 2.0 * scene.timestep), 1.0]
    geom.solimp = [0.95, 0.99, 0.001, 0.5, 2.0]


# Arms


def _add_arm(spec: mujoco.MjSpec, scene: Scene, mount: ArmMount, group: int, other_arms: int) -> None:
    description = load_arm(mount.robot)
    half = 0.5 * mount.yaw
    orientation = [math.cos(half), 0.0, 0.0, math.sin(half)]
    if mount.model:
        frame = spec.worldbody.add_frame(pos=list(mount.position), quat=orientation)
        spec.attach(load_own_model(Path(mount.model)), prefix=f"{mount.name}/", frame=frame)
        return
    base = spec.worldbody.add_body(name=f"{mount.name}/link0", pos=list(mount.position), quat=orientation)
    bodies = [base]
    torque = description.interface.limits["torque"]
    for k, name in enumerate(description.interface.actuators):
        link = bodies[-1].add_body(
            name=f"{mount.name}/link{k + 1}",
            pos=description.joint_positions[k],
            quat=description.joint_orientations[k],
            gravcomp=1.0,
        )
        _set_inertia(link, description.link_masses[k], description.link_centers[k], description.link_inertias[k])
        joint = link.add_joint(name=f"{mount.name}/{name}", type=mujoco.mjtJoint.mjJNT_HINGE)
        joint.axis = description.joint_axes[k]
        joint.range = description.interface.limits["position"][k]
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.damping = [description.joint_damping[k], 0.0, 0.0]
        joint.frictionloss = description.joint_friction[k]
        joint.armature = description.armature[k]
        motor = spec.add_actuator(name=f"{mount.name}/{name}", target=f"{mount.name}/{name}")
        motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
        motor.set_to_motor()
        motor.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
        motor.forcerange = torque[k]
        motor.nsample = TORQUE_HISTORY  # per-environment delays are a model field where a history is kept
        bodies.append(link)
    palm = bodies[-1].add_body(
        name=f"{mount.name}/palm",
        pos=description.flange_position,
        quat=description.flange_orientation,
        gravcomp=1.0,
    )
    bodies.append(palm)
    for capsule in description.capsules:
        _add_capsule(bodies[capsule.link], capsule, scene, group, other_arms, mount)
    tool_offset, yaw = 0.0, 0.0
    if description.gripper is not None:
        tool_offset, yaw = description.gripper.tool_offset, description.gripper.mount_yaw
        _add_gripper(spec, scene, mount, description, palm, group, other_arms)
    palm.add_site(name=f"{mount.name}/wrist", pos=[0, 0, 0], size=[0.005, 0.005, 0.005], group=5)
    tool = palm.add_body(
        name=f"{mount.name}/tool", pos=[0.0, 0.0, tool_offset], quat=[math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)]
    )
    # Forces and loads act at its centre of mass, which is its origin: MuJoCo would take its place in the palm.
    tool.explicitinertial = True
    tool.ipos = [0.0, 0.0, 0.0]
    if mount.wrench:
        for kind, name in ((mujoco.mjtSensor.mjSENS_FORCE, "force"), (mujoco.mjtSensor.mjSENS_TORQUE, "torque")):
            spec.add_sensor(
                name=f"{mount.name}/{name}",
                type=kind,
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=f"{mount.name}/wrist",
            )


def _add_gripper(
    spec: mujoco.MjSpec,
    scene: Scene,
    mount: ArmMount,
    description: ArmDescription,
    palm: mujoco.MjsBody,
    group: int,
    other_arms: int,
) -> None:
    gripper = description.gripper
    assert gripper is not None
    turn = [math.cos(gripper.mount_yaw / 2), 0.0, 0.0, math.sin(gripper.mount_yaw / 2)]
    # The palm's inertia is given in the gripper's frame: a body of that frame carries it.
    hand = palm.add_body(name=f"{mount.name}/hand", quat=turn, gravcomp=1.0)
    _set_inertia(hand, gripper.mass, gripper.center_of_mass, gripper.inertia)
    box = hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=gripper.palm_size, pos=gripper.palm_center, mass=0.0)
    box.rgba, box.material = PALM, "plastic"
    _collide(box, scene, group, OBJECT | other_arms, gripper.pad_friction)
    if not mount.gripper:
        return
    half_length = gripper.finger_size[2]
    for name, side in (("finger_left", 1.0), ("finger_right", -1.0)):
        # At joint position 0 the pads touch; the frame's origin is the middle of the closed gap.
        finger = hand.add_body(name=f"{mount.name}/{name}", pos=[0.0, 0.0, gripper.finger_root], gravcomp=1.0)
        joint = finger.add_joint(name=f"{mount.name}/{name}", type=mujoco.mjtJoint.mjJNT_SLIDE)
        joint.axis = [0.0, side, 0.0]
        joint.range = [0.0, 0.5 * gripper.max_width]
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.armature = _FINGER_ARMATURE
        geom = finger.add_geom(
            name=f"{mount.name}/{name}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=gripper.finger_size,
            pos=[0.0, side * gripper.finger_size[1], half_length],
            mass=gripper.finger_mass,
        )
        geom.rgba, geom.material = SEAM, "matt"
        _collide(geom, scene, group, OBJECT | other_arms, gripper.pad_friction)
    couple = spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT, name1=f"{mount.name}/finger_right", name2=f"{mount.name}/finger_left"
    )
    couple.objtype = mujoco.mjtObj.mjOBJ_JOINT
    couple.data[:5] = [0.0, 1.0, 0.0, 0.0, 0.0]
    couple.solref = [2.0 * scene.timestep, 1.0]
    # One drive moves both fingers: through the coupling each pushes with half of its force.
    drive = spec.add_actuator(name=f"{mount.name}/gripper", target=f"{mount.name}/finger_left")
    drive.trntype = mujoco.mjtTrn.mjTRN_JOINT
    stiffness = 2.0 * gripper.max_force / (0.5 * _SATURATION)
    moving = 2.0 * (gripper.finger_mass + _FINGER_ARMATURE)
    drive.set_to_position(kp=stiffness, kv=2.0 * math.sqrt(stiffness * moving))
    drive.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    drive.forcerange = [-2.0 * gripper.max_force, 2.0 * gripper.max_force]


def _add_capsule(
    body: mujoco.MjsBody, capsule: Capsule, scene: Scene, group: int, other_arms: int, mount: ArmMount
) -> None:
    ball = bool(np.allclose(capsule.start, capsule.end))
    geom = body.add_geom(mass=0.0, type=mujoco.mjtGeom.mjGEOM_SPHERE if ball else mujoco.mjtGeom.mjGEOM_CAPSULE)
    if ball:
        geom.pos, geom.size = capsule.start, [capsule.radius, 0.0, 0.0]
    else:
        geom.fromto = [*capsule.start, *capsule.end]
        geom.size = [capsule.radius, 0.0, 0.0]
    # Capsules of neighbouring links often touch or coincide: one colour, or the two would flicker.
    geom.rgba, geom.material = SHELL, "plastic"
    # The base does not collide with the table: MuJoCo leaves pairs out that can't move.
    _collide(geom, scene, group, OBJECT | other_arms, 1.0)
    if capsule.link == 0:
        return
    if body.name.endswith("/palm"):
        geom.group = HIDDEN  # the palm's box is shown in its place
    else:
        _add_seams(body, capsule)


def _add_seams(body: mujoco.MjsBody, capsule: Capsule) -> None:
    """Dark rings where a housing around the joint's axis, the link's z axis, ends: only to look at."""
    if np.abs([capsule.start[:2], capsule.end[:2]]).max() > 1e-6:
        return
    for height in (capsule.start[2], capsule.end[2]):
        ring = body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, mass=0.0, pos=[0.0, 0.0, height])
        ring.size = [capsule.radius + 0.0008, 0.0035, 0.0]
        ring.rgba, ring.material = SEAM, "matt"
        ring.contype, ring.conaffinity = 0, 0


def _set_inertia(body: mujoco.MjsBody, mass: float, center: np.ndarray, inertia: np.ndarray) -> None:
    body.explicitinertial = True
    body.mass, body.ipos = mass, center
    i = inertia
    # Where the body's axes are those of its inertia, MuJoCo saves work, and would not notice a centre of mass that
    # randomization shifts: a billionth keeps it from doing so.
    xy = i[0, 1] if i[0, 1] != 0.0 else 1e-9 * np.trace(i)
    body.fullinertia = [i[0, 0], i[1, 1], i[2, 2], xy, i[0, 2], i[1, 2]]


# Objects and cameras


def _add_body(spec: mujoco.MjSpec, scene: Scene, body: Body, previous: dict[str, tuple[Body, mujoco.MjsBody]]) -> None:
    parent = spec.body(f"{body.attached_to}/tool") if body.attached_to else spec.worldbody
    if body.cable and body.cable in previous:
        before, before_body = previous[body.cable]
        added = before_body.add_body(name=body.name, pos=[0.0, 0.0, _reach(before) + _reach(body)])
        joint = added.add_joint(name=body.name, type=mujoco.mjtJoint.mjJNT_BALL, pos=[0.0, 0.0, -_reach(body)])
        joint.stiffness = [body.cable_stiffness, 0.0, 0.0]
        joint.damping = [body.cable_damping, 0.0, 0.0]
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
        _set_inertia(added, body.mass, center, inertia)
    free = body.motion == "free" and not body.attached_to
    for index, shape in enumerate(body.variants[0]):
        geom = _add_shape(added, f"{body.name}/{index}", shape)
        _collide(geom, scene, OBJECT, 0xFF, body.friction)
        geom.priority = 1 if free else 0  # the friction of a contact is that of the free body in it
        if not any(shapes[index].collides for shapes in body.variants):
            geom.contype, geom.conaffinity = 0, 0


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
