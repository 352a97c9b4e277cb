"""Every variable of an arm scene moves the physics, in the right way, and none of them leaves a trace."""

import dataclasses

import mujoco
import numpy as np
import pytest
import torch

from sim.arm_randomization import ModelVariables, expand_terms, nominal_variables, scene_variables, values_of_arm
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.randomization import RandomizationTerm, Randomizer
from sim.scene import ArmMount, Body, Scene, Shape

HOME = np.array([0.0, -0.5, 0.0, -2.3, 0.0, 1.8, 0.8])
BALL = (Shape(kind="sphere", size=(0.025,)),)
HAMMER = (
    Shape(kind="box", size=(0.03, 0.015, 0.015)),
    Shape(kind="cylinder", size=(0.008, 0.03), position=(0.0, 0.0, 0.03), orientation=(0.9238795, 0.3826834, 0, 0)),
)
CUBE = Body(
    name="cube",
    shapes=(Shape(kind="box", size=(0.02, 0.03, 0.025)),),
    position=(0.5, 0.2, 0.032),
    orientation=(0.995004, 0.0998334, 0.0, 0.0),
    cousins=(BALL, HAMMER),
)
GRASPING = Scene(
    bodies=(CUBE, Body(name="wall", shapes=BALL, motion="fixed", position=(0.5, 0.225, 0.02))),
    contact_time=0.02,
)


def _segment(index, **options):
    shape = Shape(kind="capsule", size=(0.008, 0.02))
    return Body(
        name=f"rope{index}", shapes=(shape,), cable="rope", cable_stiffness=0.05, cable_damping=0.002, **options
    )


HOLDING = Scene(
    arms=(ArmMount(gripper=False),),
    bodies=(
        Body(name="peg", shapes=(Shape(kind="box", size=(0.01, 0.01, 0.03), position=(0, 0, 0.03)),),
             mass=0.2, attached_to="arm"),
        Body(name="plate", shapes=(Shape(kind="box", size=(0.1, 0.1, 0.01)),), motion="placed"),
        _segment(0, mass=0.03, position=(0.5, -0.3, 0.012), orientation=(0.70710678, 0.0, 0.70710678, 0.0)),
        _segment(1, mass=0.03),
    ),
)  # fmt: skip
SCENES = {"grasping": GRASPING, "holding": HOLDING}
CHANGES = {
    "gravity": [1.0, 0.0, -9.0], "contact_time": [0.04], "contact_damping": [0.3], "link_center": [0.02] * 21,
    "payload": [1.0], "gravity_compensation": [0.8], "torque_limit": [0.5] * 7, "torque_latency": [0.01],
    "joint_lower": HOME + 0.1, "joint_upper": HOME - 0.1, "center": [0.005, 0.01, -0.004], "cousin": [1.0],
    "push_tool": [30.0, 10.0, -20.0], "push": [0.3, 0.5, 0.1], "inertia": [8.0, 5.0, 6.0],
}  # fmt: skip
"""Values off the nominal ones; 1.5 times them for all others."""
STEPS = 40


@pytest.fixture(scope="module", params=list(SCENES))
def engine(request):
    return _engine(SCENES[request.param])


@pytest.fixture(scope="module")
def grasping():
    return _engine(GRASPING)


def _engine(scene, count=3):
    return MujocoEngine(scene, count)


def place(engine, joints=HOME, **poses):
    count = engine.num_envs
    for body in engine.scene.bodies:
        if body.motion == "placed":
            # Where the peg's end presses against it.
            end = engine.kinematics("arm").tool_position[0] if not body.attached_to else 0.0
            poses[body.name] = np.tile([*(end + [0.0, 0.0, -0.0695]), 1.0, 0.0, 0.0, 0.0], (count, 1))
    engine.place(np.arange(count), Placement(joints={"arm": np.tile(joints, (count, 1))}, poses=poses))


