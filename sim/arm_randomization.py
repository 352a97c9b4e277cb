"""The variables of an arm scene that can be randomized, and how they reach an engine.

Every variable has a nominal value in physical units; a task's terms say how it varies. Those of sensors, loop and
signals are read by the environment; those of the model are written into the engine, which has one method for it.

A variable of an arm or a body is named `<arm>.<kind>` or `<body>.<kind>`; of a scene's only arm it is just `<kind>`.
Where there are several arms, a term that names none is one of every arm: `expand_terms` makes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hardware.descriptions import load_arm
from sim.arm_sensors import OBJECT_VARIABLES, SIGNAL_KINDS, arm_sensor_variables
from sim.engines.base import TORQUE_HISTORY, ArmEngine
from sim.randomization import RandomizationTerm
from sim.scene import ArmMount, Body, Scene

STANDARD_GRAVITY = (0.0, 0.0, -9.81)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """Something that can be randomized."""

    name: str
    """What terms call it."""
    kind: str
    """The name without the arm or body."""
    target: str = ""
    """The arm or body; empty for the scene."""
    where: Literal["model", "push", "loop", "sensor", "signal"]
    """Who reads it: the engine's model, its external forces, or a part of the environment."""
    nominal: tuple[float, ...]
    """Value without randomization."""
    low: float = -np.inf
    """What it is kept above, so that the physics stays one; a multiple of the nominal value for masses."""
    high: float = np.inf
    """What it is kept below."""
    unit: str = "1"
    """Of its value."""
    meaning: str = ""
    """One line for people."""


def scene_variables(scene: Scene, observation_size: int = 0, action_size: int = 0) -> dict[str, Variable]:
    """Every variable by name.

    Args:
        scene: What there is.
        observation_size: D; with it, the disturbances of the observation as a signal are among the variables.
        action_size: A, likewise.
    """
    made = [*_world_variables(scene)]
    for mount in scene.arms:
        made += _named(mount.name, len(scene.arms) > 1, _arm_variables(scene, mount))
    for body in scene.bodies:
        made += _named(body.name, True, _body_variables(scene, body))
    made += [
        Variable(name=name, kind=name, where="sensor", nominal=(0.0,) * size, unit=unit, meaning=meaning, low=low)
        for name, (size, unit, low, meaning) in OBJECT_VARIABLES.items()
    ]
    for signal, size in (("observation", observation_size), ("action", action_size)):
        for kind, (value, meaning) in SIGNAL_KINDS.items():
            if size:
                name = f"{signal}_{kind}"
                made.append(
                    Variable(name=name, kind=name, where="signal", nominal=(value,) * size, meaning=meaning + signal)
                )
    return {variable.name: variable for variable in made}


def nominal_variables(scene: Scene, observation_size: int = 0, action_size: int = 0) -> dict[str, Tensor]:
    """Name → nominal value (size,) of every variable; arguments as in `scene_variables`."""
    variables = scene_variables(scene, observation_size, action_size)
    return {name: torch.tensor(variable.nominal) for name, variable in variables.items()}


def expand_terms(terms: Iterable[RandomizationTerm], scene: Scene) -> tuple[RandomizationTerm, ...]:
    """The terms, those that name no arm made once for each of several arms; both arms draw independently."""
    known = scene_variables(scene)
    expanded: list[RandomizationTerm] = []
    for term in terms:
        names = [f"{mount.name}.{term.parameter}" for mount in scene.arms]
        if term.parameter not in known and all(name in known for name in names):
            expanded += [dataclasses.replace(term, parameter=name) for name in names]
        else:
            expanded.append(term)
    return tuple(expanded)


def values_of_arm(values: Mapping[str, Tensor], scene: Scene, arm: str) -> Mapping[str, Tensor]:
    """The values as if the arm were the only one: its own go by their kind."""
    if len(scene.arms) == 1:
        return values
    start = f"{arm}."
    return {**values, **{name[len(start) :]: value for name, value in values.items() if name.startswith(start)}}


