"""Isaac Gym's files mean here what they mean there: every number, every key, and what is not known is said."""

import math

import pytest
import torch
import yaml

import sim
from sim.arm_randomization import nominal_variables
from sim.arm_sensors import disturb
from sim.factory import find_randomization
from sim.isaac_randomization import is_isaac_file, load_isaac_randomization, read_isaac_randomization
from sim.randomization import RandomizationTerm, Randomizer
from sim.scene import ArmMount, Body, Scene, Shape

BOX = (Shape(kind="box", size=(0.02, 0.02, 0.02)),)
SCENE = Scene(
    bodies=(
        Body(name="cube", shapes=BOX, position=(0.5, 0.0, 0.02)),
        Body(name="bin", shapes=BOX, motion="fixed", position=(0.5, 0.3, 0.02)),
    )
)
FILE = """
task:
  randomize: True
  randomization_params:
    frequency: 720
    observations:
      range: [0, .002]
      range_correlated: [0, .001]
      operation: "additive"
      distribution: "gaussian"
      schedule: "linear"
      schedule_steps: 40000
    actions:
      range: [0., .05]
      range_correlated: [0, .015]
      operation: "additive"
      distribution: "gaussian"
    sim_params:
      gravity:
        range: [0, 0.4]
        operation: "additive"
        distribution: "gaussian"
        schedule: "linear"
        schedule_steps: 40000
    actor_params:
      franka:
        color: True
        dof_properties:
          damping: {range: [0.3, 3.0], operation: "scaling", distribution: "loguniform"}
          stiffness: {range: [0.75, 1.5], operation: "scaling", distribution: "loguniform"}
          lower: {range: [0, 0.01], operation: "additive", distribution: "gaussian"}
          friction: {range: [0.5, 1.5], operation: "scaling", distribution: "uniform"}
          velocity: {range: [0.9, 1.1], operation: "scaling", distribution: "uniform"}
        rigid_body_properties:
          mass: {range: [0.5, 1.5], operation: "scaling", distribution: "uniform", setup_only: True}
        rigid_shape_properties:
          friction: {num_buckets: 250, range: [0.7, 1.3], operation: "scaling", distribution: "uniform"}
        tendon_properties:
          stiffness: {range: [0.75, 1.5], operation: "scaling", distribution: "loguniform"}
      cube:
        scale: {range: [0.95, 1.05], operation: "scaling", distribution: "uniform", setup_only: True}
        rigid_body_properties:
          mass: {range: [0.5, 1.5], operation: "scaling", distribution: "uniform"}
        rigid_shape_properties:
          friction: {num_buckets: 250, range: [0.7, 1.3], operation: "scaling", distribution: "uniform"}
"""
PARAMS = yaml.safe_load(FILE)["task"]["randomization_params"]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "isaac.yaml"
    file.write_text(FILE)
    return file


def by_name(terms):
    return {term.parameter: term for term in terms}


def one(place, **changed):
    """A file with a single entry at `place`."""
    entry = {"range": [0.5, 1.5], "operation": "scaling", "distribution": "uniform", **changed}
    for key in reversed(place.split(".")):
        entry = {key: entry}
    return entry


def drawn(params, count=4000, scene=SCENE, steps=0, observations=3):
    terms, _ = read_isaac_randomization(params, scene)
    randomizer = Randomizer(nominal_variables(scene, observations, 2), terms, count, torch.Generator().manual_seed(0))
    randomizer.progress = steps
    randomizer.reset(torch.ones(count, dtype=torch.bool))
    return randomizer


def test_a_file_becomes_terms_of_the_variables_that_its_keys_name(path):
    terms, _ = load_isaac_randomization(path, SCENE)
    found = by_name(terms)
    assert set(found) == {
        "observation_offset", "observation_bias", "action_offset", "action_bias", "gravity", "gain_damping",
        "gain_stiffness", "joint_lower", "joint_friction", "link_mass", "cube.size", "cube.mass", "cube.friction",
    }  # fmt: skip
    assert found["link_mass"] == RandomizationTerm(
        parameter="link_mass", low=0.5, high=1.5, operation="scale", when="start"
    )
    assert found["gravity"] == RandomizationTerm(
        parameter="gravity", low=0.0, high=0.4, distribution="gaussian", operation="add", frequency=720,
        schedule="linear", schedule_steps=40000,
    )  # fmt: skip
    assert found["cube.size"].shared and found["cube.size"].when == "start"
    assert (found["observation_offset"].when, found["observation_bias"].when) == ("step", "reset")