def run(engine, steps=STEPS, torque=4.0, forces=None):
    """Positions (steps, N, nq) of everything that moves, under torques, a closing gripper and pushed bodies."""
    place(engine)  # twice: a placed body stands where the tool is
    place(engine)
    for name, force in (forces or {}).items():
        engine.push(name, force)
    positions = []
    for step in range(steps):
        torques = torque * np.cos(0.2 * step + np.arange(7.0))
        widths = np.full(engine.num_envs, 0.02)
        engine.substep({"arm": np.tile(torques, (engine.num_envs, 1))}, {"arm": widths})
        positions.append(engine.batch.bind("qpos").copy())
    return np.array(positions)


def usual_forces(engine):
    """Pushes that make bodies slide, so that friction counts."""
    free = [body.name for body in engine.scene.bodies if body.motion == "free" and not body.attached_to]
    return {name: np.tile([0.4, 0.3, 0.0], (engine.num_envs, 1)) for name in free}


def changed_value(variable):
    value = CHANGES.get(variable.kind)
    return np.array(variable.nominal) * 1.5 if value is None else np.array(value, dtype=float)


def rows(engine, variable, value):
    """Nominal everywhere but in environment 1."""
    made = np.tile(variable.nominal, (engine.num_envs, 1))
    made[1] = value
    return made


PHYSICAL = [
    (name, variable.name)
    for name, scene in SCENES.items()
    for variable in scene_variables(scene).values()
    if variable.where in ("model", "push")
]
INERT = {("grasping", "wall.friction")}
"""A contact has the friction of the free body in it, and nothing else touches the wall."""


@pytest.fixture(scope="module")
def engines():
    return {name: _engine(scene) for name, scene in SCENES.items()}


@pytest.fixture(scope="module")
def untouched(engines):
    """Trajectories of engines in which nothing has ever varied."""
    return {name: run(_engine(engine.scene), forces=usual_forces(engine)) for name, engine in engines.items()}


@pytest.mark.parametrize(("scene", "name"), PHYSICAL, ids=[f"{scene}:{name}" for scene, name in PHYSICAL])
def test_every_variable_changes_the_trajectory_where_it_is_off_its_nominal_value(engines, untouched, scene, name):
    engine = engines[scene]
    variable = scene_variables(engine.scene)[name]
    forces = usual_forces(engine)
    if variable.where == "push":
        target = "arm/tool" if variable.kind == "push_tool" else variable.target
        forces[target] = forces.get(target, 0.0) + rows(engine, variable, changed_value(variable))
        assert engine.vary([]) == {}
    else:
        assert engine.vary([name]) == {}
        engine.set_variables(np.arange(3), {name: rows(engine, variable, changed_value(variable))})
    trajectory = run(engine, forces=forces)
    assert np.isfinite(trajectory).all() and not engine.failed.any()
    # Where the values are nominal, the physics is as if the variable did not exist.
    np.testing.assert_allclose(trajectory[:, [0, 2]], untouched[scene][:, [0, 2]], atol=2e-6)
    moved = np.abs(trajectory[:, 1] - trajectory[:, 0]).max()
    if (scene, name) in INERT:
        assert moved == 0.0
    else:
        assert moved > 2e-5, f"{name} does nothing: {moved}"


def test_what_varied_before_is_nominal_again_for_the_next_user(engines, untouched):
    for name, engine in engines.items():
        variables = [v for v in scene_variables(engine.scene).values() if v.where == "model"]
        engine.vary([v.name for v in variables])
        engine.set_variables(np.arange(3), {v.name: np.tile(changed_value(v), (3, 1)) for v in variables})
        engine.vary([])
        assert np.array_equal(run(engine, forces=usual_forces(engine)), untouched[name])


def test_nothing_compounds_over_fifty_writes_and_what_is_not_written_stays(engines):
    generator = np.random.default_rng(0)
    for engine in engines.values():
        variables = [v for v in scene_variables(engine.scene).values() if v.where == "model"]
        engine.vary([v.name for v in variables])
        nominal = {v.name: np.tile(v.nominal, (3, 1)) for v in variables}
        everywhere = np.arange(3)
        engine.set_variables(everywhere, nominal)
        before = fields(engine)
        for _ in range(50):
            draw = {v.name: _between(generator, v, 2) for v in variables}
            engine.set_variables(np.array([0, 2]), draw)
        after = fields(engine)
        assert all(np.array_equal(before[name][1], after[name][1]) for name in before)
        assert any(not np.array_equal(before[name][0], after[name][0]) for name in before)
        engine.set_variables(everywhere, nominal)
        for name, values in fields(engine).items():
            assert np.array_equal(values, before[name]), name


