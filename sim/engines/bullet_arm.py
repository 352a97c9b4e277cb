"""An arm in all clients of the PyBullet engine: what is read of it, and the torques that Bullet does not know of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardware.descriptions.arm import ArmDescription
from hardware.kinematics import ArmKinematics, forward_kinematics
from policies import rotation
from sim.engines.base import TORQUE_HISTORY
from sim.engines.bullet_arm_model import BulletArm
from sim.engines.bullet_parts import pybullet
from sim.scene import ArmMount

_FINGER_GAIN = 0.2
"""Share of a finger's position error that its motor takes away in a step of Bullet."""
_FRICTION_SWEEPS = 2
"""Iterations in which the joints' frictions settle; they begin with the last time step's."""


class BulletArmState:
    """Buffers of an arm in N environments."""

    def __init__(self, mount: ArmMount, description: ArmDescription, model: BulletArm, num_envs: int) -> None:
        """Everything is zero, all variables are nominal."""
        self.mount, self.description, self.model = mount, description, model
        n, gripper = description.num_joints, description.gripper
        self.links = [*model.joints, *model.fingers]
        self.state = np.zeros((num_envs, 2, len(self.links)))
        """Positions and velocities of joints and fingers."""
        self.q, self.qd = self.state[:, 0, :n], self.state[:, 1, :n]
        self.sensor = np.zeros((num_envs, 6))
        """Force and torque at the palm's joint as Bullet gives them; zero before the first time step."""
        self.mass = np.tile(np.eye(n), (num_envs, 1, 1))
        """Joint-space inertia kg m², without rotors."""
        self.weight = np.zeros((num_envs, n))
        """Torques N m that hold the arm against gravity."""
        self.other = np.zeros((num_envs, n))
        """Torques N m of all that is not known beforehand, in the last time step: contacts, limits, Coriolis."""
        self.friction = np.zeros((num_envs, n))
        """Coulomb friction N m of the last time step, where the next one's search begins."""
        self.history = np.zeros((TORQUE_HISTORY + 1, num_envs, n))
        """Commanded torques N m, the newest first."""
        self.max_width = float(gripper.max_width) if gripper is not None and model.fingers else 0.0
        self._kinematics: ArmKinematics | None = None
        self._base = rotation.from_yaw(np.array(mount.yaw))
        self._base_turn = rotation.to_matrix(self._base)
        self.set_nominal()

    def set_nominal(self) -> None:
        """Give every variable its nominal value in every environment."""
        description, rows = self.description, (len(self.state), 1)
        self.armature = np.tile(np.array(description.armature, dtype=float), rows)
        self.damping = np.tile(np.array(description.joint_damping, dtype=float), rows)
        self.friction_bound = np.tile(np.array(description.joint_friction, dtype=float), rows)
        self.torque_limit = np.tile([upper for _, upper in description.interface.limits["torque"]], rows)
        self.compensation = np.ones(rows)
        self.position_limits = np.tile(np.array(description.interface.limits["position"], dtype=float), (*rows, 1))
        gripper = description.gripper
        self.max_force = np.full(rows, float(gripper.max_force) if gripper is not None else 0.0)
        self.latency = np.zeros(len(self.state), dtype=int)

    def forget(self, ids: np.ndarray) -> None:
        """Environments `ids` begin anew: nothing has happened yet."""
        self.other[ids] = self.friction[ids] = 0.0
        self.sensor[ids] = 0.0
        self.history[:, ids] = 0.0

    def moved(self) -> None:
        """The joints have new angles."""
        self._kinematics = None

    def kinematics(self) -> ArmKinematics:
        """Tool pose and Jacobian in the world, of now."""
        if self._kinematics is None:
            local = forward_kinematics(self.description, self.q)
            position, orientation, jacobian = local.tool_position, local.tool_orientation, local.jacobian
            if self.mount.yaw != 0.0:
                turn = self._base_turn
                jacobian = np.concatenate([turn @ jacobian[:, :3], turn @ jacobian[:, 3:]], axis=1)
                position, orientation = position @ turn.T, rotation.multiply(self._base, orientation)
            self._kinematics = ArmKinematics(position + np.array(self.mount.position), orientation, jacobian)
        return self._kinematics

    def applied(self, torques: np.ndarray, dt: float) -> np.ndarray:
        """Torques (N, n) for Bullet's joints, which have no damping, no friction and no armature.

        The acceleration a solves (M + A + dt D) a = tau - D qd + other + friction, with armature A and damping D
        implicit as in MuJoCo; Bullet's joints, of inertia M, get tau - D (qd + dt a) + friction - A a and the weight.

        Args:
            torques: Commanded (N, n) N m.
            dt: s, time step.
        """
        if self.latency.any():
            self.history[1:] = self.history[:-1]
            self.history[0] = torques
            torques = self.history[self.latency, np.arange(len(torques))]
        commanded = torques.clip(-self.torque_limit, self.torque_limit) - self.damping * self.qd
        inertia = self.mass.copy()
        diagonal = np.arange(inertia.shape[1])
        inertia[:, diagonal, diagonal] += self.armature + dt * self.damping
        mobility = np.linalg.inv(inertia)
        acceleration = self._rub(mobility, (mobility @ (commanded + self.other)[..., None])[..., 0], dt)
        self._known = commanded + self.friction - dt * self.damping * acceleration
        self._rotors = self.armature * acceleration
        return self._known - self._rotors + self.compensation * self.weight

    def _rub(self, mobility: np.ndarray, acceleration: np.ndarray, dt: float) -> np.ndarray:
        """Find the Coulomb friction and return the acceleration (N, n) with it.

        Each joint's friction stops it within the time step as far as its bound allows: projected Gauss-Seidel.
        """
        acceleration = acceleration + (mobility @ self.friction[..., None])[..., 0]
        stop = self.qd / dt
        for _ in range(_FRICTION_SWEEPS):
            for k in range(acceleration.shape[1]):
                excess = (acceleration[:, k] + stop[:, k]) / mobility[:, k, k]
                bound, old = self.friction_bound[:, k], self.friction[:, k]
                change = np.minimum(np.maximum(old - excess, -bound), bound) - old
                self.friction[:, k] += change
                acceleration += mobility[:, k] * change[:, None]
        return acceleration

    def command(
        self,
        clients: Sequence[int],
        going: np.ndarray,
        applied: list[list[float]],
        targets: list[list[float]],
        forces: list[list[float]],
    ) -> None:
        """Give Bullet the joints' torques, and the fingers' positions and forces, for its next step."""
        index, joints, fingers = self.model.index, self.model.joints, self.model.fingers
        for env in going.tolist():
            client = clients[env]
            pybullet.setJointMotorControlArray(
                index, joints, pybullet.TORQUE_CONTROL, forces=applied[env], physicsClientId=client
            )
            if fingers:
                pybullet.setJointMotorControlArray(
                    index,
                    fingers,
                    pybullet.POSITION_CONTROL,
                    targetPositions=targets[env],
                    forces=forces[env],
                    positionGains=[_FINGER_GAIN] * len(fingers),
                    physicsClientId=client,
                )

    def measure_other_forces(self, before: np.ndarray, dt: float, ids: np.ndarray) -> None:
        """What else acted in the last time step, from the change of the velocities since `before` (N, n)."""
        change = ((self.qd - before) / dt)[ids]
        total = (self.mass[ids] @ change[..., None])[..., 0] + self._rotors[ids]
        self.other[ids] = total - self._known[ids]

    def wrench(self, gravity: np.ndarray) -> np.ndarray:
        """Force and torque (N, 6) of the world on the tool in its frame, its weight taken off.

        Args:
            gravity: (N, 3) m/s².
        """
        turn = self.model.sensor_turn
        force, torque = -self.sensor[:, :3] @ turn.T, -self.sensor[:, 3:] @ turn.T
        torque = torque + np.cross(self.model.sensor_position, force)
        weight = rotation.rotate_inverse(self.kinematics().tool_orientation, gravity * self.model.payload)
        wrench = np.concatenate([force - weight, torque - np.cross(self.model.payload_center, weight)], axis=1)
        return wrench * np.any(self.sensor, axis=1, keepdims=True)
