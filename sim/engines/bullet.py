"""Scenes in PyBullet, a second opinion on the physics of MuJoCo: one client per environment.

What is alike: joint frames, masses, inertias, limits, damping, Coulomb friction, torques at every time step, gravity
compensated on the arm and on what is attached to it, the shapes, and friction coefficients of contacts. What differs:

- Contacts are rigid and solved by projected Gauss-Seidel iterations; `scene.contact_time` has no meaning here.
- Bullet's joints have no armature. The rotors' torques are added here, with the acceleration that the mass matrix
  foretells from this step's torques and the last step's other forces. In free motion that is the same as an armature;
  in a collision the rotors' share of the impulse follows over the next few steps.
- Between two free bodies, the coefficients of friction are multiplied (MuJoCo takes the larger one).
- A gripper's force rises with the width's error as in MuJoCo, without the inertia of its drive.
- Cables are chains of Bullet's spherical joints with springs and dampers of our own, see `sim.engines.bullet_cable`.
  They and their knots do not give, while MuJoCo's knots do, by some millimetres. A scene with a cable takes five steps
  of Bullet in a time step, and a wrench sensor tells their mean.
- An own model of an arm is read by MuJoCo, see `sim.engines.bullet_own_model`.
- Poses and kinematics are of now, after a substep too.

A client takes about 30 MB and 50 ms to start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hardware.descriptions import load_arm
from hardware.kinematics import ArmKinematics
from policies import rotation
from sim.engines.base import Placement
from sim.engines.bullet_arm import BulletArmState
from sim.engines.bullet_cable import CableState
from sim.engines.bullet_model import BulletModel, build_model
from sim.engines.bullet_own_model import own_description, read_own_model
from sim.engines.bullet_parts import motion_of, pybullet
from sim.engines.bullet_variables import BulletVariables
from sim.scene import Scene

MAX_ENVS = 256
"""Clients of one process: they take 7 GB then."""
_SATURATION = 0.003
"""m of width error at which a gripper pushes with all its force, as in MuJoCo."""
_LEAST_SHARE = 0.05
"""Share of its force that a gripper's drive has at any error, to hold the fingers."""
_TOO_FAST = 1e3
"""rad/s at which the physics has broken down."""