def _between(generator, variable, count):
    nominal, changed = np.array(variable.nominal), changed_value(variable)
    return nominal + generator.random((count, len(nominal))) * (changed - nominal)


def fields(engine):
    """All that differs between environments, and what is derived from it."""
    names = [
        "body_mass", "body_ipos", "body_iquat", "body_inertia", "body_gravcomp", "body_subtreemass", "body_invweight0",
        "dof_M0", "dof_armature", "dof_damping", "dof_frictionloss", "geom_size", "geom_pos", "geom_type",
        "geom_rbound", "geom_friction", "geom_solref", "actuator_gainprm", "actuator_forcerange", "actuator_delay",
        "jnt_range", "jnt_stiffness",
    ]  # fmt: skip
    models = [engine.batch.get_model(i) for i in range(engine.num_envs)]
    return {name: np.array([getattr(model, name) for model in models]) for name in names}


# The right way


def built(scene, **changes):
    """The scene with a cube that is built with other properties."""
    cube = dataclasses.replace(scene.body("cube"), cousins=(), **changes)
    return dataclasses.replace(scene, bodies=(cube, *[b for b in scene.bodies if b.name != "cube"]))


@pytest.mark.parametrize(
    ("values", "equivalent"),
    [
        ({"cube.mass": [0.35]}, built(GRASPING, mass=0.35)),
        ({"cube.friction": [0.2]}, built(GRASPING, friction=0.2)),
        (
            {"cube.size": [1.2, 0.8, 1.5], "cube.mass": [0.2]},
            built(GRASPING, shapes=(Shape(kind="box", size=(0.024, 0.024, 0.0375)),), mass=0.2),
        ),
        ({"cube.cousin": [1.9]}, built(GRASPING, shapes=BALL)),
        ({"cube.cousin": [2.0]}, built(GRASPING, shapes=HAMMER)),
        ({"contact_time": [0.05]}, dataclasses.replace(GRASPING, contact_time=0.05)),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_variable_makes_the_same_physics_as_a_scene_that_is_built_so(grasping, values, equivalent):
    grasping.vary(list(values))
    grasping.set_variables(np.arange(3), {name: np.tile(value, (3, 1)) for name, value in values.items()})
    other = _engine(equivalent, 1)
    difference = run(grasping, forces=usual_forces(grasping))[:, :1] - run(other, forces=usual_forces(other))
    assert np.abs(difference).max() < 1e-5


@pytest.mark.parametrize("seed", range(8))
def test_inertias_stay_those_of_real_bodies_and_masses_scale_them(engines, seed):
    generator = np.random.default_rng(seed)
    for engine in engines.values():
        kinds = ("mass", "center", "inertia", "size", "cousin", "link_mass", "link_center", "link_inertia")
        variables = [v for v in scene_variables(engine.scene).values() if v.kind in kinds]
        values = {}
        for v in variables:
            wild = {"center": (-0.1, 0.1), "link_center": (-0.2, 0.2), "cousin": (0.0, 3.0)}.get(v.kind, (0.06, 6.0))
            values[v.name] = generator.uniform(*wild, (3, len(v.nominal)))
        engine.vary(list(values))
        engine.set_variables(np.arange(3), values)
        for i in range(3):
            model = engine.batch.get_model(i)
            moments = model.body_inertia[model.body_mass > 0]
            moments = moments[moments.sum(axis=1) > 0]
            assert (moments > 0).all()
            # No moment exceeds the sum of the others: the second moments of mass are positive.
            assert (2.0 * moments.max(axis=1) <= moments.sum(axis=1) * (1.0 + 1e-9)).all()
            data = mujoco.MjData(model)
            mujoco.mj_forward(model, data)
            full = np.zeros((model.nv, model.nv))
            mujoco.mj_fullM(model, data, full)
            assert np.linalg.eigvalsh(full).min() > 0
    light, heavy = engines["grasping"], scene_variables(GRASPING)["cube.mass"]
    light.vary(["cube.mass"])
    light.set_variables(np.arange(3), {"cube.mass": np.array([[0.1], [0.2], [0.3]])})
    inertia = light.batch.expand("body_inertia")[:, light.model.body("cube").id]
    np.testing.assert_allclose(inertia / inertia[0], np.tile([[1.0], [2.0], [3.0]], 3), rtol=1e-12)
    assert heavy.nominal == (0.1,)


def test_shapes_in_other_sizes_have_the_mass_properties_that_mujoco_integrates(grasping):
    grasping.vary(["cube.cousin", "cube.size", "cube.mass"])
    size = np.array([[1.3, 0.9, 1.1], [0.7, 0.7, 0.7], [1.0, 1.4, 0.8]])
    for variant, shapes in enumerate((CUBE.shapes, BALL, HAMMER)):
        grasping.set_variables(
            np.arange(3),
            {"cube.cousin": np.full((3, 1), float(variant)), "cube.size": size, "cube.mass": np.full((3, 1), 0.4)},
        )
        for i in range(3):
            model = grasping.batch.get_model(i)
            body = model.body("cube").id
            spec = mujoco.MjSpec()
            lump = spec.worldbody.add_body()
            for k in range(len(shapes)):
                geom = model.geom(f"cube/{k}").id
                lump.add_geom(
                    type=mujoco.mjtGeom(int(model.geom_type[geom])), size=model.geom_size[geom],
                    pos=model.geom_pos[geom], quat=model.geom_quat[geom], density=1000.0,
                )  # fmt: skip
            independent = spec.compile()
            scale = 0.4 / independent.body_mass[1]
            np.testing.assert_allclose(model.body_ipos[body], independent.body_ipos[1], atol=1e-9)
            ours, theirs = _full_inertia(model, body), scale * _full_inertia(independent, 1)
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-12)


def _full_inertia(model, body):
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.body_iquat[body])
    turn = turn.reshape(3, 3)
    return turn @ np.diag(model.body_inertia[body]) @ turn.T


