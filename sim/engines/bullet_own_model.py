"""A user's own MJCF or URDF in PyBullet: MuJoCo reads and compiles it, its bodies become links with `createMultiBody`.

So both engines understand a file alike: inertias, reference angles, default classes, what a compiler setting means.
Every body of the model is one link, in the order of the model. Shapes that only are to be seen are left out; meshes and
ellipsoids collide as their convex hulls, as meshes do in MuJoCo.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mujoco
import numpy as np

from hardware.descriptions.arm import ArmDescription
from policies import rotation
from sim.engines.bullet_arm_model import ArmBuilder
from sim.engines.bullet_parts import pybullet
from sim.engines.mujoco_arm import load_own_model, prepare_own_model
from sim.scene import ArmMount, Scene, Shape

_ENDLESS = 1e3
"""rad, position limits of a joint without any."""
_SHAPES = {
    mujoco.mjtGeom.mjGEOM_BOX: ("box", 3),
    mujoco.mjtGeom.mjGEOM_SPHERE: ("sphere", 1),
    mujoco.mjtGeom.mjGEOM_CYLINDER: ("cylinder", 2),
    mujoco.mjtGeom.mjGEOM_CAPSULE: ("capsule", 2),
}
_HULLS = (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_ELLIPSOID)
_JOINTS = {"": pybullet.JOINT_FIXED, "hinge": pybullet.JOINT_REVOLUTE, "slide": pybullet.JOINT_PRISMATIC}
_FINGERS = ("finger_left", "finger_right")


def read_own_model(mount: ArmMount, description: ArmDescription) -> mujoco.MjModel:
    """Compile the model that stands in for an arm.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or has something that PyBullet cannot simulate.
    """
    model = prepare_own_model(load_own_model(Path(mount.model)), mount, description).compile()
    if obstacle := _obstacle(model, description):
        raise ValueError(f"arm model {mount.model}: {obstacle}; PyBullet cannot simulate that, use the engine 'mujoco'")
    return model


def _obstacle(model: mujoco.MjModel, description: ArmDescription) -> str:
    """What PyBullet cannot simulate; empty where it can all."""
    joints = description.interface.actuators
    driven = (*joints, *(_FINGERS if description.gripper is not None else ()))
    for number in range(model.njnt):
        joint = model.joint(number)
        if joint.name not in driven:
            return f"its joint {joint.name!r} is none of the description's, {', '.join(joints)}"
        kind = "hinge" if joint.name in joints else "slide"
        if _kind(model, number) != kind:
            return f"its joint {joint.name!r} is no {kind}"
        if model.jnt_stiffness[number]:
            return f"its joint {joint.name!r} has a spring"
    for number in range(model.nbody):
        if model.body_jntnum[number] > 1:
            return f"its body {model.body(number).name!r} has {model.body_jntnum[number]} joints"
    bodies = [_body_of(model, joint) for joint in joints]
    for before, body in zip([0, *bodies[:-1]], bodies, strict=True):
        if before not in _ancestors(model, body):
            return f"its joints are no chain in the description's order, {', '.join(joints)}"
    tool = model.body("tool").id
    if bodies[-1] not in _ancestors(model, tool) or any(
        model.body_jntnum[body] for body in _ancestors(model, tool) if body > bodies[-1]
    ):
        return f"its 'tool' is not fixed to the link of {joints[-1]!r}"
    if any(bodies[-1] not in _ancestors(model, _body_of(model, name)) for name in _fingers(model)):
        return f"its fingers are not on the link of {joints[-1]!r}"
    for number in _colliding(model):
        kind = mujoco.mjtGeom(int(model.geom_type[number]))
        if kind not in _SHAPES and kind not in _HULLS:
            return f"its shape {model.geom(number).name or number!r} is a {kind.name[7:].lower()}"
    for what, count in (("tendons", model.ntendon), ("flexible parts", model.nflex), ("mocap bodies", model.nmocap)):
        if count:
            return f"it has {what}"
    return ""


def own_description(model: mujoco.MjModel, description: ArmDescription) -> ArmDescription:
    """The description with the model's kinematics, position limits, damping, friction and armature.

    Masses and inertias, which only a builder needs, stay as they were.
    """
    names = description.interface.actuators
    bodies = [_body_of(model, name) for name in names]
    numbers = [model.joint(name).id for name in names]
    dofs = [int(model.jnt_dofadr[number]) for number in numbers]
    frames = _frames(model)
    positions, orientations = [], []
    for before, body in zip([0, *bodies[:-1]], bodies, strict=True):
        position, orientation = _relative(frames[before], frames[body])
        positions.append(position)
        orientations.append(orientation)
    tool, flange = _relative(frames[bodies[-1]], frames[model.body("tool").id])
    gripper = description.gripper
    if gripper is not None:
        flange = rotation.multiply(flange, rotation.from_yaw(np.array(-gripper.mount_yaw)))
        tool = tool - rotation.rotate(flange, np.array([0.0, 0.0, gripper.tool_offset]))
    ranges = tuple(
        (float(lower), float(upper)) if limited else (-_ENDLESS, _ENDLESS)
        for (lower, upper), limited in zip(model.jnt_range[numbers], model.jnt_limited[numbers], strict=True)
    )
    interface = description.interface
    return dataclasses.replace(
        description,
        interface=dataclasses.replace(interface, limits={**interface.limits, "position": ranges}),
        joint_positions=np.array(positions),
        joint_orientations=np.array(orientations),
        joint_axes=model.jnt_axis[numbers].copy(),
        joint_damping=model.dof_damping[dofs].copy(),
        joint_friction=model.dof_frictionloss[dofs].copy(),
        armature=model.dof_armature[dofs].copy(),
        flange_position=tool,
        flange_orientation=flange,
    )


class OwnArmBuilder(ArmBuilder):
    """Builds an arm from a compiled model."""

    def __init__(
        self,
        client: int,
        scene: Scene,
        number: int,
        every_arm: int,
        description: ArmDescription,
        model: mujoco.MjModel,
    ) -> None:
        super().__init__(client, scene, number, every_arm, description)
        self.model = model
        tool = model.body("tool").id
        origin = _anchor(model, int(model.body_parentid[tool]))
        self.tool = model.body_pos[tool] - origin, model.body_quat[tool].copy()

    def _add_arm(self) -> tuple[list[int], int, list[int]]:
        model = self.model
        for body in range(1, model.nbody):
            anchor, parent = _anchor(model, body), int(model.body_parentid[body])
            position, orientation = _in_parent(model, body)
            turn = rotation.to_matrix(model.body_iquat[body])
            first = int(model.body_jntadr[body])
            self._link(
                mass=model.body_mass[body],
                center=model.body_ipos[body] - anchor,
                inertia=turn @ np.diag(model.body_inertia[body]) @ turn.T,
                shapes=_shapes(model, body),
                position=position - _anchor(model, parent),
                orientation=orientation,
                parent=parent - 1,
                kind=_JOINTS[_kind(model, first)],
                axis=(0.0, 0.0, 1.0) if first < 0 else model.jnt_axis[first],
            )
        self._add_hulls()
        palm = int(model.body_parentid[model.body("tool").id])
        self._add_loads(palm)
        joints = [_body_of(model, name) - 1 for name in self.description.interface.actuators]
        return joints, palm - 1, [_body_of(model, name) - 1 for name in _fingers(model)]

    def _base_shapes(self) -> list[Shape]:
        return _shapes(self.model, 0)

    def _add_hulls(self) -> None:
        """Add a link without mass for every mesh: PyBullet's compounds have no room for vertices."""
        for number in _colliding(self.model):
            if mujoco.mjtGeom(int(self.model.geom_type[number])) not in _HULLS:
                continue
            body = int(self.model.geom_bodyid[number])
            link = self._link(
                mass=0.0,
                center=np.zeros(3),
                inertia=np.zeros((3, 3)),
                shapes=[],
                position=self.model.geom_pos[number] - _anchor(self.model, body),
                orientation=self.model.geom_quat[number],
                parent=body - 1,
                kind=pybullet.JOINT_FIXED,
            )
            self.links.shapes[link] = pybullet.createCollisionShape(
                pybullet.GEOM_MESH, vertices=_hull(self.model, number).tolist(), physicsClientId=self.client
            )

    def _add_loads(self, palm: int) -> None:
        """What hangs on the palm, fingers where the model has them at the beginning."""
        data = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        turn = data.xmat[palm].reshape(3, 3)
        center = turn.T @ (data.subtree_com[palm] - data.xpos[palm]) - _anchor(self.model, palm)
        self.loads.append((float(self.model.body_subtreemass[palm]), center))