class BulletEngine:
    """N copies of a scene."""

    def __init__(self, scene: Scene, num_envs: int) -> None:
        """Start a client per environment and build the scene in each.

        Args:
            scene: What to build.
            num_envs: N, at most 256.

        Raises:
            ValueError: Too many environments, or an own model of an arm with something that only MuJoCo simulates.
        """
        if not 1 <= num_envs <= MAX_ENVS:
            raise ValueError(
                f"engine 'pybullet': num_envs is {num_envs}; it takes 1 to {MAX_ENVS}, more run in 'mujoco'"
            )
        self.scene, self.num_envs = scene, num_envs
        self.failed = np.zeros(num_envs, dtype=bool)
        self._clients: list[int] = []
        descriptions = {mount.name: load_arm(mount.robot) for mount in scene.arms}
        own = {m.name: read_own_model(m, descriptions[m.name]) for m in scene.arms if m.model}
        descriptions |= {name: own_description(model, descriptions[name]) for name, model in own.items()}
        try:
            for _ in range(num_envs):
                self._clients.append(pybullet.connect(pybullet.DIRECT))
                # The same calls in the same order give the same numbers for everything in every client.
                self._model: BulletModel = build_model(self._clients[-1], scene, descriptions, own)
        except BaseException:
            self.close()
            raise
        self._begin = [pybullet.saveState(physicsClientId=client) for client in self._clients]
        self._arms = {
            mount.name: BulletArmState(mount, descriptions[mount.name], self._model.arms[mount.name], num_envs)
            for mount in scene.arms
        }
        cables = self._model.cables.items()
        part = scene.timestep / self._model.parts
        self._cables = {name: CableState(cable, self._clients, part) for name, cable in cables}
        self._variables = BulletVariables(scene, self._clients, self._model, self._arms, self._cables)
        self._pushes: dict[str, np.ndarray] = {}
        self._attached = {body.name: body for body in scene.bodies if body.attached_to}
        movable = [body for body in scene.bodies if body.motion != "fixed" and not body.attached_to]
        chained = {body.name for cable in self._cables.values() for body in cable.cable.members}
        self._moving = [body for body in movable if body.name not in chained]
        """Single bodies."""
        roots = {cable.cable.members[0].name for cable in self._cables.values() if cable.cable.held is None}
        self._placeable = [body.name for body in movable if body.name in roots or body.name not in chained]
        for arm in self._arms.values():
            arm.q[:] = arm.description.home
        everywhere = np.arange(num_envs)
        self.place(everywhere, Placement(joints={name: arm.q.copy() for name, arm in self._arms.items()}))

    # Episodes

    def place(self, ids: np.ndarray, placement: Placement) -> None:
        """Begin anew in the environments `ids` (K,) int, at rest; nothing is left of what was, contacts included."""
        for name in placement.poses:
            if name not in self._placeable:
                raise ValueError(f"body {name!r} can't be placed; those that can: {self._placeable}")
        count = len(ids)
        joints, velocities, poses = {}, {}, {}
        for name, arm in self._arms.items():
            open_width = np.full(count, arm.max_width)
            width = placement.widths.get(name, open_width)
            fingers = np.tile(0.5 * width[:, None], (1, len(arm.model.fingers)))
            joints[name] = np.concatenate([placement.joints[name], fingers], axis=1)
            velocities[name] = np.zeros_like(joints[name])
        for body in self._moving:
            usual = np.tile([*body.position, *body.orientation], (count, 1))
            poses[body.name] = np.asarray(placement.poses.get(body.name, usual), dtype=float)
        twists = {name: np.zeros((count, 6)) for name in poses}
        self._put(ids, joints, velocities, poses, twists)
        for cable in self._cables.values():
            first = cable.cable.held or cable.cable.members[0]
            usual = self.pose(first.name)[ids]
            straight = cable.straight(np.asarray(placement.poses.get(first.name, usual), dtype=float))
            cable.put(ids, straight, np.zeros((*straight.shape[:2], 6)))
            cable.forget(ids)
        for arm in self._arms.values():
            arm.forget(ids)
        for force in self._pushes.values():
            force[ids] = 0.0
        self.failed[ids] = False

    def _put(
        self,
        ids: np.ndarray,
        joints: Mapping[str, np.ndarray],
        velocities: Mapping[str, np.ndarray],
        poses: Mapping[str, np.ndarray],
        twists: Mapping[str, np.ndarray],
    ) -> None:
        """Positions and velocities of everything that moves, rows of `ids`, into clients without any contact."""
        for row, env in enumerate(ids):
            client = self._clients[env]
            # Restored, not only reset: Bullet keeps contact points and motors' impulses from step to step.
            pybullet.restoreState(self._begin[env], physicsClientId=client)
            # Contacts of before, where nothing touches any more, are only then forgotten.
            pybullet.performCollisionDetection(physicsClientId=client)
            for name, arm in self._arms.items():
                for link, angle, speed in zip(
                    arm.links, joints[name][row].tolist(), velocities[name][row].tolist(), strict=True
                ):
                    pybullet.resetJointState(arm.model.index, link, angle, speed, physicsClientId=client)
            for name, pose in poses.items():
                body = self._model.bodies[name]
                position = pose[row, :3] + rotation.rotate(pose[row, 3:], body.center)
                w, x, y, z = rotation.multiply(pose[row, 3:], body.turn).tolist()
                pybullet.resetBasePositionAndOrientation(
                    body.index, position.tolist(), [x, y, z, w], physicsClientId=client
                )
                angular = twists[name][row, 3:]
                linear = twists[name][row, :3] + np.cross(angular, position - pose[row, :3])
                pybullet.resetBaseVelocity(body.index, linear.tolist(), angular.tolist(), physicsClientId=client)
        for arm in self._arms.values():
            self._read(arm, ids)

    def substep(self, torques: Mapping[str, np.ndarray], widths: Mapping[str, np.ndarray]) -> None:
        """Advance by one time step; environments whose physics breaks down stop and are marked in `failed`."""
        dt = self.scene.timestep
        for name, arm in self._arms.items():
            self.failed |= ~np.isfinite(torques[name]).all(axis=1)
            if arm.model.fingers:
                self.failed |= ~np.isfinite(widths[name])
        going = np.flatnonzero(~self.failed)
        orders = {
            name: self._drive(arm, torques[name], widths.get(name), going, dt) for name, arm in self._arms.items()
        }
        holders = [self._held(cable) for cable in self._cables.values()]
        for arm in self._arms.values():
            arm.sensor[going] = 0.0
        for _ in range(self._model.parts):
            # Bullet forgets torques and forces with every step.
            for name, arm in self._arms.items():
                arm.command(self._clients, going, *orders[name])
            for name, force in self._pushes.items():
                self._push(name, force, going)
            for cable, holder in zip(self._cables.values(), holders, strict=True):
                cable.drive(going, holder)
            for env in going.tolist():
                pybullet.stepSimulation(physicsClientId=self._clients[env])
            for cable in self._cables.values():
                self.failed |= ~cable.follow(going)
            self._sense(going)
        for arm in self._arms.values():
            before = arm.qd.copy()
            self._read(arm, going)
            arm.measure_other_forces(before, dt, going)
            with np.errstate(invalid="ignore"):
                self.failed |= ~(np.abs(arm.state[:, 1]) < _TOO_FAST).all(axis=1)

    def _held(self, cable: CableState) -> tuple[np.ndarray, np.ndarray] | None:
        """Orientation (N, 4) and angular velocity (N, 3) of the segment that a cable hangs on."""
        if cable.cable.held is not None:
            arm = self._arms[cable.cable.held.attached_to]
            spin = (arm.kinematics().jacobian[:, 3:] @ arm.qd[..., None])[..., 0]
            return self.pose(cable.cable.held.name)[:, 3:], spin
        if cable.cable.first == 1:
            return self.pose(cable.cable.members[0].name)[:, 3:], np.zeros((self.num_envs, 3))
        return None

    def _drive(
        self, arm: BulletArmState, torques: np.ndarray, widths: np.ndarray | None, going: np.ndarray, dt: float
    ) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
        """Torques of the joints for the next time step, and widths and forces of the fingers' motors."""
        index, joints, fingers = arm.model.index, arm.model.joints, arm.model.fingers
        n = len(joints)
        still = [0.0] * len(arm.links)
        positions = arm.state[:, 0].tolist()
        for env in going.tolist():
            client, q = self._clients[env], positions[env]
            arm.mass[env] = np.array(pybullet.calculateMassMatrix(index, q, physicsClientId=client))[:n, :n]
            weight = pybullet.calculateInverseDynamics(index, q, still, still, physicsClientId=client)
            arm.weight[env] = weight[:n]
        applied = arm.applied(np.where(self.failed[:, None], 0.0, torques), dt).tolist()
        forces, targets = [], []
        if fingers:
            assert widths is not None
            wanted = 0.5 * widths[:, None]
            share = np.abs(2.0 * (wanted - arm.state[:, 0, n:]) / _SATURATION).clip(_LEAST_SHARE, 1.0)
            forces = (share * arm.max_force).tolist()
            targets = np.broadcast_to(wanted, share.shape).tolist()
        return applied, targets, forces

    def _read(self, arm: BulletArmState, ids: np.ndarray) -> None:
        """Joint angles and velocities of the environments `ids`."""
        index, links = arm.model.index, arm.links
        for env in ids.tolist():
            states = pybullet.getJointStates(index, links, physicsClientId=self._clients[env])
            arm.state[env] = [[state[0] for state in states], [state[1] for state in states]]
        arm.moved()

    def _sense(self, ids: np.ndarray) -> None:
        """Add what the wrench sensors of environments `ids` feel in a part of a time step to its mean."""
        for arm in self._arms.values():
            if arm.mount.wrench:
                for env in ids.tolist():
                    state = pybullet.getJointState(arm.model.index, arm.model.palm, physicsClientId=self._clients[env])
                    arm.sensor[env] += np.divide(state[2], self._model.parts)

    def _push(self, name: str, force: np.ndarray, going: np.ndarray) -> None:
        """Put the forces (N, 3) on a body's centre of mass, or an arm's tool, for one time step."""
        going = going[force[going].any(axis=1)]
        if not len(going):
            return
        if name in self._model.bodies:
            place = self._model.bodies[name]
            index, link = place.index, place.link
            points = [motion_of(client, place)[0] for client in self._clients]
        else:
            arm = self._arms[name.partition("/")[0]]
            index, link = arm.model.index, arm.model.palm
            points = arm.kinematics().tool_position.tolist()
        for env in going.tolist():
            pybullet.applyExternalForce(
                index, link, force[env].tolist(), points[env], pybullet.WORLD_FRAME, physicsClientId=self._clients[env]
            )

    def vary(self, names: Sequence[str]) -> dict[str, str]:
        """Prepare for `set_variables` of these; all are nominal. Returns what cannot vary, with a reason."""
        return self._variables.vary(names)

    def set_variables(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write variables (K, size) by name into the model of environments `ids` (K,)."""
        self._variables.set(ids, values)

    def push(self, body: str, force: np.ndarray) -> None:
        """Put world forces (N, 3) N on a body's centre of mass, or an arm's tool, until the next push or placing."""
        if body not in self._model.bodies and body not in {f"{name}/tool" for name in self._arms}:
            raise ValueError(f"{body!r} can't be pushed; those that can: {[*self._model.bodies, 'tools of arms']}")
        self._pushes[body] = np.array(force, dtype=float)

    def refresh(self) -> None:
        """Nothing to do: everything is of now."""

    # Measurements

    def joints(self, arm: str) -> tuple[np.ndarray, np.ndarray]:
        """Angles and velocities (N, n); views."""
        found = self._arms[arm]
        return found.q, found.qd

    def kinematics(self, arm: str) -> ArmKinematics:
        """Tool pose and Jacobian in the world, of now."""
        return self._arms[arm].kinematics()

    def width(self, arm: str) -> np.ndarray:
        """Distance (N,) m between the fingers; 0 without fingers."""
        found = self._arms[arm]
        return found.state[:, 0, len(found.model.joints) :].sum(axis=1)

    def wrench(self, arm: str) -> np.ndarray:
        """Force and torque (N, 6) of the world on the tool, tool frame, its weight taken off; zero without sensor.

        It is zero until the first time step: Bullet measures while it steps.
        """
        found = self._arms[arm]
        if not found.mount.wrench:
            return np.zeros((self.num_envs, 6))
        return found.wrench(self._variables.gravity)

    def pose(self, body: str) -> np.ndarray:
        """World pose (N, 7); of an arm's tool as `<arm>/tool`."""
        arm, _, part = body.partition("/")
        if part == "tool" and arm in self._arms:
            kinematics = self.kinematics(arm)
            return np.concatenate([kinematics.tool_position, kinematics.tool_orientation], axis=1)
        if body in self._attached:
            held = self._attached[body]
            kinematics = self.kinematics(held.attached_to)
            turn = kinematics.tool_orientation
            position = kinematics.tool_position + rotation.rotate(turn, np.array(held.position))
            return np.concatenate([position, rotation.multiply(turn, np.array(held.orientation))], axis=1)
        found = self._model.bodies[body]
        raw = np.array([[*place[0], *place[1]] for place in (motion_of(client, found) for client in self._clients)])
        orientation = rotation.multiply(raw[:, [6, 3, 4, 5]], rotation.conjugate(found.turn))
        return np.concatenate([raw[:, :3] - rotation.rotate(orientation, found.center), orientation], axis=1)

    def twist(self, body: str) -> np.ndarray:
        """World twist (N, 6) of a free body's origin."""
        found = self._model.bodies[body]
        linear, angular = np.moveaxis(np.array([motion_of(client, found)[2:] for client in self._clients]), 1, 0)
        center = rotation.rotate(self.pose(body)[:, 3:], found.center)
        return np.concatenate([linear - np.cross(angular, center), angular], axis=1)

    # Storage

    def state(self) -> dict[str, np.ndarray]:
        """What is needed to go on later: positions, velocities, and the forces that the rotors' torques build on.

        Bullet can't hand out its contact points: where bodies touch, what follows `load_state` is not bit by bit
        what follows `state`, but it is the same after every `load_state`.
        """
        stored = {"failed": self.failed.copy()}
        for name, arm in self._arms.items():
            stored[f"joints/{name}"] = arm.state.copy()
            stored[f"sensor/{name}"] = arm.sensor.copy()
            stored[f"other/{name}"], stored[f"friction/{name}"] = arm.other.copy(), arm.friction.copy()
            stored[f"history/{name}"] = np.moveaxis(arm.history, 1, 0).copy()
        for body in self._moving:
            stored[f"pose/{body.name}"] = self.pose(body.name)
            stored[f"twist/{body.name}"] = self.twist(body.name)
        for name, cable in self._cables.items():
            segments = [body.name for body in cable.cable.members]
            stored[f"cable/{name}"] = np.stack([self.pose(segment) for segment in segments], axis=1)
            stored[f"cable_twist/{name}"] = np.stack([self.twist(segment) for segment in segments], axis=1)
            stored[f"cable_acceleration/{name}"] = cable.acceleration.copy()
        return stored

    def load_state(self, stored: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        everywhere = np.arange(self.num_envs)
        self._put(
            everywhere,
            {name: stored[f"joints/{name}"][:, 0] for name in self._arms},
            {name: stored[f"joints/{name}"][:, 1] for name in self._arms},
            {body.name: stored[f"pose/{body.name}"] for body in self._moving},
            {body.name: stored[f"twist/{body.name}"] for body in self._moving},
        )
        for name, arm in self._arms.items():
            arm.sensor[:] = stored[f"sensor/{name}"]
            arm.history[:] = np.moveaxis(stored[f"history/{name}"], 0, 1)
            arm.other[:], arm.friction[:] = stored[f"other/{name}"], stored[f"friction/{name}"]
        for name, cable in self._cables.items():
            cable.put(everywhere, stored[f"cable/{name}"], stored[f"cable_twist/{name}"])
            cable.acceleration[:] = stored[f"cable_acceleration/{name}"]
        self.failed = np.array(stored["failed"], dtype=bool)

    def close(self) -> None:
        """End the clients."""
        for client in self._clients:
            pybullet.disconnect(physicsClientId=client)
        self._clients = []