class ModelVariables:
    """The variables of the model and the external forces that a task's terms vary, on their way to an engine."""

    effects: dict[str, str]
    """Name → what the table says of terms that cannot act, or not in all of their range."""

    def __init__(self, engine: ArmEngine, terms: Sequence[RandomizationTerm], also: Collection[str] = ()) -> None:
        """Tell the engine what will vary; everything that another has changed in it is nominal again.

        Args:
            engine: The simulated scenes.
            terms: Of the task, expanded.
            also: Variables that vary although their terms have a zero range, as automatic randomization makes them.
        """
        self._engine = engine
        self._variables = scene_variables(engine.scene)
        varied = {term.parameter: term for term in terms if term.parameter in self._variables}
        varied = {name: term for name, term in varied.items() if name in also or not self._is_identity(term)}
        model = [name for name in varied if self._variables[name].where == "model"]
        self.effects = engine.vary(model)
        self._model = [name for name in model if name not in self.effects]
        self._pushed = [name for name in varied if self._variables[name].where == "push"]
        self._moving = [name for name in self._model if varied[name].when in ("interval", "step")]
        for name in (*self._model, *self._pushed):
            clipped = self._clipped(varied[name])
            if clipped:
                self.effects[name] = clipped

    def begin(self, ids: np.ndarray, values: Mapping[str, Tensor]) -> None:
        """Write the variables of environments `ids` (K,) that begin an episode; before the engine places them."""
        self._write(self._model, ids, values)

    def step(self, values: Mapping[str, Tensor]) -> None:
        """Write what changes in the course of an episode, and the forces of this control period."""
        self._write(self._moving, np.arange(self._engine.num_envs), values)
        for name in self._pushed:
            variable = self._variables[name]
            target = f"{variable.target}/tool" if variable.kind == "push_tool" else variable.target
            self._engine.push(target, values[name].double().numpy())

    def _write(self, names: Sequence[str], ids: np.ndarray, values: Mapping[str, Tensor]) -> None:
        if names and len(ids):
            index = torch.from_numpy(ids)
            self._engine.set_variables(ids, {name: self._bounded(name, values[name][index]) for name in names})

    def _bounded(self, name: str, value: Tensor) -> np.ndarray:
        variable = self._variables[name]
        low, high = _bounds(variable)
        return np.clip(value.double().numpy(), low, high)

    def _is_identity(self, term: RandomizationTerm) -> bool:
        if not term.has_zero_range:
            return False
        nominal = np.array(self._variables[term.parameter].nominal)
        value = {"set": term.low, "scale": nominal * term.low, "add": nominal + term.low}[term.operation]
        return bool(np.all(np.asarray(value, dtype=np.float32) == nominal.astype(np.float32)))

    def _clipped(self, term: RandomizationTerm) -> str:
        """What the table says where a range goes beyond what the physics allows."""
        variable = self._variables[term.parameter]
        nominal, (low, high) = np.array(variable.nominal), _bounds(variable)
        if term.distribution == "gaussian":
            ends = np.array([term.low - 3.0 * term.high, term.low + 3.0 * term.high])
        else:
            ends = np.array([term.low, term.high])
        reached = {
            "set": ends[:, None] + 0.0 * nominal,
            "scale": ends[:, None] * nominal,
            "add": ends[:, None] + nominal,
        }[term.operation]
        if np.all(reached.min(axis=0) >= low - 1e-9) and np.all(reached.max(axis=0) <= high + 1e-9):
            return ""
        return f"varies, kept in [{np.min(low):g}, {np.max(high):g}]"


def _bounds(variable: Variable) -> tuple[np.ndarray, np.ndarray]:
    nominal = np.array(variable.nominal)
    low = variable.low * nominal if variable.kind in ("mass", "link_mass") else np.full_like(nominal, variable.low)
    return low, np.full_like(nominal, variable.high)


# What there is


def _named(target: str, prefixed: bool, made: Iterator[Variable]) -> list[Variable]:
    start = f"{target}." if prefixed else ""
    return [dataclasses.replace(variable, name=start + variable.kind, target=target) for variable in made]


def _model(
    kind: str, nominal: Iterable[float], unit: str, meaning: str, low: float = -np.inf, high: float = np.inf
) -> Variable:
    values = tuple(float(value) for value in nominal)
    return Variable(name=kind, kind=kind, where="model", nominal=values, unit=unit, meaning=meaning, low=low, high=high)


def _loop(kind: str, nominal: float, unit: str, meaning: str) -> Variable:
    return Variable(name=kind, kind=kind, where="loop", nominal=(nominal,), unit=unit, meaning=meaning)


def _push(kind: str, meaning: str) -> Variable:
    return Variable(name=kind, kind=kind, where="push", nominal=(0.0,) * 3, unit="N", meaning=meaning)


