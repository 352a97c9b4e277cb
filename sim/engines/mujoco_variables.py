"""Randomized variables of a scene in MuJoCo: fields of the model that differ between environments.

Only fields of variables that really vary are expanded, and constants are derived anew only where an inertia, a drive's
armature or a shape changed. Values are computed from the nominal ones every time, so that nothing compounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco.batch import Batch

from hardware.descriptions import load_arm
from sim import body_shapes
from sim.arm_randomization import Variable, scene_variables
from sim.engines.mujoco_parts import KINDS, OBJECT
from sim.scene import Body, Scene

_LINK_KINDS = ("link_mass", "link_center", "link_inertia", "gravity_compensation")
_BODY_KINDS = ("mass", "center", "inertia", "size", "cousin")
_GROUPS = {**dict.fromkeys(_LINK_KINDS, "link"), **dict.fromkeys(_BODY_KINDS, "body")}
"""Kinds that are written together, since they end up in the same fields."""


@dataclass(frozen=True)
class _Writer:
    names: tuple[str, ...]
    """Variables that it reads."""
    write: Callable[[np.ndarray], None]
    """Writes into environments (K,)."""
    derives: bool
    """Whether constants must be derived anew."""


class MujocoVariables:
    """Writes variables into the per-environment fields of a batch."""

    def __init__(self, model: mujoco.MjModel, batch: Batch, scene: Scene) -> None:
        """Nothing varies until `vary`."""
        self._model, self._batch, self._scene = model, batch, scene
        self._variables = scene_variables(scene)
        self._fields: dict[str, np.ndarray] = {}
        self._values: dict[str, np.ndarray] = {}
        self._writers: list[_Writer] = []

    def vary(self, names: Sequence[str]) -> dict[str, str]:
        """See `ArmEngine.vary`."""
        for field, values in self._fields.items():
            values[:] = self._original(field)
        if self._fields:
            self._batch.set_const()
        chosen = [self._variables[name] for name in names]
        count = self._batch.nsim
        self._values = {variable.name: np.tile(variable.nominal, (count, 1)) for variable in chosen}
        self._writers = []
        grouped: dict[tuple[str, str], list[Variable]] = {}
        for variable in chosen:
            group = (
                "link" if variable.kind in _LINK_KINDS else "body" if variable.kind in _BODY_KINDS else variable.name
            )
            grouped.setdefault((group, variable.target), []).append(variable)
        for (group, target), variables in grouped.items():
            members = tuple(variable.name for variable in variables)
            if group == "link":
                self._add_links(target, members)
            elif group == "body":
                self._add_body(self._scene.body(target), members)
            else:
                self._add_single(variables[0])
        return {}

    def set(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """See `ArmEngine.set_variables`."""
        for name, value in values.items():
            self._values[name][ids] = value
        derive = False
        for writer in self._writers:
            if not values.keys().isdisjoint(writer.names):
                writer.write(ids)
                derive |= writer.derives
        if derive:
            self._batch.set_const(ids)

    # Fields

    def _field(self, name: str) -> np.ndarray:
        if name not in self._fields:
            self._fields[name] = self._batch.expand(name)
        return self._fields[name]

    def _original(self, field: str) -> np.ndarray:
        return getattr(self._model.opt, field[4:]) if field.startswith("opt.") else getattr(self._model, field)

    def _value(self, name: str, ids: np.ndarray) -> np.ndarray:
        """Values (K, size) of now; nominal where the variable does not vary."""
        if name in self._values:
            return self._values[name][ids]
        return np.tile(self._variables[name].nominal, (len(ids), 1))

    def _named(self, target: str, kind: str) -> str:
        name = f"{target}.{kind}"
        return name if name in self._variables else kind

    def _put(self, field: str, columns: Sequence[int] | np.ndarray, ids: np.ndarray, values: np.ndarray) -> None:
        self._fields[field][ids[:, None], columns] = values

    # Variables that have a field to themselves

    def _add_single(self, variable: Variable) -> None:
        name, target, kind, model = variable.name, variable.target, variable.kind, self._model
        arm = target if any(mount.name == target for mount in self._scene.arms) else ""
        if kind == "gravity":
            gravity = self._field("opt.gravity")
            self._add(variable, lambda ids: gravity.__setitem__(ids, self._values[name][ids]))
        elif kind in ("contact_time", "contact_damping"):
            everything = [i for i in range(model.ngeom) if model.geom(i).name != "floor"]
            self._add_columns(variable, "geom_solref", everything, 0 if kind == "contact_time" else 1)
        elif kind == "friction":
            self._add_columns(variable, "geom_friction", self._geoms(self._scene.body(target)), 0)
        elif kind in ("joint_damping", "joint_friction", "armature"):
            fields = {"joint_damping": "dof_damping", "joint_friction": "dof_frictionloss", "armature": "dof_armature"}
            dofs = [int(model.jnt_dofadr[i]) for i in self._joints(arm)]
            self._add_columns(variable, fields[kind], dofs, derives=kind == "armature")
        elif kind in ("joint_lower", "joint_upper"):
            self._add_columns(variable, "jnt_range", self._joints(arm), 0 if kind == "joint_lower" else 1)
        elif kind == "torque_limit":
            self._add_torque_limit(variable)
        elif kind == "torque_latency":
            self._add_columns(variable, "actuator_delay", self._motors(arm))
        elif kind == "gripper_force":
            self._add_gripper(variable)
        elif kind == "payload":
            self._add_columns(variable, "body_mass", [model.body(f"{arm}/tool").id], derives=True)
        elif kind in ("cable_stiffness", "cable_damping"):
            joint = model.joint(target)
            if kind == "cable_stiffness":
                self._add_columns(variable, "jnt_stiffness", [joint.id])
            else:
                self._add_columns(variable, "dof_damping", [int(joint.dofadr[0]) + i for i in range(3)])
        else:
            raise ValueError(f"variable {name!r} is unknown to the engine 'mujoco'")

    def _add(self, variable: Variable, write: Callable[[np.ndarray], None], derives: bool = False) -> None:
        self._writers.append(_Writer((variable.name,), write, derives))

    def _add_columns(
        self, variable: Variable, field: str, columns: Sequence[int], part: int | None = None, derives: bool = False
    ) -> None:
        """Write the value as it is into columns of a field, or into a part of each."""
        values, name = self._field(field), variable.name
        places = np.array(columns)

        def write(ids: np.ndarray) -> None:
            if part is None:
                values[ids[:, None], places] = self._values[name][ids]
            else:
                values[ids[:, None], places, part] = self._values[name][ids]

        self._add(variable, write, derives)

    def _add_torque_limit(self, variable: Variable) -> None:
        ranges, motors = self._field("actuator_forcerange"), np.array(self._motors(variable.target))

        def write(ids: np.ndarray) -> None:
            limit = self._values[variable.name][ids]
            ranges[ids[:, None], motors] = np.stack([-limit, limit], axis=-1)

        self._add(variable, write)

    def _add_gripper(self, variable: Variable) -> None:
        drive = self._model.actuator(f"{variable.target}/gripper").id
        fields = [self._field(f"actuator_{name}") for name in ("gainprm", "biasprm", "forcerange")]
        originals = [self._original(f"actuator_{name}")[drive] for name in ("gainprm", "biasprm", "forcerange")]

        def write(ids: np.ndarray) -> None:
            factor = self._values[variable.name][ids] / variable.nominal[0]
            for field, original in zip(fields, originals, strict=True):
                field[ids, drive] = original * factor

        self._add(variable, write)

    # Inertias

    def _add_links(self, arm: str, members: tuple[str, ...]) -> None:
        """Masses, centres and inertias of an arm's links, and what compensates the nominal weights."""
        model = self._model
        links = np.array([int(model.jnt_bodyid[i]) for i in self._joints(arm)])
        # Everything of the arm that has a mass beside its links: hand, fingers, what it holds.
        held = [body for body in self._scene.bodies if body.attached_to == arm]
        held_ids = [model.body(body.name).id for body in held]
        inside = [i for i in range(model.nbody) if model.body_rootid[i] == model.body_rootid[links[0]]]
        others = np.array(
            [i for i in inside if model.body_gravcomp[i] and i not in links and i not in held_ids], dtype=int
        )
        for field in ("body_mass", "body_ipos", "body_inertia", "body_gravcomp"):
            self._field(field)
        self._field("body_sameframe")[:, links] = 0
        mass, center, inertia, compensation = (self._named(arm, kind) for kind in _LINK_KINDS)
        nominal = np.array(self._variables[mass].nominal)
        n = len(links)

        def write(ids: np.ndarray) -> None:
            masses = self._value(mass, ids)
            ratio = masses / nominal
            shift = self._value(center, ids).reshape(-1, n, 3)
            factors = self._value(inertia, ids).reshape(-1, n, 3)
            share = self._value(compensation, ids)
            self._put("body_mass", links, ids, model.body_mass[links] * ratio)
            self._put("body_ipos", links, ids, model.body_ipos[links] + shift)
            moments = body_shapes.reshaped_moments(model.body_inertia[links], factors)
            self._put("body_inertia", links, ids, moments * ratio[..., None])
            self._put("body_gravcomp", links, ids, share / ratio)
            self._put("body_gravcomp", others, ids, share)
            for body in held:
                self._compensate(body, ids)

        self._writers.append(_Writer(members, write, True))

    def _compensate(self, body: Body, ids: np.ndarray) -> None:
        """Let the arm compensate the nominal weight of what it holds."""
        share = self._value(self._named(body.attached_to, "gravity_compensation"), ids)
        ratio = self._value(f"{body.name}.mass", ids) / body.mass
        self._put("body_gravcomp", [self._model.body(body.name).id], ids, share / ratio)

    def _add_body(self, body: Body, members: tuple[str, ...]) -> None:
        kinds = {self._variables[name].kind for name in members}
        reshapes = bool(kinds & {"size", "cousin"})
        if body.has_mass:
            for field in ("body_mass", "body_ipos", "body_iquat", "body_inertia"):
                self._field(field)
            if body.attached_to:
                self._field("body_gravcomp")
            self._field("body_sameframe")[:, self._model.body(body.name).id] = 0
        geoms = self._geoms(body)
        if reshapes or "center" in kinds:
            # Else a shape that has its middle in the centre of mass would go along with it.
            self._field("geom_sameframe")[:, geoms] = 0
        if reshapes:
            for field in ("geom_size", "geom_pos"):
                self._field(field)
        if "cousin" in kinds:
            for field in ("geom_type", "geom_quat", "geom_rgba", "geom_contype", "geom_conaffinity"):
                self._field(field)

        def write(ids: np.ndarray) -> None:
            size = self._value(f"{body.name}.size", ids) if not body.cable else np.ones((len(ids), 3))
            variant = self._variant(body, ids)
            if body.has_mass:
                self._write_inertia(body, ids, size, variant)
            if reshapes:
                for index in np.unique(variant):
                    self._write_shapes(
                        body, int(index), ids[variant == index], size[variant == index], "cousin" in kinds
                    )

        self._writers.append(_Writer(members, write, True))

    def _variant(self, body: Body, ids: np.ndarray) -> np.ndarray:
        if not body.cousins:
            return np.zeros(len(ids), dtype=int)
        return np.clip(self._value(f"{body.name}.cousin", ids)[:, 0].astype(int), 0, len(body.cousins))

    def _write_inertia(self, body: Body, ids: np.ndarray, size: np.ndarray, variant: np.ndarray) -> None:
        mass = self._value(f"{body.name}.mass", ids)[:, 0]
        center, inertia = np.zeros((len(ids), 3)), np.zeros((len(ids), 3, 3))
        for index in np.unique(variant):
            chosen = variant == index
            shapes = (body.shapes, *body.cousins)[index]
            center[chosen], inertia[chosen] = body_shapes.mass_properties(shapes, mass[chosen], size[chosen])
        moments, turns = body_shapes.principal_frame(inertia)
        moments = body_shapes.reshaped_moments(moments, self._value(f"{body.name}.inertia", ids))
        number = self._model.body(body.name).id
        self._fields["body_mass"][ids, number] = mass
        self._fields["body_ipos"][ids, number] = center + self._value(f"{body.name}.center", ids)
        self._fields["body_iquat"][ids, number] = turns
        self._fields["body_inertia"][ids, number] = moments
        if body.attached_to:
            self._compensate(body, ids)

    def _write_shapes(self, body: Body, variant: int, ids: np.ndarray, size: np.ndarray, kinds: bool) -> None:
        for geom, shape in zip(self._geoms(body), body.variants[variant], strict=True):
            dimensions, positions = body_shapes.scaled(shape, size)
            self._fields["geom_size"][ids, geom] = dimensions
            self._fields["geom_pos"][ids, geom] = positions
            if kinds:
                self._fields["geom_type"][ids, geom] = int(KINDS[shape.kind])
                self._fields["geom_quat"][ids, geom] = shape.orientation
                self._fields["geom_rgba"][ids, geom] = shape.color
                self._fields["geom_contype"][ids, geom] = OBJECT if shape.collides else 0
                self._fields["geom_conaffinity"][ids, geom] = 0xFF if shape.collides else 0

    # Where things are in the model

    def _joints(self, arm: str) -> list[int]:
        mount = next(mount for mount in self._scene.arms if mount.name == arm)
        return [self._model.joint(f"{arm}/{name}").id for name in load_arm(mount.robot).interface.actuators]

    def _motors(self, arm: str) -> list[int]:
        mount = next(mount for mount in self._scene.arms if mount.name == arm)
        return [self._model.actuator(f"{arm}/{name}").id for name in load_arm(mount.robot).interface.actuators]

    def _geoms(self, body: Body) -> list[int]:
        return [self._model.geom(f"{body.name}/{i}").id for i in range(len(body.variants[0]))]
