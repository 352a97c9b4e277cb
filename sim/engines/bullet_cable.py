"""A cable in all clients of the PyBullet engine: how its segments turn, and the torques of its joints.

Bullet's spherical joints have no springs, and a torque of damping that is held for a step would make the light segments
swing: it would stop one several times over. The joints' torques have to be those of the end of the step,
-k (theta + dt w') - d w'; for those, Bullet's solver would have to see the inertia M + dt D + dt² K of an implicit
integration. It gets a larger one that is simple, M + A with A diagonal, and the torque (A - dt D - dt² K) a with the
angular acceleration a of the last step. Together they are the implicit law where motion is slow, fast motion meets more
inertia, and a rest is exact. As A - dt D - dt² K is positive, this is stable for any stiffness and damping of a loose
cable; that of a taut one is the reason for the short steps, see `sim.engines.bullet_model`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies import rotation
from sim.engines.bullet_cable_model import BulletCable, reach
from sim.engines.bullet_parts import principal_axes, pybullet
from sim.scene import mass_properties

_TOO_FAST = 1e4
"""rad/s at which the physics has broken down."""


class CableState:
    """Buffers of a cable with S segments in N environments, without the one that an arm holds."""

    def __init__(self, cable: BulletCable, clients: Sequence[int], timestep: float) -> None:
        """Nothing has happened yet, all variables are nominal."""
        self.cable, self._clients, self._dt = cable, clients, timestep
        self.segments = cable.members[cable.first :]
        self._places = cable.places[cable.first :]
        count, size = len(clients), len(self.segments)
        self.stiffness = np.tile([body.cable_stiffness for body in self.segments], (count, 1))
        """Shape (N, S), N m/rad, of the joint to the segment before."""
        self.damping = np.tile([body.cable_damping for body in self.segments], (count, 1))
        """Shape (N, S), N m s/rad, likewise."""
        self.mass = np.tile([body.mass for body in self.segments], (count, 1))
        """Shape (N, S), kg."""
        if cable.held is None and cable.first == 0:  # no joint is there
            self.stiffness[:, 0] = self.damping[:, 0] = 0.0
        self._gyration = [principal_axes(mass_properties(body)[1])[0] / body.mass for body in self.segments]
        self.orientations = np.tile([1.0, 0.0, 0.0, 0.0], (count, size, 1))
        self.spins = np.zeros((count, size, 3))
        """rad/s, in the world."""
        self.acceleration = np.zeros((count, size, 3))
        """rad/s², of the last time step."""
        self._added = np.zeros((count, size))
        self.changed(np.arange(count))

    def changed(self, ids: np.ndarray) -> None:
        """Stiffness, damping or mass of environments `ids` are new."""
        # Twice the sum of a row of the coupling is more than its largest eigenvalue.
        pull = self._dt * self._resistance()
        total = pull.copy()
        total[:, :-1] += pull[:, 1:]
        self._added[ids] = 2.0 * total[ids]
        for env in ids.tolist():
            rows = zip(self._places, self._gyration, self.mass[env].tolist(), self._added[env].tolist(), strict=True)
            for place, gyration, mass, added in rows:
                pybullet.changeDynamics(
                    place.index,
                    place.link,
                    mass=mass,
                    localInertiaDiagonal=(mass * gyration + added).tolist(),
                    physicsClientId=self._clients[env],
                )

    def _resistance(self) -> np.ndarray:
        """N m s/rad (N, S): the damping, and what a stiffness adds until the end of a time step."""
        total: np.ndarray = self.damping + self._dt * self.stiffness
        return total

    def forget(self, ids: np.ndarray) -> None:
        """Environments `ids` begin anew."""
        self.acceleration[ids] = 0.0

    # Torques

    def drive(self, going: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Set the joints' torques for the next time step.

        Args:
            going: Environments.
            held: Orientation (N, 4) and angular velocity (N, 3) rad/s of the segment before, if there is one.
        """
        if held is None:  # the first joint's stiffness and damping are zero
            held = self.orientations[:, 0], self.spins[:, 0]
        before = np.concatenate([held[0][:, None], self.orientations[:, :-1]], axis=1)
        bend = rotation.to_rotation_vector(rotation.multiply(self.orientations, rotation.conjugate(before)))
        spins = self.spins + self._dt * self.acceleration
        slip = spins - np.concatenate([held[1][:, None], spins[:, :-1]], axis=1)
        joints = -self.stiffness[..., None] * bend - self._resistance()[..., None] * slip
        torques = joints + self._added[..., None] * self.acceleration
        torques[:, :-1] -= joints[:, 1:]
        self._apply(going, torques.tolist(), (-joints[:, 0]).tolist())

    def _apply(self, going: np.ndarray, torques: list[list[list[float]]], reaction: list[list[float]]) -> None:
        holder, world = self.cable.held_place, pybullet.WORLD_FRAME
        for env in going.tolist():
            client = self._clients[env]
            for place, torque in zip(self._places, torques[env], strict=True):
                pybullet.applyExternalTorque(place.index, place.link, torque, world, physicsClientId=client)
            if holder is not None:
                pybullet.applyExternalTorque(holder.index, holder.link, reaction[env], world, physicsClientId=client)

    def follow(self, ids: np.ndarray) -> np.ndarray:
        """Read where environments `ids` are after a time step; returns those (N,) whose physics has not broken down."""
        before = self.spins[ids]
        self.read(ids)
        self.acceleration[ids] = (self.spins[ids] - before) / self._dt
        with np.errstate(invalid="ignore"):
            return np.asarray((np.abs(self.spins) < _TOO_FAST).all(axis=(1, 2)))

    # Positions

    def read(self, ids: np.ndarray) -> None:
        """Orientations and spins of environments `ids`."""
        links = [place.link for place in self._places if place.link >= 0]
        raw = np.zeros((len(ids), len(self._places), 4))
        skip = len(self._places) - len(links)
        for row, env in enumerate(ids.tolist()):
            client = self._clients[env]
            if skip:
                raw[row, 0] = pybullet.getBasePositionAndOrientation(self.cable.index, physicsClientId=client)[1]
                self.spins[env, 0] = pybullet.getBaseVelocity(self.cable.index, physicsClientId=client)[1]
            if links:
                states = pybullet.getLinkStates(
                    self.cable.index, links, computeLinkVelocity=1, computeForwardKinematics=1, physicsClientId=client
                )
                raw[row, skip:] = [state[1] for state in states]
                self.spins[env, skip:] = [state[7] for state in states]
        turns = rotation.conjugate(np.array([place.turn for place in self._places]))
        self.orientations[ids] = rotation.multiply(raw[..., [3, 0, 1, 2]], np.broadcast_to(turns, raw.shape))

    def straight(self, first: np.ndarray) -> np.ndarray:
        """Poses (K, M, 7) of the members in a line with the pose (K, 7) of the held segment, or of the base."""
        chain = [*([self.cable.held] if self.cable.held is not None else []), *self.cable.members]
        lengths = np.array([reach(body) for body in chain])
        along = np.concatenate([[0.0], np.cumsum(lengths[:-1] + lengths[1:])])[-len(self.cable.members) :]
        axis = rotation.rotate(first[:, 3:], np.broadcast_to([0.0, 0.0, 1.0], (len(first), 3)))
        turns = np.broadcast_to(first[:, None, 3:], (len(first), len(along), 4))
        return np.concatenate([first[:, None, :3] + along[:, None] * axis[:, None], turns], axis=2)

    def put(self, ids: np.ndarray, poses: np.ndarray, twists: np.ndarray) -> None:
        """Place the members, poses (K, M, 7) and twists (K, M, 6), in environments `ids` (K,).

        Only the first segment's position and linear velocity count: the others follow from the joints.
        """
        first, index = self.cable.places[0], self.cable.index
        before, after = poses[:, :-1, 3:], poses[:, 1:, 3:]
        relative = rotation.multiply(rotation.conjugate(before), after)
        # The joints' velocities are in the axes of the segments after them.
        speeds = rotation.rotate_inverse(after, twists[:, 1:, 3:] - twists[:, :-1, 3:])
        shift = rotation.rotate(poses[:, 0, 3:], np.broadcast_to(first.center, (len(ids), 3)))
        centers, spins = poses[:, 0, :3] + shift, twists[:, 0, 3:]
        linear = twists[:, 0, :3] + np.cross(spins, shift)
        turns = rotation.multiply(poses[:, 0, 3:], np.broadcast_to(first.turn, (len(ids), 4)))
        for row, env in enumerate(ids.tolist()):
            client = self._clients[env]
            w, x, y, z = turns[row].tolist()
            pybullet.resetBasePositionAndOrientation(index, centers[row].tolist(), [x, y, z, w], physicsClientId=client)
            pybullet.resetBaseVelocity(index, linear[row].tolist(), spins[row].tolist(), physicsClientId=client)
            for k, place in enumerate(self.cable.places[1:]):
                w, x, y, z = relative[row, k].tolist()
                pybullet.resetJointStateMultiDof(
                    index, place.link, [x, y, z, w], speeds[row, k].tolist(), physicsClientId=client
                )
        self.read(ids)
