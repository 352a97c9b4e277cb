"""Isaac Gym's `randomization_params`, read as they are into randomization terms.

The meaning is that of IsaacGymEnvs' code: the second number of a gaussian range is its standard deviation, everything
is relative to the original value, correlated noise is drawn anew where properties are, schedules widen from the
identity. Keys without a meaning here become notes, unknown ones errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from sim.arm_randomization import scene_variables
from sim.randomization_terms import RandomizationTerm
from sim.scene import Scene

_TOP = ("frequency", "observations", "actions", "sim_params", "actor_params")
_PROPERTY = (
    "range",
    "operation",
    "distribution",
    "schedule",
    "schedule_steps",
    "num_buckets",
    "setup_only",
)
_SIGNAL = ("range", "range_correlated", "operation", "distribution", "schedule", "schedule_steps")
_OPERATIONS: dict[str, Literal["add", "scale"]] = {"additive": "add", "scaling": "scale"}
_DISTRIBUTIONS = ("uniform", "loguniform", "gaussian")
_SCHEDULES = ("linear", "constant")
_GROUPS: dict[str, tuple[str, ...]] = {
    "dof_properties": ("lower", "upper", "velocity", "effort", "stiffness", "damping", "friction", "armature"),
    "rigid_body_properties": ("mass", "invMass"),
    "rigid_shape_properties": (
        "friction",
        "rolling_friction",
        "torsion_friction",
        "restitution",
        "compliance",
        "thickness",
    ),
    "tendon_properties": ("stiffness", "damping", "fixed_spring_rest_length", "fixed_lower_limit", "fixed_upper_limit"),
}
_ARM_KINDS = {
    ("dof_properties", "lower"): "joint_lower",
    ("dof_properties", "upper"): "joint_upper",
    ("dof_properties", "effort"): "torque_limit",
    ("dof_properties", "stiffness"): "gain_stiffness",
    ("dof_properties", "damping"): "gain_damping",
    ("dof_properties", "friction"): "joint_friction",
    ("dof_properties", "armature"): "armature",
    ("rigid_body_properties", "mass"): "link_mass",
}
_BODY_KINDS = {
    ("rigid_body_properties", "mass"): "mass",
    ("rigid_shape_properties", "friction"): "friction",
}
_REASONS = {
    "velocity": "the arms' joints have no limit of velocity in the physics",
    "invMass": "it is one over the mass: randomize the mass",
    "restitution": "contacts have no coefficient of restitution: see contact_damping",
    "compliance": "contacts have a time constant: see contact_time",
    "thickness": "shapes are solid",
    "rolling_friction": "contacts do not resist rolling",
    "torsion_friction": "contacts do not resist turning on the spot",
    "friction": "a contact has the friction of the free body in it",
}


def is_isaac_file(path: str | Path) -> bool:
    """Whether a YAML file is a `randomization_params` mapping, or a task's config that holds one."""
    try:
        return _find(yaml.safe_load(Path(path).read_text())) is not None
    except yaml.YAMLError:
        return False  # whoever reads it says what is wrong


def load_isaac_randomization(path: str | Path, scene: Scene) -> tuple[tuple[RandomizationTerm, ...], list[str]]:
    """Terms and notes of a YAML file: of the mapping itself, or of a task's config that holds it.

    Raises:
        ValueError: What is unknown or wrong in it, by its place.
    """
    document = yaml.safe_load(Path(path).read_text())
    found = _find(document)
    if found is None:
        raise ValueError(f"{path}: there are no randomization_params in it")
    try:
        terms, notes = read_isaac_randomization(found, scene)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    task = document.get("task")
    if isinstance(task, Mapping) and task.get("randomize") is False:
        return (), ["task.randomize is false: nothing is randomized"]
    return terms, notes