def test_a_cube_whose_centre_of_mass_is_beyond_its_edge_tips_over(grasping):
    upright = dataclasses.replace(CUBE, orientation=(1.0, 0.0, 0.0, 0.0), position=(0.5, -0.2, 0.025), cousins=())
    engine = _engine(dataclasses.replace(GRASPING, bodies=(upright,)), 2)
    engine.vary(["cube.center"])
    engine.set_variables(np.arange(2), {"cube.center": np.array([[0.0, 0.0, 0.0], [0.024, 0.0, 0.0]])})
    run(engine, steps=150)
    tilt = np.abs(engine.pose("cube")[:, 5])  # about y
    assert tilt[0] < 1e-3 and tilt[1] > 0.2


def test_the_robot_compensates_the_nominal_weights_only(grasping):
    def sag(name, value):
        grasping.vary([name])
        grasping.set_variables(np.arange(3), {name: np.tile(value, (3, 1))})
        before = run(grasping, steps=1, torque=0.0)[0, 0, :7]
        return np.abs(run(grasping, steps=100, torque=0.0)[-1, 0, :7] - before).max()

    nominal = np.array(scene_variables(GRASPING)["link_mass"].nominal)
    assert sag("gravity", [0.0, 0.0, -12.0]) < 1e-3  # the closing fingers shake it
    assert sag("link_mass", nominal) < 1e-3
    assert sag("link_mass", 1.3 * nominal) > 0.01
    assert sag("payload", [2.0]) > 0.01
    assert sag("gravity_compensation", [0.7]) > 0.01