def test_notes_name_every_key_that_does_nothing_here():
    _, notes = read_isaac_randomization(PARAMS, SCENE)
    places = {note.split(" does nothing here: ")[0].removeprefix("actor_params.") for note in notes}
    assert places == {
        "franka.color",
        "franka.dof_properties.velocity",
        "franka.rigid_shape_properties.friction",
        "franka.tendon_properties.stiffness",
        "cube.rigid_shape_properties.friction.num_buckets",
    }


def test_the_second_number_of_a_gaussian_is_the_deviation_and_white_and_correlated_noise_add():
    made = drawn({"observations": {**PARAMS["observations"], "range": [0.01, 0.04], "schedule_steps": 0}})
    made.step(0.1)
    first = disturb(torch.zeros(4000, 3), made.values, "observation")
    made.step(0.1)
    second = disturb(torch.zeros(4000, 3), made.values, "observation")
    assert float(first.mean()) == pytest.approx(0.01, abs=0.002)
    assert float(first.std()) == pytest.approx(math.hypot(0.04, 0.001), rel=0.03)
    # What stays from step to step is the correlated part.
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    assert covariance == pytest.approx(0.001**2, abs=5e-5)
    strong = drawn({"actions": {**PARAMS["actions"], "range": [0.0, 0.0], "range_correlated": [0.0, 0.5]}})
    before = disturb(torch.zeros(4000, 2), strong.values, "action")
    strong.step(0.1)
    assert float(before.std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(before, disturb(torch.zeros(4000, 2), strong.values, "action"))


def test_scaling_noise_multiplies_by_white_plus_correlated_part():
    entry = {"range": [1.0, 0.2], "range_correlated": [0.0, 0.1], "operation": "scaling", "distribution": "gaussian"}
    made = drawn({"observations": entry})
    signal = torch.full((4000, 3), 5.0)
    noisy = disturb(signal, made.values, "observation")
    assert float(noisy.mean()) == pytest.approx(5.0, rel=0.01)
    assert float(noisy.std()) == pytest.approx(5.0 * math.hypot(0.2, 0.1), rel=0.03)


@pytest.mark.parametrize(("steps", "low", "high"), [(0, 1.0, 1.0), (500, 0.65, 2.0), (1000, 0.3, 3.0)])
def test_a_linear_schedule_widens_scaling_from_one(steps, low, high):
    place = "actor_params.cube.rigid_body_properties.mass"
    options = {"distribution": "loguniform", "schedule": "linear", "schedule_steps": 1000}
    factor = drawn(one(place, range=[0.3, 3.0], **options), steps=steps).values["cube.mass"] / 0.1
    assert float(factor.min()) == pytest.approx(low, abs=0.01)
    assert float(factor.max()) == pytest.approx(high, abs=0.02)


def test_a_constant_schedule_is_off_until_its_steps_have_passed():
    place, options = "sim_params.gravity", {"operation": "additive", "schedule": "constant", "schedule_steps": 1000}
    before = drawn(one(place, **options), steps=999).values["gravity"]
    after = drawn(one(place, **options), steps=1000).values["gravity"]
    assert torch.equal(before, torch.tensor([0.0, 0.0, -9.81]).expand(4000, 3))
    assert float(after[:, 0].min()) >= 0.5 and float(after[:, 2].max()) <= -9.81 + 1.5


def test_properties_are_drawn_anew_only_when_the_frequency_has_passed():
    params = {"frequency": 3, **one("actor_params.cube.rigid_body_properties.mass")}
    made = drawn(params, count=8)
    everywhere = torch.ones(8, dtype=torch.bool)
    first = made.values["cube.mass"].clone()
    assert len(first.unique()) == 8
    for _ in range(2):
        made.step(0.1)
        made.reset(everywhere)
        assert torch.equal(made.values["cube.mass"], first)
    made.step(0.1)
    made.reset(everywhere)
    second = made.values["cube.mass"].clone()
    assert not torch.equal(second, first)
    made.reset(everywhere)
    assert torch.equal(made.values["cube.mass"], second)


def test_two_actors_keep_originals_of_their_own():
    twins = Scene(
        arms=(ArmMount(name="left"), ArmMount(name="right", robot="ur5e", position=(0.0, 1.0, 0.0))),
        bodies=(Body(name="light", shapes=BOX, mass=0.1), Body(name="heavy", shapes=BOX, mass=2.0)),
    )
    entry = {"range": [0.9, 1.1], "operation": "scaling", "distribution": "uniform"}
    actors = ("left", "right", "light", "heavy")
    params = {"actor_params": {actor: {"rigid_body_properties": {"mass": dict(entry)}} for actor in actors}}
    values = drawn(params, scene=twins).values
    for name in ("left.link_mass", "right.link_mass", "light.mass", "heavy.mass"):
        factor = values[name] / nominal_variables(twins)[name]
        assert 0.899 < float(factor.min()) < 0.905 and 1.095 < float(factor.max()) < 1.101


def test_actors_go_by_their_own_name_a_usual_one_or_one_that_is_given():
    for actor in ("arm", "panda", "franka", "robot"):
        terms, _ = read_isaac_randomization(one(f"actor_params.{actor}.dof_properties.armature"), SCENE)
        assert [term.parameter for term in terms] == ["armature"]
    terms, _ = read_isaac_randomization(one("actor_params.object.rigid_body_properties.mass"), SCENE)
    assert [term.parameter for term in terms] == ["cube.mass"]
    terms, _ = read_isaac_randomization(one("actor_params.hand.dof_properties.effort"), SCENE, {"hand": "arm"})
    assert [term.parameter for term in terms] == ["torque_limit"]


CUBE = "actor_params.cube.rigid_body_properties.mass"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"observation": {}}, "randomization_params: unknown key: 'observation'; did you mean 'observations'"),
        (one("actor_params.cub.scale"), r"actor_params\.cub: unknown actor; this scene has arm, cube, bin.*'cube'"),
        (one("actor_params.cube.rigid_body_propertys.mass"), "unknown key: 'rigid_body_propertys'.*'rigid_body_prop"),
        (one("actor_params.cube.rigid_body_properties.maas"), "unknown key: 'maas'; did you mean 'mass'"),
        (one("sim_params.gravty"), "sim_params: unknown key: 'gravty'; did you mean 'gravity'"),
        (one(CUBE, rnge=[0, 1]), "unknown key: 'rnge'; did you mean 'range'"),
        (one(CUBE, operation="scale"), "unknown operation 'scale'; known: additive, scaling"),
        (one(CUBE, distribution="normal"), "unknown distribution 'normal'; known: uniform, loguniform, gaussian"),
        (one(CUBE, range=[1.0]), r"range is \[1.0\]; expected two numbers"),
        (one(CUBE, range=["a", "b"]), "could not convert"),
        (one(CUBE, schedule="linear"), "a schedule needs schedule_steps"),
        ({"actor_params": {"cube": {"scale": 3}}}, "is 3; expected a mapping"),
    ],
)
def test_what_is_unknown_or_wrong_is_an_error_that_names_its_place(params, message):
    with pytest.raises(ValueError, match=message):
        read_isaac_randomization(params, SCENE)