def _world_variables(scene: Scene) -> Iterator[Variable]:
    yield _loop("action_latency", 0.0, "s", "age of a command when it arrives, at most a control period")
    yield _loop("observation_latency", 0.0, "s", "age of what is observed, at most a control period")
    yield _model("gravity", STANDARD_GRAVITY, "m/s²", "acceleration of gravity; the arms compensate what there is")
    yield _model(
        "contact_time",
        [max(scene.contact_time, 2.0 * scene.timestep)],
        "s",
        "time constant of contacts: shorter is stiffer",
        low=2.0 * scene.timestep,
    )
    yield _model("contact_damping", [1.0], "1", "damping ratio of contacts: below 1 they bounce", low=0.05)


def _arm_variables(scene: Scene, mount: ArmMount) -> Iterator[Variable]:
    description = load_arm(mount.robot)
    n = description.num_joints
    limits = description.interface.limits
    yield _model(
        "link_mass", description.link_masses, "kg", "masses; inertias go along, compensation does not", low=0.05
    )
    yield _model("link_center", [0.0] * (3 * n), "m", "shifts of centres of mass, in the links' frames")
    yield _model(
        "link_inertia", [1.0] * (3 * n), "1", "factors of the second moments along the principal axes", low=0.05
    )
    yield _model("payload", [0.0], "kg", "load at the tool's point that the robot knows nothing of", low=0.0)
    yield _model("gravity_compensation", [1.0], "1", "share of the nominal weights that the robot compensates")
    yield _model("joint_damping", description.joint_damping, "N m s/rad", "viscous friction", low=0.0)
    yield _model("joint_friction", description.joint_friction, "N m", "Coulomb friction", low=0.0)
    yield _model("armature", description.armature, "kg m²", "inertia of the drives at the joints", low=0.0)
    yield _model("joint_lower", [lower for lower, _ in limits["position"]], "rad", "lower ends of the joints")
    yield _model("joint_upper", [upper for _, upper in limits["position"]], "rad", "upper ends of the joints")
    torque = [upper for _, upper in limits["torque"]]
    yield _model("torque_limit", torque, "N m", "most that the drives give", low=0.0)
    longest = TORQUE_HISTORY * scene.timestep
    yield _model("torque_latency", [0.0], "s", "age of torques when they act", low=0.0, high=longest)
    if mount.gripper and description.gripper is not None:
        force = description.gripper.max_force
        yield _model("gripper_force", [force], "N", "force of the gripper and stiffness of its drive", low=0.0)
    yield _push("push_tool", "force on the tool's point, in the world")
    yield _loop("motor_strength", 1.0, "1", "factor of the controllers' torques")
    yield _loop("gain_stiffness", 1.0, "1", "factor of the controllers' stiffness")
    yield _loop("gain_damping", 1.0, "1", "factor of the controllers' damping")
    for kind, (size, unit, low, meaning) in arm_sensor_variables(n).items():
        yield Variable(name=kind, kind=kind, where="sensor", nominal=(0.0,) * size, unit=unit, low=low, meaning=meaning)


def _body_variables(scene: Scene, body: Body) -> Iterator[Variable]:
    if body.has_mass:
        yield _model("mass", [body.mass], "kg", "mass; the inertia goes along", low=0.01)
        yield _model("center", [0.0] * 3, "m", "shift of the centre of mass, in the body's frame")
        yield _model("inertia", [1.0] * 3, "1", "factors of the second moments along the principal axes", low=0.05)
        yield _push("push", "force on the centre of mass, in the world")
    if any(shape.collides for shape in body.shapes):
        yield _model("friction", [body.friction], "1", "Coulomb coefficient", low=0.0)
    if not body.cable:
        yield _model("size", [1.0] * 3, "1", "factors along the body's axes; the mass stays", low=0.1)
    elif next(other for other in scene.bodies if other.cable == body.cable) is not body:
        yield _model("cable_stiffness", [body.cable_stiffness], "N m/rad", "of the joint to the body before", low=0.0)
        yield _model("cable_damping", [body.cable_damping], "N m s/rad", "likewise", low=0.0)
    if body.cousins:
        count = len(body.cousins)
        meaning = f"rounded down: 0 its own shapes, 1 to {count} those of a cousin"
        yield _model("cousin", [0.0], "1", meaning, low=0.0, high=count + 1.0)
