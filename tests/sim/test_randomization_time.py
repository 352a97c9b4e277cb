"""Randomization in time: walks with a bounded rate, pushes that end, schedules, shared samples."""

import numpy as np
import pytest
import torch

from sim.randomization import RandomizationTerm, Randomizer

NOMINAL = {
    "force": torch.zeros(3),
    "mass": torch.tensor([2.0]),
    "size": torch.ones(3),
    "drag": torch.tensor([0.1, 0.4]),
}
COUNT = 2000


def term(parameter, low, high, **options):
    return RandomizationTerm(parameter=parameter, low=low, high=high, **options)


def randomizer(*terms, count=COUNT, seed=0, reset=True):
    made = Randomizer(NOMINAL, terms, count, torch.Generator().manual_seed(seed))
    if reset:
        made.reset(torch.ones(count, dtype=torch.bool))
    return made


def history(made, name, steps, dt):
    values = [made.values[name].clone()]
    for _ in range(steps):
        made.step(dt)
        values.append(made.values[name].clone())
    return torch.stack(values)


@pytest.mark.parametrize("correlation_time", [0.0, 0.3, 5.0])
@pytest.mark.parametrize(("low", "high", "max_rate"), [(-2.0, 3.0, 4.0), (0.0, 0.1, 5.0), (-1.0, 1.0, 0.1)])
def test_a_walk_stays_in_its_range_and_never_changes_faster_than_its_rate(low, high, max_rate, correlation_time):
    walk = term("force", low, high, when="step", max_rate=max_rate, correlation_time=correlation_time)
    made = randomizer(walk)
    values = history(made, "force", 100, 0.05)
    assert low <= float(values.min()) and float(values.max()) <= high
    rate = ((values[1:] - values[:-1]) / 0.05).abs().max()
    assert float(rate) <= max_rate * (1 + 1e-4)
    assert float(rate) > 0.8 * min(max_rate, (high - low) / 0.05)
    # It is uniform over its range from the first step to the last.
    for moment in (values[0], values[1], values[-1]):
        percentiles = np.quantile((moment - low) / (high - low), [0.1, 0.5, 0.9])
        np.testing.assert_allclose(percentiles, [0.1, 0.5, 0.9], atol=0.03)


def test_a_walk_is_relative_to_the_nominal_value_and_elements_walk_alone():
    walk = term("drag", 0.5, 1.5, when="step", max_rate=1.0, operation="scale", correlation_time=0.5)
    values = history(randomizer(walk), "drag", 50, 0.1)
    factor = values / NOMINAL["drag"]
    assert 0.4999 < float(factor.min()) < 0.52 and 1.48 < float(factor.max()) < 1.5001
    assert float((factor[1:] - factor[:-1]).abs().max()) <= 0.1 + 1e-5
    assert abs(np.corrcoef(factor[-1].T.numpy())[0, 1]) < 0.1


def test_a_new_episode_begins_anew_and_leaves_other_walks_alone():
    made = randomizer(term("force", -1.0, 1.0, when="step", max_rate=0.5), count=8)
    history(made, "force", 5, 0.1)
    before = made.values["force"].clone()
    mask = torch.arange(8) < 3
    made.reset(mask)
    assert torch.equal((made.values["force"] != before).all(-1), mask)


def test_a_push_comes_after_its_interval_and_lasts_for_its_duration():
    push = term("force", 5.0, 5.5, when="interval", interval=(0.5, 1.0), duration=0.2)
    values = history(randomizer(push, count=300), "force", 400, 0.05)[..., 0]
    pushed = values != 0.0
    assert not pushed[:10].any()  # not before the shortest interval
    starts = pushed[1:] & ~pushed[:-1]
    runs = pushed[:-5].float().sum() / starts[:-5].sum()
    assert float(runs) == pytest.approx(4.0, abs=0.05)  # 0.2 s of 0.05 s
    first = pushed.float().argmax(0) * 0.05
    assert float(first.min()) == pytest.approx(0.5, abs=0.06) and float(first.max()) == pytest.approx(1.0, abs=0.06)
    assert float(values[pushed].min()) >= 5.0 and float(values[pushed].max()) <= 5.5


def test_a_shared_sample_scales_all_elements_alike():
    for options in ({}, {"when": "step"}, {"when": "step", "max_rate": 1.0}, {"when": "step", "correlation_time": 1.0}):
        made = randomizer(term("size", 0.5, 2.0, shared=True, **options))
        made.step(0.1)
        size = made.values["size"]
        assert size.shape == (COUNT, 3)
        assert torch.equal(size, size[:, :1].expand(-1, 3)) and len(size[:, 0].unique()) > 0.9 * COUNT


@pytest.mark.parametrize("distribution", ["uniform", "loguniform"])
def test_white_noise_has_exactly_its_distribution(distribution):
    made = randomizer(term("mass", 0.5, 2.0, when="step", distribution=distribution), count=20_000)
    made.step(0.1)
    sample = made.values["mass"][:, 0]
    assert 0.5 <= float(sample.min()) < 0.501 and 1.99 < float(sample.max()) <= 2.0
    median = {"uniform": 1.25, "loguniform": 1.0}[distribution]
    assert float(sample.median()) == pytest.approx(median, rel=0.03)


