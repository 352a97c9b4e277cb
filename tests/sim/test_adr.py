"""Automatic domain randomization: good performers get wider ranges, bad ones narrower, and limits hold."""

import pytest
import torch

import sim
from sim.adr import AutomaticConfig, AutomaticParameter, AutomaticRandomization, terms_in
from sim.arm_environment import ArmEnv
from sim.randomization import RandomizationTerm, Randomizer
from sim.tasks import find_task

NOMINAL = {"mass": torch.tensor([2.0]), "friction": torch.tensor([0.5, 0.5]), "noise": torch.zeros(1)}
TERMS = (
    RandomizationTerm(parameter="mass", low=0.9, high=1.1, operation="scale"),
    RandomizationTerm(parameter="friction", low=0.5, high=0.5),
    RandomizationTerm(parameter="noise", low=0.0, high=1.0),
)
MASS = AutomaticParameter(parameter="mass", limits=(0.5, 1.35), delta=0.1)
FRICTION = AutomaticParameter(
    parameter="friction", limits=(0.1, 2.0), delta=1.5, delta_style="multiplicative"
)  # fmt: skip
EVERYWHERE = torch.ones(64, dtype=torch.bool)


def build(*parameters, terms=TERMS, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    config = AutomaticConfig(**{"parameters": parameters or (MASS, FRICTION), "queue_length": 16, **options})
    automatic = AutomaticRandomization(config, terms, 64, generator)
    return automatic, Randomizer(NOMINAL, terms, 64, torch.Generator().manual_seed(seed))


def episodes(automatic, randomizer, objective, count=1):
    for _ in range(count):
        randomizer.reset(EVERYWHERE)
        automatic.begin(EVERYWHERE, randomizer)
        automatic.report(EVERYWHERE, objective(randomizer.values), randomizer)


def always(value):
    return lambda values: torch.full((64,), value)


def test_a_perfect_performer_widens_every_end_to_its_limit_and_no_further():
    automatic, randomizer = build()
    ranges = []
    for _ in range(200):
        episodes(automatic, randomizer, always(1.0))
        ranges.append(automatic.ranges["mass"])
    assert automatic.ranges["mass"] == pytest.approx((0.5, 1.35))
    assert automatic.ranges["friction"] == pytest.approx((0.1, 2.0))
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in zip(ranges, ranges[1:], strict=False))
    assert all(low >= 0.5 and high <= 1.35 for low, high in ranges)
    values = torch.cat([_reset(randomizer, "mass") for _ in range(50)]) / 2.0
    assert float(values.min()) < 0.52 and float(values.max()) > 1.33


def _reset(randomizer, name):
    randomizer.reset(EVERYWHERE)
    return randomizer.values[name].clone()


def test_a_bad_performer_narrows_to_the_initial_range_and_no_further():
    automatic, randomizer = build()
    episodes(automatic, randomizer, always(1.0), 200)
    wide = automatic.ranges["mass"]
    episodes(automatic, randomizer, always(0.0), 20)
    narrower = automatic.ranges["mass"]
    assert narrower[1] - narrower[0] < wide[1] - wide[0]
    episodes(automatic, randomizer, always(0.0), 200)
    assert automatic.ranges["mass"] == pytest.approx((0.9, 1.1))
    assert automatic.ranges["friction"] == pytest.approx((0.5, 0.5))


def test_a_performer_between_the_thresholds_changes_nothing():
    automatic, randomizer = build()
    episodes(automatic, randomizer, always(0.7), 100)
    assert automatic.ranges["mass"] == (0.9, 1.1)


def test_an_end_grows_as_far_as_the_policy_copes():
    # It copes with masses of less than 1.25 of the nominal one: the upper end hovers there, the lower one goes on.
    automatic, randomizer = build(MASS)
    seen = []
    for _ in range(300):
        episodes(automatic, randomizer, lambda values: (values["mass"][:, 0] < 2.5).float())
        seen.append(automatic.ranges["mass"][1])
    assert automatic.ranges["mass"][0] == pytest.approx(0.5)
    assert max(seen[100:]) <= 1.3 + 1e-6 and min(seen[100:]) >= 1.2 - 1e-6