# Where things are in a model


def _kind(model: mujoco.MjModel, joint: int) -> str:
    """What a joint is, `hinge` or `slide`; empty where `joint` is negative and there is none."""
    return "" if joint < 0 else str(mujoco.mjtJoint(int(model.jnt_type[joint])).name)[6:].lower()


def _body_of(model: mujoco.MjModel, joint: str) -> int:
    return int(model.jnt_bodyid[model.joint(joint).id])


def _fingers(model: mujoco.MjModel) -> list[str]:
    names = [model.joint(number).name for number in range(model.njnt)]
    return [name for name in _FINGERS if name in names]


def _ancestors(model: mujoco.MjModel, body: int) -> list[int]:
    """The body, its parent, and so on, the world included."""
    found = [body]
    while found[-1]:
        found.append(int(model.body_parentid[found[-1]]))
    return found


def _anchor(model: mujoco.MjModel, body: int) -> np.ndarray:
    """Where (3,) in a body's frame its joint is: there the link's frame begins."""
    first = int(model.body_jntadr[body])
    if _kind(model, first) != "hinge":
        return np.zeros(3)
    anchor: np.ndarray = model.jnt_pos[first].copy()
    return anchor


def _in_parent(model: mujoco.MjModel, body: int) -> tuple[np.ndarray, np.ndarray]:
    """Position and orientation of a link's frame in the frame of the parent's body, with its joint at zero."""
    position, orientation = model.body_pos[body].copy(), model.body_quat[body].copy()
    position = position + rotation.rotate(orientation, _anchor(model, body))
    first = int(model.body_jntadr[body])
    if first < 0:
        return position, orientation
    # The model's pose is that of its reference angle.
    axis, reference = model.jnt_axis[first], float(model.qpos0[model.jnt_qposadr[first]])
    if _kind(model, first) == "slide":
        return position - reference * rotation.rotate(orientation, axis), orientation
    return position, rotation.multiply(orientation, rotation.from_rotation_vector(-reference * axis))


