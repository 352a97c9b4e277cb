"""Randomized variables of a scene in PyBullet: those that it has, or that are computed beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sim.arm_randomization import STANDARD_GRAVITY, Variable, scene_variables
from sim.engines.bullet_arm import BulletArmState
from sim.engines.bullet_arm_model import shares_friction
from sim.engines.bullet_cable import CableState
from sim.engines.bullet_model import BulletModel
from sim.engines.bullet_parts import principal_axes, pybullet
from sim.scene import Scene, mass_properties

_OF_ARM = {
    "joint_damping": "damping",
    "joint_friction": "friction_bound",
    "armature": "armature",
    "torque_limit": "torque_limit",
    "gripper_force": "max_force",
    "gravity_compensation": "compensation",
}
"""Variables that are a buffer of the arm."""
_OF_CABLE = ("cable_stiffness", "cable_damping")
_CONTACTS = ("contact_time", "contact_damping")


class BulletVariables:
    """Writes variables into the clients."""

    def __init__(
        self,
        scene: Scene,
        clients: Sequence[int],
        model: BulletModel,
        arms: Mapping[str, BulletArmState],
        cables: Mapping[str, CableState],
    ) -> None:
        """Nothing varies until `vary`."""
        self._scene, self._clients, self._model, self._arms = scene, clients, model, arms
        self._cables = cables
        self._variables = scene_variables(scene)
        self._bodies = {body.name: body for body in scene.bodies}
        self.gravity = np.tile(STANDARD_GRAVITY, (len(clients), 1))
        """Shape (N, 3), m/s²."""
        self._varied: list[str] = []

    def vary(self, names: Sequence[str]) -> dict[str, str]:
        """See `ArmEngine.vary`."""
        everywhere = np.arange(len(self._clients))
        nominal = {name: np.tile(self._variables[name].nominal, (len(everywhere), 1)) for name in self._varied}
        self.set(everywhere, nominal)
        reasons = {name: self._reason(self._variables[name]) for name in names}
        self._varied = [name for name, reason in reasons.items() if not reason]
        return {name: reason for name, reason in reasons.items() if reason}

    def set(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """See `ArmEngine.set_variables`."""
        for name, value in values.items():
            variable = self._variables[name]
            kind, target = variable.kind, variable.target
            if kind in _OF_ARM:
                getattr(self._arms[target], _OF_ARM[kind])[ids] = value
            elif kind == "torque_latency":
                self._arms[target].latency[ids] = np.rint(value[:, 0] / self._scene.timestep).astype(int)
            elif kind in _OF_CABLE or (kind == "mass" and self._bodies[target].cable in self._cables):
                self._set_segment(variable, ids, np.asarray(value, dtype=float))
            else:
                self._set_in_clients(variable, ids, np.asarray(value, dtype=float))

    def _set_in_clients(self, variable: Variable, ids: np.ndarray, values: np.ndarray) -> None:
        kind, target = variable.kind, variable.target
        if kind == "gravity":
            self.gravity[ids] = values
        for env, value in zip(ids.tolist(), values.tolist(), strict=True):
            client = self._clients[env]
            if kind == "gravity":
                pybullet.setGravity(*value, physicsClientId=client)
            elif kind == "mass":
                place = self._model.bodies[target]
                moments, _ = principal_axes(mass_properties(self._bodies[target])[1])
                pybullet.changeDynamics(
                    place.index,
                    place.link,
                    mass=value[0],
                    localInertiaDiagonal=(moments * value[0] / self._bodies[target].mass).tolist(),
                    physicsClientId=client,
                )
            elif kind == "friction":
                place = self._model.bodies[target]
                pybullet.changeDynamics(place.index, place.link, lateralFriction=value[0], physicsClientId=client)
            elif kind in ("joint_lower", "joint_upper"):
                self._set_limits(env, self._arms[target], kind, value)

    def _set_segment(self, variable: Variable, ids: np.ndarray, values: np.ndarray) -> None:
        """Mass (K, 1) of a segment, stiffness or damping of the joint before it."""
        body = self._bodies[variable.target]
        cable = self._cables[body.cable]
        buffer = {"cable_stiffness": cable.stiffness, "cable_damping": cable.damping, "mass": cable.mass}
        buffer[variable.kind][ids, cable.segments.index(body)] = values[:, 0]
        cable.changed(ids)

    def _set_limits(self, env: int, arm: BulletArmState, kind: str, values: list[float]) -> None:
        arm.position_limits[env, :, 0 if kind == "joint_lower" else 1] = values
        for link, (lower, upper) in zip(arm.model.joints, arm.position_limits[env].tolist(), strict=True):
            pybullet.changeDynamics(
                arm.model.index,
                link,
                jointLowerLimit=lower,
                jointUpperLimit=upper,
                physicsClientId=self._clients[env],
            )

    def _reason(self, variable: Variable) -> str:
        """Why a variable cannot vary; empty where it can."""
        kind = variable.kind
        if kind in (*_OF_ARM, *_OF_CABLE, "torque_latency", "gravity", "joint_lower", "joint_upper"):
            return ""
        if kind in _CONTACTS:
            return "PyBullet: does nothing, contacts are rigid"
        body = self._bodies.get(variable.target)
        free = body is not None and body.motion == "free" and not body.attached_to
        if kind == "mass" and free:
            return ""
        if kind == "friction" and body is not None and (free or shares_friction(self._scene, body)):
            return ""
        if kind == "friction":
            return "PyBullet: does nothing, contacts have the friction of the free body"
        return "PyBullet: does nothing"
