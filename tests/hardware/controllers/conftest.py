"""A Panda, and a world small enough to be known: its rigid-body dynamics and stiff walls."""

from types import SimpleNamespace

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.dynamics import bias_torques, mass_matrix
from hardware.kinematics import forward_kinematics


class WalledArm:
    """An arm with viscous joint friction whose gravity is compensated; walls push its tool back as damped springs."""

    wall_stiffness, wall_damping = 2e4, 200.0

    def __init__(self, description, batch=(), dt=0.001):
        self.description, self.dt = description, dt
        self.q = np.broadcast_to(description.home, (*batch, description.num_joints)).copy()
        self.qd = np.zeros_like(self.q)
        self.upper = np.full(3, np.inf)
        self.lower = np.full(3, -np.inf)
        self.load = np.zeros(6)
        self.force = np.zeros(3)

    @property
    def kinematics(self):
        return forward_kinematics(self.description, self.q)

    def step(self, torques):
        kinematics = self.kinematics
        velocity = (kinematics.jacobian @ self.qd[..., None])[..., :3, 0]
        over = np.maximum(kinematics.tool_position - self.upper, 0.0)
        under = np.maximum(self.lower - kinematics.tool_position, 0.0)
        touching = (over > 0.0) | (under > 0.0)
        push = self.wall_stiffness * (over - under) + self.wall_damping * velocity * touching
        # A wall only pushes.
        self.force = np.where(over > 0.0, np.maximum(push, 0.0), np.where(under > 0.0, np.minimum(push, 0.0), 0.0))
        wrench = self.load - np.concatenate([self.force, np.zeros_like(self.force)], axis=-1)
        external = (np.swapaxes(kinematics.jacobian, -1, -2) @ wrench[..., None])[..., 0]
        bias = bias_torques(self.description, self.q, self.qd, gravity=(0.0, 0.0, 0.0))
        total = torques + external - bias - self.description.joint_damping * self.qd
        inertia = mass_matrix(self.description, self.q)
        self.qd = self.qd + self.dt * np.linalg.solve(inertia, total[..., None])[..., 0]
        self.q = self.q + self.dt * self.qd

    def run(self, controller, seconds):
        """Run the controller without a new command; yields (torques, wall force) after every tick."""
        for _ in range(round(seconds / self.dt)):
            torques = controller.torques(self.kinematics, self.q, self.qd, self.dt)
            self.step(torques)
            yield SimpleNamespace(torques=torques, force=self.force.copy(), position=self.kinematics.tool_position)


@pytest.fixture(scope="session")
def panda():
    return load_arm("panda")


@pytest.fixture
def walled_arm():
    """The class `WalledArm`."""
    return WalledArm


@pytest.fixture
def postures(panda):
    """(count, seed, spread) → random joint positions within the limits."""

    def draw(count, seed=0, spread=0.4):
        lower, upper = np.array(panda.interface.limits["position"]).T
        q = panda.home + np.random.default_rng(seed).uniform(-spread, spread, (count, 7))
        return np.clip(q, lower + 0.02, upper - 0.02)

    return draw