def test_a_torque_acts_later_by_its_latency(grasping):
    grasping.vary(["torque_latency"])
    grasping.set_variables(np.arange(3), {"torque_latency": np.array([[0.0], [0.006], [0.016]])})
    place(grasping)
    speeds = []
    for _ in range(20):
        grasping.substep({"arm": np.full((3, 7), 8.0)}, {"arm": np.full(3, 0.08)})
        speeds.append(np.abs(grasping.batch.bind("qvel")[:, :7]).max(axis=1))
    first = (np.array(speeds) > 1e-4).argmax(axis=0)
    assert (first - first[0]).tolist() == [0, 3, 8]


def test_a_push_is_a_force_on_the_centre_of_mass_until_the_next_one(grasping):
    grasping.vary(["gravity", "cube.center"])
    still = {"gravity": np.zeros((3, 3)), "cube.center": np.tile([0.01, 0.0, 0.0], (3, 1))}
    grasping.set_variables(np.arange(3), still)
    place(grasping, cube=np.tile([0.5, -0.3, 0.3, 1.0, 0.0, 0.0, 0.0], (3, 1)))
    grasping.push("cube", np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.0, 1.0]]))
    for _ in range(10):
        grasping.substep({"arm": np.zeros((3, 7))}, {"arm": np.full(3, 0.08)})
    twist = grasping.twist("cube")
    np.testing.assert_allclose(twist[:, 2], np.array([0.0, 0.5, 1.0]) / 0.1 * 0.02, atol=1e-9)
    np.testing.assert_allclose(twist[:, 3:], 0.0, atol=1e-9)
    grasping.push("cube", np.zeros((3, 3)))
    grasping.substep({"arm": np.zeros((3, 7))}, {"arm": np.full(3, 0.08)})
    np.testing.assert_allclose(grasping.twist("cube"), twist, atol=1e-9)


# From terms to the engine


def term(parameter, low, high, **options):
    return RandomizationTerm(parameter=parameter, low=low, high=high, **options)


def drawn(engine, *terms, seed=0):
    variables = ModelVariables(engine, terms)
    randomizer = Randomizer(
        nominal_variables(engine.scene), terms, engine.num_envs, torch.Generator().manual_seed(seed)
    )
    everywhere = torch.ones(engine.num_envs, dtype=torch.bool)
    randomizer.reset(everywhere)
    variables.begin(np.arange(engine.num_envs), randomizer.values)
    return variables, randomizer


def test_a_zero_range_is_no_term_to_the_bit(engines, untouched):
    for name, engine in engines.items():
        variables = [v for v in scene_variables(engine.scene).values() if v.where in ("model", "push")]
        scaled = [term(v.name, 1.0, 1.0, operation="scale") for v in variables]
        added = [term(v.name, 0.0, 0.0, operation="add", distribution="gaussian") for v in variables]
        fixed = [term(v.name, v.nominal[0], v.nominal[0]) for v in variables if len(set(v.nominal)) == 1]
        for terms in (scaled, added, fixed):
            made, randomizer = drawn(engine, *terms)
            made.step(randomizer.values)
            assert np.array_equal(run(engine, forces=usual_forces(engine)), untouched[name])


def test_a_zero_range_off_the_nominal_value_is_applied(grasping):
    drawn(grasping, term("cube.mass", 2.0, 2.0, operation="scale"))
    np.testing.assert_allclose(grasping.batch.expand("body_mass")[:, grasping.model.body("cube").id], 0.2)


def test_no_field_is_expanded_for_what_does_not_vary():
    engine = _engine(GRASPING)
    drawn(engine, term("joint_damping", 0.5, 2.0, operation="scale"), term("cube.mass", 0.1, 0.1))
    assert set(engine.batch._expanded) == {"dof_damping"}


def test_values_are_kept_where_the_physics_makes_sense_and_the_table_says_so(grasping):
    terms = (term("torque_latency", 0.0, 0.5), term("cube.mass", 0.0, 1.0, distribution="gaussian", operation="add"))
    variables, randomizer = drawn(grasping, *terms)
    assert (grasping.batch.expand("body_mass")[:, grasping.model.body("cube").id] >= 0.00099).all()
    assert grasping.batch.expand("actuator_delay").max() <= 0.016
    effects = {row["parameter"]: row["effect"] for row in randomizer.table(variables.effects)}
    assert effects["torque_latency"] == "varies, kept in [0, 0.016]"
    assert effects["cube.mass"].startswith("varies, kept in [0.001")


