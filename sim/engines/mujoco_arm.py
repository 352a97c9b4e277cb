"""Arms and grippers in a MuJoCo model, from a description's numbers or from a user's own file."""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import numpy as np

from hardware.descriptions import load_arm
from hardware.descriptions.arm import ArmDescription, Capsule, GripperDescription
from sim.engines.base import TORQUE_HISTORY
from sim.engines.mujoco_look import HIDDEN, PALM, SEAM, SHELL
from sim.engines.mujoco_parts import OBJECT, collide, set_inertia
from sim.scene import ArmMount, Scene

_FINGER_ARMATURE = 0.2
"""kg, inertia of the gripper's drive seen at a finger."""
_SATURATION = 0.003
"""m of width error at which a gripper pushes with all its force."""


def add_arm(spec: mujoco.MjSpec, scene: Scene, mount: ArmMount, group: int, other_arms: int) -> None:
    """Add an arm of collision group `group`, which also touches the groups `other_arms`."""
    description = load_arm(mount.robot)
    half = 0.5 * mount.yaw
    orientation = [math.cos(half), 0.0, 0.0, math.sin(half)]
    if mount.model:
        frame = spec.worldbody.add_frame(pos=list(mount.position), quat=orientation)
        child = prepare_own_model(load_own_model(Path(mount.model)), mount, description)
        for geom in child.geoms:
            # As everywhere, an arm touches objects and other arms, not itself.
            if geom.contype or geom.conaffinity:
                collide(geom, scene, group, OBJECT | other_arms, 1.0)
        spec.attach(child, prefix=f"{mount.name}/", frame=frame)
        for k, name in enumerate(description.interface.actuators):
            _add_motor(spec, f"{mount.name}/{name}", description.interface.limits["torque"][k])
        if mount.gripper and description.gripper is not None:
            _add_drive(spec, scene, mount.name, description.gripper)
        if mount.wrench:
            _add_wrench_sensor(spec, mount.name)
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
        set_inertia(link, description.link_masses[k], description.link_centers[k], description.link_inertias[k])
        joint = link.add_joint(name=f"{mount.name}/{name}", type=mujoco.mjtJoint.mjJNT_HINGE)
        joint.axis = description.joint_axes[k]
        joint.range = description.interface.limits["position"][k]
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.damping = [description.joint_damping[k], 0.0, 0.0]
        joint.frictionloss = description.joint_friction[k]
        joint.armature = description.armature[k]
        _add_motor(spec, f"{mount.name}/{name}", torque[k])
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
        _add_wrench_sensor(spec, mount.name)


def _add_motor(spec: mujoco.MjSpec, joint: str, limits: tuple[float, float]) -> None:
    motor = spec.add_actuator(name=joint, target=joint)
    motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
    motor.set_to_motor()
    motor.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    motor.forcerange = limits
    motor.nsample = TORQUE_HISTORY  # per-environment delays are a model field where a history is kept


def _add_wrench_sensor(spec: mujoco.MjSpec, arm: str) -> None:
    for kind, name in ((mujoco.mjtSensor.mjSENS_FORCE, "force"), (mujoco.mjtSensor.mjSENS_TORQUE, "torque")):
        spec.add_sensor(name=f"{arm}/{name}", type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=f"{arm}/wrist")


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
    set_inertia(hand, gripper.mass, gripper.center_of_mass, gripper.inertia)
    box = hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=gripper.palm_size, pos=gripper.palm_center, mass=0.0)
    box.rgba, box.material = PALM, "plastic"
    collide(box, scene, group, OBJECT | other_arms, gripper.pad_friction)
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
        collide(geom, scene, group, OBJECT | other_arms, gripper.pad_friction)
    _add_drive(spec, scene, mount.name, gripper)


def _add_drive(spec: mujoco.MjSpec, scene: Scene, arm: str, gripper: GripperDescription) -> None:
    """One drive for both fingers, which a constraint couples."""
    couple = spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, name1=f"{arm}/finger_right", name2=f"{arm}/finger_left")
    couple.objtype = mujoco.mjtObj.mjOBJ_JOINT
    couple.data[:5] = [0.0, 1.0, 0.0, 0.0, 0.0]
    couple.solref = [2.0 * scene.timestep, 1.0]
    # One drive moves both fingers: through the coupling each pushes with half of its force.
    drive = spec.add_actuator(name=f"{arm}/gripper", target=f"{arm}/finger_left")
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
    collide(geom, scene, group, OBJECT | other_arms, 1.0)
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


def prepare_own_model(child: mujoco.MjSpec, mount: ArmMount, description: ArmDescription) -> mujoco.MjSpec:
    """Name what the engine looks for and take away what drives the arm otherwise.

    Raises:
        ValueError: The model has no `tool`, or lacks a joint of the description.
    """
    joints = [joint.name for joint in child.joints]
    needed = [*description.interface.actuators]
    if mount.gripper and description.gripper is not None:
        needed += ["finger_left", "finger_right"]
    if missing := [name for name in needed if name not in joints]:
        hint = "; without fingers, say gripper=False" if missing[0].startswith("finger") else ""
        raise ValueError(f"arm model {mount.model} has no joint {missing[0]!r}; it has {', '.join(joints)}{hint}")
    if mount.model.lower().endswith(".urdf"):
        for name, armature in zip(description.interface.actuators, description.armature, strict=True):
            child.joint(name).armature = armature  # URDF has no word for it
    child.compiler.fusestatic = False  # else a URDF loses its tool
    for item in (*child.actuators, *child.sensors, *child.keys, *child.equalities):
        child.delete(item)
    if not mount.gripper:  # nothing would drive the fingers
        for joint in [joint for joint in child.joints if joint.name in ("finger_left", "finger_right")]:
            child.delete(joint)
    for body in child.bodies[1:]:
        body.gravcomp = 1.0
    tool = child.body("tool")
    if tool is None:
        site = child.site("tool")
        if site is None:
            raise ValueError(f"arm model {mount.model} has neither a body nor a site called 'tool'")
        tool = site.parent.add_body(name="tool", pos=site.pos, quat=site.quat)
        child.delete(site)
    palm = tool.parent
    palm.name = "palm"
    palm.add_site(name="wrist", size=[0.005, 0.005, 0.005], group=5)
    return child