def test_boundary_episodes_pin_one_end_and_draw_the_rest():
    automatic, randomizer = build()
    randomizer.reset(EVERYWHERE)
    automatic.begin(EVERYWHERE, randomizer)
    pins = [automatic.pinned(env) for env in range(64)]
    assert {None, ("mass", "low"), ("mass", "high"), ("friction", "low"), ("friction", "high")} == set(pins)
    mass = randomizer.values["mass"][:, 0] / 2.0
    for env, pin in enumerate(pins):
        if pin is not None and pin[0] == "mass":
            assert float(mass[env]) == pytest.approx({"low": 0.9, "high": 1.1}[pin[1]])
        else:
            assert 0.9 < float(mass[env]) < 1.1
    assert len(randomizer.values["noise"].unique()) == 64


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_the_fraction_of_boundary_episodes_is_the_stated_one(fraction):
    automatic, randomizer = build(boundary_fraction=fraction)
    tests = 0
    for _ in range(100):
        automatic.begin(EVERYWHERE, randomizer)
        tests += sum(automatic.pinned(env) is not None for env in range(64))
    assert tests / 6400 == pytest.approx(fraction, abs=0.03)


def test_only_environments_that_begin_are_chosen_anew():
    automatic, randomizer = build()
    automatic.begin(EVERYWHERE, randomizer)
    before = [automatic.pinned(env) for env in range(64)]
    half = torch.arange(64) < 32
    automatic.begin(half, randomizer)
    after = [automatic.pinned(env) for env in range(64)]
    assert before[32:] == after[32:] and before[:32] != after[:32]


def test_an_extended_boundary_tests_where_the_end_would_be_next():
    automatic, randomizer = build(MASS, extended_boundary=True, boundary_fraction=1.0)
    automatic.begin(EVERYWHERE, randomizer)
    mass = (randomizer.values["mass"][:, 0] / 2.0).tolist()
    assert sorted({round(value, 5) for value in mass}) == [0.8, 1.2]


def test_a_move_may_void_what_other_ends_have_gathered():
    for clear in (False, True):
        automatic, randomizer = build(clear_other_queues=clear, queue_length=20)
        while automatic.ranges["mass"] == (0.9, 1.1) and automatic.ranges["friction"] == (0.5, 0.5):
            episodes(automatic, randomizer, always(1.0))
        gathered = [len(queue) for name, queue in automatic.state_dict().items() if name.startswith("queues.")]
        assert (max(gathered) == 0) == clear


def test_rollouts_have_a_running_mean_and_boundary_episodes_do_not_count_in_it():
    automatic, randomizer = build(boundary_fraction=0.0)
    episodes(automatic, randomizer, always(1.0))
    assert automatic.performance == pytest.approx(1.0)
    episodes(automatic, randomizer, always(0.0), 20)
    assert automatic.performance == pytest.approx(0.99 ** (20 * 64))
    tested, randomizer = build(boundary_fraction=1.0)
    episodes(tested, randomizer, always(1.0))
    assert tested.performance != tested.performance  # NaN


def test_it_goes_on_from_its_state():
    automatic, randomizer = build()
    episodes(automatic, randomizer, always(1.0), 7)
    stored = automatic.state_dict()
    episodes(automatic, randomizer, always(1.0), 5)
    again, other = build(seed=1)
    again.load_state_dict(stored, other)
    assert [t for t in other.terms if t.parameter == "mass"][0].low == stored["ranges.mass"][0]
    episodes(again, other, always(1.0), 5)
    assert again.ranges == automatic.ranges
    assert [again.pinned(env) for env in range(64)] == [automatic.pinned(env) for env in range(64)]
    assert terms_in(TERMS, again.ranges)[0].low == again.ranges["mass"][0]
    assert {row["parameter"]: row["range"] for row in again.table()}["mass"].startswith("0.")
    with pytest.raises(ValueError, match="are of \\['friction', 'mass'\\], not of \\['mass'\\]"):
        build(MASS)[0].load_state_dict(stored, other)


