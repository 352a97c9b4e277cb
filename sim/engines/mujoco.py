"""Scenes in MuJoCo on the CPU: `mujoco.batch` steps all environments in one call.

The batch keeps one row of state per environment; what is read beside the state (poses, Jacobians) is copied out
after every call and describes the beginning of its last time step, as on a robot whose measurements are one tick
old. A call of one time step costs hardly more than its share of a long one, so that controllers run at the
physics rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from hardware.descriptions import load_arm
from hardware.kinematics import ArmKinematics
from sim.engines.base import Placement
from sim.engines.mujoco_model import build_model
from sim.engines.mujoco_variables import MujocoVariables
from sim.scene import ArmMount, Scene

_BREAKDOWN = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)
"""Warnings after which a simulation is worth nothing: a position, velocity, acceleration or control is no number."""


class MujocoEngine:
    """N copies of a scene."""

    def __init__(self, scene: Scene, num_envs: int, *, threads: int = 1) -> None:
        """Build the model and the batch.

        Args:
            scene: What to build.
            num_envs: N.
            threads: Of the physics; 0 takes every core.
        """
        self.scene, self.num_envs = scene, num_envs
        self.model = build_model(scene)
        self.batch = Batch(self.model, num_envs, nthread=threads)
        self.failed = np.zeros(num_envs, dtype=bool)
        self._any_failed = False
        bind = self.batch.bind
        self._qpos, self._qvel, self._ctrl = bind("qpos"), bind("qvel"), bind("ctrl")
        self._xpos, self._xquat = bind("xpos"), bind("xquat")
        if num_envs > 1:
            self._xanchor, self._xaxis = bind("xanchor"), bind("xaxis")
        self._sensors = bind("sensordata") if self.model.nsensor else np.zeros((num_envs, 0))
        self._mocap_pos, self._mocap_quat = bind("mocap_pos"), bind("mocap_quat")
        self._arms = {mount.name: _Arm(self.model, mount) for mount in scene.arms}
        self._joints = {n: (self._qpos[:, a.positions], self._qvel[:, a.velocities]) for n, a in self._arms.items()}
        self._motors = {name: self._ctrl[:, arm.motors] for name, arm in self._arms.items()}
        self._single: dict[str, _SingleJacobian] = {}
        self._kinematics = {name: self._place_kinematics(arm) for name, arm in self._arms.items()}
        self._drives = {n: self._ctrl[:, a.drive] for n, a in self._arms.items() if a.fingers is not None}
        self._ones = np.ones(self._ctrl.shape[1])
        self._variables = MujocoVariables(self.model, self.batch, scene)
        self._forces = bind("xfrc_applied")
        # Force sensors are computed with the accelerations.
        self._refreshed = int(mujoco.mjtStage.mjSTAGE_ACC if self.model.nsensor else mujoco.mjtStage.mjSTAGE_POS)
        self._warnings = self.batch.warning
        self._breakdowns = self._warnings[:, _BREAKDOWN, 1]
        self._initial = np.array(self.batch.state)
        self._body_ids = {self.model.body(i).name: i for i in range(self.model.nbody)}
        self._body_dofs = {name: int(self.model.body_dofadr[i]) for name, i in self._body_ids.items()}
        self.batch.forward()

    # Episodes

    def place(self, ids: np.ndarray, placement: Placement) -> None:
        """Begin anew in the environments `ids` (K,) int, at rest."""
        self.batch.state[ids] = self._initial[ids]
        for name, arm in self._arms.items():
            self._qpos[ids, arm.positions] = placement.joints[name]
            if arm.fingers is not None:
                width = placement.widths.get(name, np.full(len(ids), arm.max_width))
                self._qpos[ids, arm.fingers] = 0.5 * width[:, None]
                self._ctrl[ids, arm.drive] = 0.5 * width
        for name, pose in placement.poses.items():
            body = self.model.body(name)
            if body.mocapid[0] >= 0:
                self._mocap_pos[ids, body.mocapid[0]] = pose[:, :3]
                self._mocap_quat[ids, body.mocapid[0]] = pose[:, 3:]
            elif body.jntnum[0] == 1 and self.model.jnt_type[body.jntadr[0]] == mujoco.mjtJoint.mjJNT_FREE:
                first = self.model.jnt_qposadr[body.jntadr[0]]
                self._qpos[ids, first : first + 7] = pose
            else:
                raise ValueError(f"body {name!r} can't be placed: its motion is {self.scene.body(name).motion!r}")
        self.failed[ids] = False
        self._any_failed = bool(self.failed.any())
        self._warnings[ids] = 0
        self.batch.forward(ids=ids)

    def substep(self, torques: Mapping[str, np.ndarray], widths: Mapping[str, np.ndarray]) -> None:
        """Advance by one time step; environments whose physics breaks down stop and are marked in `failed`."""
        for name, motors in self._motors.items():
            motors[...] = torques[name]
        for name, drive in self._drives.items():
            np.multiply(widths[name], 0.5, out=drive)
        going = None
        # The quickest sum of all is another for one environment than for many.
        total = self._ctrl[0].dot(self._ones) if self.num_envs == 1 else self._ctrl.sum()
        if not math.isfinite(total):
            self.failed |= ~np.isfinite(self._ctrl).all(axis=1)
            self._any_failed = bool(self.failed.any())
        if self._any_failed:
            # MuJoCo itself takes a control that is no number for 0 and goes on.
            self._ctrl[self.failed] = 0.0
            going = np.flatnonzero(~self.failed)
        try:
            self.batch.step(ids=going, nstep=1)
        except SimulationError as error:
            self.failed[list(error.ids)] = True
            self._any_failed = True

    def vary(self, names: Sequence[str]) -> dict[str, str]:
        """Prepare for `set_variables` of these; all are nominal. Returns what cannot vary, with a reason."""
        return self._variables.vary(names)

    def set_variables(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write variables (K, size) by name into the model of environments `ids` (K,)."""
        self._variables.set(ids, values)

    def push(self, body: str, force: np.ndarray) -> None:
        """Put world forces (N, 3) N on a body's centre of mass, or an arm's tool, until the next push or placing."""
        self._forces[:, self._body_ids[body], :3] = force

    def refresh(self) -> None:
        """Bring poses and kinematics up to date with the newest positions."""
        self.batch.forward(stage=self._refreshed)
        # MuJoCo puts a simulation with a state that is no number to its beginning, counts a warning, and goes on.
        if self._breakdowns.any():
            self.failed |= self._breakdowns.any(axis=1)
        self._any_failed = bool(self.failed.any())

    # Measurements

    def joints(self, arm: str) -> tuple[np.ndarray, np.ndarray]:
        """Angles and velocities (N, n); views."""
        return self._joints[arm]

    def kinematics(self, arm: str) -> ArmKinematics:
        """Tool pose and Jacobian in the world, of the beginning of the last time step; overwritten by the next call."""
        kinematics = self._kinematics[arm]
        if self.num_envs == 1:
            self._single[arm].update()
            return kinematics
        found, jacobian, tool = self._arms[arm], kinematics.jacobian, kinematics.tool_position
        axes, anchors = self._xaxis[:, found.joints], self._xanchor[:, found.joints]
        ax, ay, az = axes[..., 0], axes[..., 1], axes[..., 2]
        arm_x = tool[:, 0:1] - anchors[..., 0]
        arm_y = tool[:, 1:2] - anchors[..., 1]
        arm_z = tool[:, 2:3] - anchors[..., 2]
        jacobian[:, 0] = ay * arm_z - az * arm_y
        jacobian[:, 1] = az * arm_x - ax * arm_z
        jacobian[:, 2] = ax * arm_y - ay * arm_x
        jacobian[:, 3], jacobian[:, 4], jacobian[:, 5] = ax, ay, az
        return kinematics

    def _place_kinematics(self, arm: _Arm) -> ArmKinematics:
        """What `kinematics` returns: views of the engine's arrays, and room for the Jacobian."""
        if self.num_envs == 1:
            root = self.model.body_rootid[arm.tool]
            motion, center = self.batch.bind("cdof")[0, arm.velocities], self.batch.bind("subtree_com")[0, root]
            self._single[arm.name] = _SingleJacobian(self._xpos[0, arm.tool], motion, center)
            jacobian = self._single[arm.name].transposed.T[None]
        else:
            jacobian = np.empty((self.num_envs, 6, arm.joints.stop - arm.joints.start))
        return ArmKinematics(self._xpos[:, arm.tool], self._xquat[:, arm.tool], jacobian)

    def width(self, arm: str) -> np.ndarray:
        """Distance (N,) m between the fingers; 0 without fingers."""
        fingers = self._arms[arm].fingers
        if fingers is None:
            return np.zeros(self.num_envs)
        return self._qpos[:, fingers].sum(axis=1)

    def wrench(self, arm: str) -> np.ndarray:
        """Force and torque (N, 6) of the world on the tool, tool frame, its weight taken off; zero without sensor."""
        found = self._arms[arm]
        if found.wrench is None:
            return np.zeros((self.num_envs, 6))
        if self.num_envs == 1:
            return np.array([self._wrench_of_one(found)])
        # The sensor gives what the palm does to the flange; the world's part is its negative, plus the weight.
        turn = _matrices(self._xquat[:, found.palm])
        weight = turn.transpose(0, 2, 1) @ (found.payload * self.model.opt.gravity)
        force = -self._sensors[:, found.wrench[0] : found.wrench[0] + 3] - weight
        torque = -self._sensors[:, found.wrench[1] : found.wrench[1] + 3] - np.cross(found.payload_center, weight)
        offset = found.tool_in_palm
        torque = torque - np.cross(offset, force)
        yaw = found.tool_turn
        return np.concatenate([force @ yaw, torque @ yaw], axis=1)

    def _wrench_of_one(self, found: _Arm) -> list[float]:
        """`wrench` in numbers."""
        assert found.wrench is not None
        first, second = found.wrench
        w, x, y, z = self._xquat[0, found.palm].tolist()
        wx, wy, wz = _turned(w, -x, -y, -z, *(found.payload * self.model.opt.gravity).tolist())
        sensors = self._sensors[0].tolist()
        fx, fy, fz = -sensors[first] - wx, -sensors[first + 1] - wy, -sensors[first + 2] - wz
        cx, cy, cz = found.payload_center.tolist()
        ox, oy, oz = found.tool_in_palm.tolist()
        tx = -sensors[second] - (cy * wz - cz * wy) - (oy * fz - oz * fy)
        ty = -sensors[second + 1] - (cz * wx - cx * wz) - (oz * fx - ox * fz)
        tz = -sensors[second + 2] - (cx * wy - cy * wx) - (ox * fy - oy * fx)
        (a, b, c), (d, e, f), (g, h, i) = found.tool_turn.tolist()
        return [
            *(fx * a + fy * d + fz * g, fx * b + fy * e + fz * h, fx * c + fy * f + fz * i),
            *(tx * a + ty * d + tz * g, tx * b + ty * e + tz * h, tx * c + ty * f + tz * i),
        ]

    def pose(self, body: str) -> np.ndarray:
        """World pose (N, 7); of an arm's tool as `<arm>/tool`."""
        index = self._body_ids[body]
        return np.concatenate([self._xpos[:, index], self._xquat[:, index]], axis=1)

    def twist(self, body: str) -> np.ndarray:
        """World twist (N, 6) of a free body's origin."""
        first = self._body_dofs[body]
        linear, angular = self._qvel[:, first : first + 3], self._qvel[:, first + 3 : first + 6]
        # A free joint's angular velocity is in the body's frame.
        quaternion = self._xquat[:, self._body_ids[body]]
        if self.num_envs == 1:
            turned = np.array([_turned(*quaternion[0].tolist(), *angular[0].tolist())])
        else:
            turned = np.stack(_turned(*quaternion.T, *angular.T), axis=1)
        return np.concatenate([linear, turned], axis=1)

    # Storage

    def state(self) -> dict[str, np.ndarray]:
        """Everything that is needed to go on later, bit by bit."""
        return {"state": np.array(self.batch.state), "failed": self.failed.copy()}

    def load_state(self, stored: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.batch.state[:] = stored["state"]
        self.failed = np.array(stored["failed"], dtype=bool)
        self.refresh()
        self.batch.state[:] = stored["state"]  # a solver's warm start was renewed on the way

    def close(self) -> None:
        """Nothing is held outside of memory."""


class _Arm:
    """Where an arm's numbers lie in the model's arrays."""

    def __init__(self, model: mujoco.MjModel, mount: ArmMount) -> None:
        self.name, description = mount.name, load_arm(mount.robot)
        names = [f"{mount.name}/{joint}" for joint in description.interface.actuators]
        ids = [model.joint(name).id for name in names]
        # Slices give views, index lists copies: the joints of a chain follow each other.
        self.joints = _run(ids)
        self.positions = _run([int(model.jnt_qposadr[i]) for i in ids])
        self.velocities = _run([int(model.jnt_dofadr[i]) for i in ids])
        self.motors = _run([model.actuator(name).id for name in names])
        self.tool = model.body(f"{mount.name}/tool").id
        self.palm = model.body(f"{mount.name}/palm").id
        self.fingers: slice | None = None
        self.drive, self.max_width = 0, 0.0
        if mount.gripper and description.gripper is not None:
            fingers = [model.joint(f"{mount.name}/finger_{side}") for side in ("left", "right")]
            self.fingers = _run([int(finger.qposadr[0]) for finger in fingers])
            self.drive, self.max_width = model.actuator(f"{mount.name}/gripper").id, description.gripper.max_width
        self.wrench: tuple[int, int] | None = None
        if mount.wrench:
            self.wrench = tuple(int(model.sensor(f"{mount.name}/{name}").adr[0]) for name in ("force", "torque"))  # type: ignore[assignment]
        self.payload, self.payload_center = _payload(model, self.palm)
        self.tool_in_palm = model.body_pos[self.tool].copy()
        self.tool_turn = _matrices(model.body_quat[self.tool][None])[0]


class _SingleJacobian:
    """The tool's Jacobian in one environment: numpy's calls cost more than what they do, and this takes one.

    MuJoCo has the joints' axes, and how they move the point of the arm that is at its root's centre of mass; a matrix
    takes both to the tool.
    """

    def __init__(self, tool: np.ndarray, motion: np.ndarray, center: np.ndarray) -> None:
        """Keep views of the engine's arrays.

        Args:
            tool: Position (3,).
            motion: `cdof` (n, 6) of the joints: angular, then linear.
            center: Point (3,) that the linear part is about.
        """
        self._tool, self._motion, self._center = tool, motion, center
        self._shift = np.zeros((6, 6))
        self._shift[3:, :3] = self._shift[:3, 3:] = np.eye(3)
        self.transposed = np.zeros((len(motion), 6))
        """Jacobian (n, 6), transposed."""

    def update(self) -> None:
        """Bring it up to date."""
        (x, y, z), (cx, cy, cz), shift = self._tool.tolist(), self._center.tolist(), self._shift
        x, y, z = x - cx, y - cy, z - cz
        # axis × (tool - centre), as a product with the axis from the left.
        shift[1, 0], shift[2, 0] = z, -y
        shift[0, 1], shift[2, 1] = -z, x
        shift[0, 2], shift[1, 2] = y, -x
        self._motion.dot(shift, self.transposed)


def _payload(model: mujoco.MjModel, palm: int) -> tuple[float, np.ndarray]:
    """Mass kg of all that hangs on the palm, and its centre (3,) m in the palm's frame, fingers as in the model."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mass = float(model.body_subtreemass[palm])
    turn = data.xmat[palm].reshape(3, 3)
    return mass, turn.T @ (data.subtree_com[palm] - data.xpos[palm])


def _run(ids: list[int]) -> slice:
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(f"the joints of an arm must follow each other in the model; their indices are {ids}")
    return slice(ids[0], ids[0] + len(ids))


def _turned(w: Any, x: Any, y: Any, z: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any, Any]:
    """Components of the vectors (a, b, c) turned by unit quaternions, all numbers or all arrays."""
    u, v, s = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return a + w * u + y * s - z * v, b + w * v + z * u - x * s, c + w * s + x * v - y * u


def _matrices(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3) of quaternions (N, 4)."""
    w, x, y, z = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