def read_isaac_randomization(
    params: Mapping[str, Any], scene: Scene, actors: Mapping[str, str] | None = None
) -> tuple[tuple[RandomizationTerm, ...], list[str]]:
    """The terms that stand for `randomization_params`, and notes on what has no meaning here.

    Args:
        params: The mapping, from YAML or a dict.
        scene: Whose arms and bodies the actors are.
        actors: Name of an actor → name of an arm or a body, where they differ. A robot also goes by the name of its
            description, by `robot` and, for Franka's, by `franka`; the only free body by `object`.

    Raises:
        ValueError: What is unknown or wrong, by its place.
    """
    return _Reader(scene, actors or {}).read(params)


def _find(document: Any) -> Mapping[str, Any] | None:
    if not isinstance(document, Mapping):
        return None
    for holder in (document, document.get("task")):
        if isinstance(holder, Mapping) and isinstance(holder.get("randomization_params"), Mapping):
            return holder["randomization_params"]
    return document if set(document) & set(_TOP[1:]) else None


class _Reader:
    """Collects terms and notes."""

    def __init__(self, scene: Scene, actors: Mapping[str, str]) -> None:
        self.scene, self.variables = scene, scene_variables(scene)
        self.arms = [mount.name for mount in scene.arms]
        self.bodies = [body.name for body in scene.bodies]
        self.actors = {**{name: name for name in (*self.arms, *self.bodies)}, **self._aliases(), **actors}
        self.frequency = 1
        self.terms: list[RandomizationTerm] = []
        self.notes: list[str] = []

    def read(self, params: Mapping[str, Any]) -> tuple[tuple[RandomizationTerm, ...], list[str]]:
        _check(params, _TOP, "randomization_params")
        self.frequency = int(params.get("frequency", 1))
        for signal in ("observation", "action"):
            if f"{signal}s" in params:
                self._signal(signal, params[f"{signal}s"])
        self._sim_params(params.get("sim_params", {}))
        for actor, groups in params.get("actor_params", {}).items():
            self._actor(actor, groups)
        return tuple(self.terms), self.notes

    def _aliases(self) -> dict[str, str]:
        aliases = {}
        free = [body.name for body in self.scene.bodies if body.motion == "free" and not body.attached_to]
        if len(free) == 1:
            aliases["object"] = free[0]
        if len(self.scene.arms) == 1:
            mount = self.scene.arms[0]
            names = ["robot", mount.robot] + (["franka"] if mount.robot in ("panda", "fr3") else [])
            aliases.update(dict.fromkeys(names, mount.name))
        return aliases

    # Parts of the file

    def _signal(self, signal: str, entry: Mapping[str, Any]) -> None:
        place = f"{signal}s"
        _check(entry, _SIGNAL, place)
        operation = _one_of(entry, "operation", tuple(_OPERATIONS), place)
        white, correlated = ("offset", "bias") if operation == "additive" else ("scale", "scale_bias")
        term = self._term(entry, place, f"{signal}_{white}", entry.get("range"), "step")
        # Factors are set, not scaled: white and correlated part are added before they multiply the signal.
        self.terms.append(dataclasses.replace(term, operation="set" if operation == "scaling" else "add"))
        if "range_correlated" in entry:
            term = self._term(entry, place, f"{signal}_{correlated}", entry["range_correlated"], "reset")
            self.terms.append(dataclasses.replace(term, operation="add"))

    def _sim_params(self, entry: Mapping[str, Any]) -> None:
        _check(entry, ("gravity", "rest_offset"), "sim_params")
        if "gravity" in entry:
            self._property(entry["gravity"], "sim_params.gravity", "gravity")
        if "rest_offset" in entry:
            self._note("sim_params.rest_offset", "contacts begin where shapes touch")

    def _actor(self, actor: str, groups: Mapping[str, Any]) -> None:
        place = f"actor_params.{actor}"
        if actor not in self.actors:
            known = f"this scene has {', '.join((*self.arms, *self.bodies))}"
            _refuse(place, actor, tuple(self.actors), f"unknown actor; {known}")
        target = self.actors[actor]
        if target not in (*self.arms, *self.bodies):
            raise ValueError(f"{place}: it stands for {target!r}, which is neither an arm nor a body of the scene")
        _check(groups, ("color", "scale", *_GROUPS), place)
        for group, entry in groups.items():
            if group == "color":
                if entry:
                    self._note(f"{place}.color", "looks are randomized by sim.appearance")
            elif group == "scale":
                self._scale(f"{place}.scale", target, entry)
            else:
                _check(entry, _GROUPS[group], f"{place}.{group}")
                for name, settings in entry.items():
                    self._actor_property(f"{place}.{group}.{name}", target, group, name, settings)

    def _scale(self, place: str, target: str, entry: Mapping[str, Any]) -> None:
        name = f"{target}.size"
        if target in self.arms or name not in self.variables:
            self._note(place, "arms and cables keep their size")
        else:
            self._property(entry, place, name, shared=True)

    def _actor_property(self, place: str, target: str, group: str, name: str, entry: Mapping[str, Any]) -> None:
        kinds = _ARM_KINDS if target in self.arms else _BODY_KINDS
        kind = kinds.get((group, name))
        alone = target in self.arms and len(self.arms) == 1
        variable = "" if kind is None else kind if alone else f"{target}.{kind}"
        if group == "tendon_properties":
            self._note(place, "there are no tendons")
        elif group == "dof_properties" and target in self.bodies:
            self._note(place, f"{target!r} has no joints")
        elif variable not in self.variables:
            self._note(place, _REASONS.get(name, f"{target!r} does not move by itself"))
        elif kind in ("gain_stiffness", "gain_damping") and entry.get("operation") == "additive":
            self._note(place, "gains are factors here: use operation: scaling")
        else:
            self._property(entry, place, variable)

    # Terms

    def _property(self, entry: Mapping[str, Any], place: str, variable: str, shared: bool = False) -> None:
        _check(entry, _PROPERTY, place)
        when: Literal["start", "reset"] = "start" if entry.get("setup_only") else "reset"
        if "num_buckets" in entry:
            self._note(f"{place}.num_buckets", "values are not counted in buckets, which only PhysX needs")
        term = self._term(entry, place, variable, entry.get("range"), when)
        self.terms.append(dataclasses.replace(term, shared=shared))

    def _term(
        self,
        entry: Mapping[str, Any],
        place: str,
        variable: str,
        ends: Any,
        when: Literal["start", "reset", "step"],
    ) -> RandomizationTerm:
        if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
            raise ValueError(f"{place}: range is {ends!r}; expected two numbers")
        operation = _OPERATIONS[_one_of(entry, "operation", tuple(_OPERATIONS), place)]
        distribution: Any = _one_of(entry, "distribution", _DISTRIBUTIONS, place)
        schedule: Any = "none"
        steps = int(entry.get("schedule_steps", 0))
        if "schedule" in entry and "schedule_steps" not in entry:
            raise ValueError(f"{place}: a schedule needs schedule_steps")
        if "schedule" in entry and steps > 0:
            schedule = _one_of(entry, "schedule", _SCHEDULES, place)
        try:
            return RandomizationTerm(
                parameter=variable,
                low=float(ends[0]),
                high=float(ends[1]),
                operation=operation,
                distribution=distribution,
                when=when,
                schedule=schedule,
                schedule_steps=steps if schedule != "none" else 0,
                frequency=self.frequency if when == "reset" else 1,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place}: {error}") from error

    def _note(self, place: str, reason: str) -> None:
        self.notes.append(f"{place} does nothing here: {reason}")


def _check(entry: Any, known: Sequence[str], place: str) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{place} is {entry!r}; expected a mapping")
    for key in entry:
        if key not in known:
            _refuse(place, str(key), known, "unknown key")


def _one_of(entry: Mapping[str, Any], key: str, known: Sequence[str], place: str) -> str:
    if key not in entry:
        raise ValueError(f"{place}: {key} is missing; one of {', '.join(known)}")
    if entry[key] not in known:
        raise ValueError(f"{place}: unknown {key} {entry[key]!r}; known: {', '.join(known)}")
    return str(entry[key])


def _refuse(place: str, key: str, known: Sequence[str], problem: str) -> NoReturn:
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    raise ValueError(f"{place}: {problem}: {key!r}; {hint}")