def test_a_restart_is_a_new_beginning():
    automatic, randomizer = build()
    episodes(automatic, randomizer, always(1.0), 20)
    assert automatic.ranges["mass"] != (0.9, 1.1)
    automatic.restart(5)
    stored, fresh = automatic.state_dict(), build(seed=5)[0].state_dict()
    assert stored.keys() == fresh.keys()
    for name, value in stored.items():
        assert torch.equal(value.nan_to_num(-9.0), fresh[name].nan_to_num(-9.0)), name


@pytest.mark.parametrize(
    ("parameter", "terms", "message"),
    [
        (AutomaticParameter(parameter="mas", limits=(0, 1), delta=0.1), TERMS, "'mas': no term.*did you mean 'mass'"),
        (AutomaticParameter(parameter="mass", limits=(0.95, 2.0), delta=0.1), TERMS, "0.9 … 1.1 is not in 0.95"),
        (MASS, (RandomizationTerm(parameter="mass", low=1, high=1.1, when="step"),), "drawn at step; it must be"),
        (
            MASS,
            (RandomizationTerm(parameter="mass", low=1, high=0.1, distribution="gaussian"),),
            "its term is gaussian",
        ),
    ],
)
def test_what_cannot_grow_is_refused(parameter, terms, message):
    with pytest.raises(ValueError, match=message):
        build(parameter, terms=terms)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="delta is -1; it must be above 0"):
        AutomaticParameter(parameter="mass", limits=(0, 1), delta=-1)
    with pytest.raises(ValueError, match="delta is 0.9; it must be above 1"):
        AutomaticParameter(parameter="mass", limits=(0, 1), delta=0.9, delta_style="multiplicative")
    with pytest.raises(ValueError, match="delta_style is 'times'"):
        AutomaticParameter(parameter="mass", limits=(0, 1), delta=2, delta_style="times")
    with pytest.raises(ValueError, match="each parameter has one range"):
        build(MASS, MASS)
    with pytest.raises(ValueError, match="boundary_fraction is 1.5"):
        build(boundary_fraction=1.5)
    with pytest.raises(ValueError, match="threshold_low 0.9 is above"):
        build(threshold_low=0.9)


def test_an_environment_pins_reports_and_widens():
    task = find_task("arm-reach")
    terms = (
        RandomizationTerm(parameter="link_mass", low=1.0, high=1.0, operation="scale"),
        RandomizationTerm(parameter="joint_damping", low=1.0, high=1.0, operation="scale"),
    )
    parameter = AutomaticParameter(parameter="link_mass", limits=(0.5, 2.0), delta=0.25)
    # Everything counts as good: what is tested is that the environment says when episodes end.
    config = AutomaticConfig(
        parameters=(parameter,), boundary_fraction=1.0, queue_length=2, threshold_low=-2.0, threshold_high=-1.0
    )
    automatic = AutomaticRandomization(config, terms, 6, torch.Generator().manual_seed(0))
    made = sim.make("arm-reach", num_envs=6, randomization="none")
    env = ArmEnv(task, made.engine, randomization=terms, automatic=automatic)
    env.max_episode_length = 2
    for _ in range(8):
        env.step(torch.zeros(6, env.num_actions))
    assert automatic.ranges["link_mass"][0] < 1.0 < automatic.ranges["link_mass"][1]
    masses = env.engine.batch.expand("body_mass")
    first_link = env.engine.model.body("arm/link1").id
    assert len({round(float(mass), 6) for mass in masses[:, first_link]}) > 1