def _frames(model: mujoco.MjModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Position and orientation of every link's frame in the base, all joints at zero."""
    frames = [(np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))]
    for body in range(1, model.nbody):
        parent = int(model.body_parentid[body])
        position, orientation = _in_parent(model, body)
        origin, turn = frames[parent]
        offset = rotation.rotate(turn, position - _anchor(model, parent))
        frames.append((origin + offset, rotation.multiply(turn, orientation)))
    return frames


def _relative(
    frame: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The other frame in the first one."""
    back = rotation.conjugate(frame[1])
    return rotation.rotate(back, other[0] - frame[0]), rotation.multiply(back, other[1])


def _colliding(model: mujoco.MjModel) -> list[int]:
    return [int(number) for number in np.flatnonzero(model.geom_contype | model.geom_conaffinity)]


def _shapes(model: mujoco.MjModel, body: int) -> list[Shape]:
    """The primitive shapes of a body that collide, in its link's frame."""
    shapes = []
    for number in _colliding(model):
        kind = mujoco.mjtGeom(int(model.geom_type[number]))
        if model.geom_bodyid[number] != body or kind not in _SHAPES:
            continue
        name, count = _SHAPES[kind]
        x, y, z = (model.geom_pos[number] - _anchor(model, body)).tolist()
        a, b, c, d = model.geom_quat[number].tolist()
        size = tuple(model.geom_size[number, :count].tolist())
        shapes.append(Shape(kind=name, size=size, position=(x, y, z), orientation=(a, b, c, d)))  # type: ignore[arg-type]
    return shapes


def _hull(model: mujoco.MjModel, geom: int) -> np.ndarray:
    """Vertices (V, 3) m of a shape's convex hull, in its frame."""
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        height = np.linspace(-1.0, 1.0, 64)
        around = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(64)  # a spiral that covers a sphere evenly
        flat = np.sqrt(1.0 - height * height)
        ball = np.stack([flat * np.cos(around), flat * np.sin(around), height], axis=1)
        ellipsoid: np.ndarray = ball * model.geom_size[geom]
        return ellipsoid
    mesh = int(model.geom_dataid[geom])
    first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    vertices: np.ndarray = model.mesh_vert[first : first + count].astype(float)
    graph = int(model.mesh_graphadr[mesh])
    if graph >= 0:
        on_hull = int(model.mesh_graph[graph])
        vertices = vertices[model.mesh_graph[graph + 2 + on_hull : graph + 2 + 2 * on_hull]]
    return vertices