def test_what_an_engine_cannot_vary_is_in_the_table_and_never_written(grasping):
    class Rigid:
        scene, num_envs = GRASPING, 3

        def vary(self, names):
            return {name: "Rigid: does nothing" for name in names if name == "contact_time"}

        def set_variables(self, ids, values):
            assert "contact_time" not in values
            self.written = set(values)

    engine = Rigid()
    variables, randomizer = drawn(engine, term("contact_time", 0.01, 0.02), term("cube.mass", 0.05, 0.2))
    assert engine.written == {"cube.mass"}
    assert [row["effect"] for row in randomizer.table(variables.effects)] == ["Rigid: does nothing", "varies"]


def test_what_changes_in_an_episode_is_written_at_every_step_and_the_rest_is_not(grasping):
    terms = (
        term("gravity", -0.5, 0.5, operation="add", when="step", correlation_time=0.2),
        term("cube.mass", 0.05, 0.2),
        term("push_tool", -5.0, 5.0, when="step", max_rate=10.0),
    )
    variables, randomizer = drawn(grasping, *terms)
    gravity, mass = grasping.batch.expand("opt.gravity").copy(), grasping.batch.expand("body_mass").copy()
    randomizer.step(0.1)
    variables.step(randomizer.values)
    assert (grasping.batch.expand("opt.gravity") != gravity).all()
    assert np.array_equal(grasping.batch.expand("body_mass"), mass)
    force = grasping.batch.bind("xfrc_applied")[:, grasping.model.body("arm/tool").id, :3]
    np.testing.assert_allclose(force, randomizer.values["push_tool"])


def test_two_arms_and_two_bodies_keep_originals_of_their_own():
    shapes = CUBE.shapes
    scene = Scene(
        arms=(ArmMount(name="left"), ArmMount(name="right", robot="ur5e", position=(0.0, 1.2, 0.0))),
        bodies=(
            Body(name="a", shapes=shapes, mass=0.1),
            Body(name="b", shapes=shapes, mass=0.5, position=(0.5, 0.2, 0.0)),
        ),
    )
    declared = (term("link_mass", 0.9, 1.1, operation="scale"), term("b.mass", 2.0, 2.0, operation="scale"))
    terms = expand_terms(declared, scene)
    assert [t.parameter for t in terms] == ["left.link_mass", "right.link_mass", "b.mass"]
    engine = MujocoEngine(scene, 4)
    drawn(engine, *terms)
    masses = engine.batch.expand("body_mass")
    for arm in ("left", "right"):
        ids = [engine.model.joint(f"{arm}/{n}").bodyid[0] for n in _joint_names(scene, arm)]
        factor = masses[:, ids] / engine.model.body_mass[ids]
        assert (factor > 0.899).all() and (factor < 1.101).all() and len(np.unique(factor.round(9))) == factor.size
    np.testing.assert_allclose(masses[:, engine.model.body("a").id], 0.1)
    np.testing.assert_allclose(masses[:, engine.model.body("b").id], 1.0, rtol=1e-6)
    values = {name: value.expand(4, -1) for name, value in nominal_variables(scene).items()}
    assert values_of_arm(values, scene, "right")["link_mass"].shape == (4, 6)
    assert values_of_arm(values, scene, "left")["joint_position_bias"].shape == (4, 7)


def _joint_names(scene, arm):
    from hardware.descriptions import load_arm

    mount = next(mount for mount in scene.arms if mount.name == arm)
    return load_arm(mount.robot).interface.actuators


def test_every_variable_has_a_meaning_and_a_nominal_value_within_its_bounds():
    for scene in SCENES.values():
        for variable in scene_variables(scene, observation_size=4, action_size=2).values():
            assert variable.meaning and variable.nominal, variable.name
            low = variable.low * np.array(variable.nominal) if "mass" in variable.kind else variable.low
            assert (np.array(variable.nominal) >= low).all() and max(variable.nominal) <= variable.high