@pytest.mark.parametrize("operation", ["set", "scale", "add"])
@pytest.mark.parametrize("when", ["reset", "interval", "step"])
def test_a_linear_schedule_widens_from_the_nominal_value(operation, when):
    low, high = {"set": (1.0, 5.0), "scale": (0.5, 2.5), "add": (-1.0, 3.0)}[operation]  # 1 to 5 in each case
    scheduled = term("mass", low, high, operation=operation, when=when, schedule="linear", schedule_steps=100)
    for steps, expected in ((0, (2.0, 2.0)), (50, (1.5, 3.5)), (100, (1.0, 5.0)), (10_000, (1.0, 5.0))):
        made = randomizer(scheduled, reset=False)
        made.progress = steps
        made.reset(torch.ones(COUNT, dtype=torch.bool))
        value = made.values["mass"]
        if when == "step":
            assert float(value.min()) >= expected[0] - 1e-5 and float(value.max()) <= expected[1] + 1e-5
        assert float(value.min()) == pytest.approx(expected[0], abs=0.02)
        assert float(value.max()) == pytest.approx(expected[1], abs=0.02)


def test_training_goes_on_by_steps_and_a_fixed_value_follows_its_schedule_too():
    fixed = term("mass", 3.0, 3.0, schedule="linear", schedule_steps=4)
    made = randomizer(fixed, term("drag", 2.0, 2.0, operation="scale", schedule="constant", schedule_steps=3), count=2)
    seen = []
    for _ in range(6):
        made.reset(torch.ones(2, dtype=torch.bool))
        seen.append((float(made.values["mass"][0, 0]), float(made.values["drag"][0, 0])))
        made.step(0.1)
    assert [round(mass, 6) for mass, _ in seen] == [2.0, 2.25, 2.5, 2.75, 3.0, 3.0]
    assert [round(drag, 6) for _, drag in seen] == [0.1, 0.1, 0.1, 0.2, 0.2, 0.2]


def test_state_goes_on_bit_by_bit():
    terms = (
        term("force", -1.0, 1.0, when="step", max_rate=2.0, correlation_time=0.3),
        term("drag", 0.5, 2.0, when="interval", interval=(0.1, 0.3), duration=0.1),
        term("mass", 1.0, 3.0, frequency=3, schedule="linear", schedule_steps=20),
    )
    made = randomizer(*terms, count=16)
    history(made, "force", 7, 0.05)
    stored, draws = made.state(), made.generator.get_state()
    again = randomizer(*terms, count=16, seed=5)
    again.load_state(stored)
    again.generator.set_state(draws)
    for each in (made, again):
        history(each, "force", 9, 0.05)
        each.reset(torch.arange(16) % 2 == 0)
    assert made.progress == again.progress == 16
    for name in made.values:
        assert torch.equal(made.values[name], again.values[name])


def test_adopted_episodes_take_walks_pushes_and_schedules_along():
    terms = (
        term("force", -1.0, 1.0, when="step", max_rate=2.0),
        term("drag", 0.5, 2.0, when="interval", interval=(0.1, 0.3), duration=0.1),
        term("mass", 1.0, 3.0, frequency=4, schedule="linear", schedule_steps=10),
    )
    made, pool = randomizer(*terms, count=6), randomizer(*terms, count=4, seed=1)
    history(made, "force", 2, 0.05)
    mass = made.values["mass"].clone()
    pool.reset(torch.ones(4, dtype=torch.bool))
    made.adopt(torch.tensor([1, 3]), pool, 2)
    assert torch.equal(made.values["force"][[1, 3]], pool.values["force"][2:])
    assert torch.equal(made.values["mass"], mass)  # four steps have not passed
    values = history(made, "force", 20, 0.05)
    assert float((values[1:] - values[:-1]).abs().max()) <= 0.1 + 1e-5
    made.adopt(torch.tensor([1, 3]), pool, 0)
    assert pool.progress == made.progress == 22
    assert torch.equal(made.values["mass"][[1, 3]], pool.values["mass"][:2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rate": 1.0}, "max_rate is 1.0; a walk has when: step"),
        ({"max_rate": 1.0, "when": "step", "distribution": "gaussian"}, "distribution: uniform"),
        ({"max_rate": -1.0, "when": "step"}, "max_rate is -1.0"),
        ({"duration": 1.0}, "duration is 1.0; .* when: interval"),
        ({"frequency": 0}, "frequency is 0"),
        ({"frequency": 2, "when": "step"}, "frequency is 2"),
        ({"schedule": "linear"}, "schedule is 'linear' with schedule_steps 0; give both or none"),
        ({"schedule_steps": 5}, "schedule is 'none' with schedule_steps 5"),
        ({"schedule": "cosine", "schedule_steps": 5}, "schedule is 'cosine'; expected one of none, linear, constant"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=f"'mass': .*{message}"):
        term("mass", 0.5, 2.0, **options)


def test_the_table_says_when_and_what_an_engine_makes_of_it():
    made = randomizer(
        term("force", -1.0, 1.0, when="step", max_rate=2.0, correlation_time=0.3),
        term("drag", 0.5, 2.0, when="interval", duration=0.1),
        term("mass", 1.0, 3.0, frequency=3, schedule="linear", schedule_steps=20),
        count=1,
    )
    rows = made.table({"mass": "PyBullet: does nothing"})
    assert [row["when"] for row in rows] == [
        "step, τ = 0.3 s, at most 2/s",
        "interval, for 0.1 s",
        "reset, after 3 steps, linear over 20 steps",
    ]
    assert [row["effect"] for row in rows] == ["varies", "varies", "PyBullet: does nothing"]