def test_what_cannot_act_becomes_a_note():
    for place in (
        "actor_params.bin.rigid_body_properties.mass",
        "actor_params.cube.dof_properties.damping",
        "actor_params.cube.rigid_shape_properties.restitution",
        "actor_params.arm.scale",
        "sim_params.rest_offset",
    ):
        terms, notes = read_isaac_randomization(one(place), SCENE)
        assert terms == () and len(notes) == 1 and notes[0].startswith(place)
    terms, notes = read_isaac_randomization(one("actor_params.arm.dof_properties.damping", operation="additive"), SCENE)
    assert terms == () and "use operation: scaling" in notes[0]


def test_the_command_line_takes_such_a_file(path, tmp_path, capsys):
    assert is_isaac_file(path)
    terms = find_randomization(path, (), SCENE)
    assert len(terms) == 13
    assert "tendon_properties.stiffness does nothing here: there are no tendons" in capsys.readouterr().err
    bare = tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    assert find_randomization(bare, (), SCENE) == terms
    off = tmp_path / "off.yaml"
    off.write_text(FILE.replace("randomize: True", "randomize: False"))
    assert find_randomization(off, (), SCENE) == ()
    with pytest.raises(ValueError, match=r"expected a list of randomization terms, got dict"):
        find_randomization(path, ())  # a quadrotor has no such scene


def test_an_environment_runs_on_such_a_file(path):
    text = FILE.replace("      cube:", "      cube:\n        color: True")
    path.write_text(text.replace("schedule_steps: 40000", "schedule_steps: 1"))
    env = sim.make("arm-pick-lift", num_envs=3, randomization=path)
    plain = sim.make("arm-pick-lift", num_envs=3, randomization="none")
    assert {row["effect"] for row in env.randomization_table()} == {"varies"}
    first, same = env.reset(seed=1)["obs"], plain.reset(seed=1)["obs"]
    assert float((first - same).abs().max()) > 1e-4
    for _ in range(3):
        obs, *_ = env.step(torch.zeros(3, env.num_actions))
    assert torch.isfinite(obs["obs"]).all()
