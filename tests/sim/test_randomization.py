"""Randomization as data: stated statistics, stated times, nothing compounds, nothing acts in secret."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from sim.randomization import RandomizationTerm, Randomizer

NOMINAL = {
    "mass": torch.tensor([0.03]),
    "drag": torch.tensor([0.1, 0.2, 0.4]),
    "force": torch.zeros(3),
    "inertia": torch.tensor([1.7e-5]),
}
COUNT = 20_000


def term(parameter="mass", low=0.5, high=2.0, **options):
    return RandomizationTerm(parameter=parameter, low=low, high=high, **options)


def randomizer(*terms, count=COUNT, seed=0, reset=True):
    made = Randomizer(NOMINAL, terms, count, torch.Generator().manual_seed(seed))
    if reset:
        made.reset(torch.ones(count, dtype=torch.bool))
    return made


def everywhere(made):
    return torch.ones(made.num_envs, dtype=torch.bool)


def copies(made):
    return {name: value.clone() for name, value in made.values.items()}


DISTRIBUTIONS = [
    term(distribution="uniform"),
    term(distribution="loguniform", low=0.01, high=10.0),
    term(distribution="gaussian", low=1.0, high=0.25),
]
each_distribution = pytest.mark.parametrize("drawn", DISTRIBUTIONS, ids=lambda t: t.distribution)


@each_distribution
def test_samples_have_the_mean_and_deviation_that_moments_states(drawn):
    sample = randomizer(drawn).values["mass"]
    mean, deviation = drawn.moments()
    assert float(sample.mean()) == pytest.approx(mean, abs=4 * deviation / math.sqrt(COUNT))
    assert float(sample.std()) == pytest.approx(deviation, rel=0.03)


@each_distribution
def test_quantiles_follow_the_distribution(drawn):
    sample = randomizer(drawn).values["mass"].flatten()
    percentiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    np.testing.assert_allclose(torch.quantile(sample, percentiles), drawn.quantile(percentiles), rtol=0.08)
    if drawn.distribution != "gaussian":
        assert drawn.low <= float(sample.min()) and float(sample.max()) <= drawn.high
        assert drawn.low == pytest.approx(float(drawn.quantile(torch.tensor(0.0))))
        assert drawn.high == pytest.approx(float(drawn.quantile(torch.tensor(1.0))))


def test_loguniform_is_uniform_in_the_logarithm():
    sample = randomizer(DISTRIBUTIONS[1]).values["mass"].log()
    assert float(sample.mean()) == pytest.approx(0.5 * math.log(0.01 * 10.0), abs=0.06)
    assert float(sample.std()) == pytest.approx(math.log(1000.0) / math.sqrt(12.0), rel=0.02)


@pytest.mark.parametrize("operation", ["set", "scale", "add"])
def test_operations_act_on_the_nominal_value_and_elements_are_independent(operation):
    value = randomizer(term("drag", 0.5, 2.0, operation=operation)).values["drag"]
    back = {"set": value, "scale": value / NOMINAL["drag"], "add": value - NOMINAL["drag"]}[operation]
    assert back.shape == (COUNT, 3)
    np.testing.assert_allclose(back.min(0).values, 0.5, atol=0.01)
    np.testing.assert_allclose(back.max(0).values, 2.0, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(back.T.numpy()), np.eye(3), atol=0.03)


@pytest.mark.parametrize("operation", ["set", "scale", "add"])
@pytest.mark.parametrize("when", ["start", "reset", "interval", "step"])
@pytest.mark.parametrize("distribution", ["uniform", "loguniform", "gaussian"])
def test_a_zero_range_is_the_identity_to_the_bit_and_disturbs_no_other_draw(operation, when, distribution):
    low = {"set": float(NOMINAL["inertia"]), "scale": 1.0, "add": 0.0}[operation]
    if distribution == "loguniform" and operation == "add":
        low = 1e-30  # it cannot be 0; this vanishes against the nominal value
    high = 0.0 if distribution == "gaussian" else low
    still = term("inertia", low, high, operation=operation, when=when, distribution=distribution)
    moving = (term("mass"), term("force", -1.0, 1.0, when="step", correlation_time=0.1))
    alone, both = randomizer(*moving, count=16), randomizer(still, *moving, count=16)
    for _ in range(30):
        both.step(0.5)
        alone.step(0.5)
    both.reset(everywhere(both))
    alone.reset(everywhere(alone))
    assert torch.equal(both.values["inertia"], NOMINAL["inertia"].expand(16, 1))
    for name in ("mass", "force"):
        assert torch.equal(both.values[name], alone.values[name])


@pytest.mark.parametrize("operation", ["set", "scale", "add"])
@pytest.mark.parametrize("when", ["reset", "interval", "step"])
def test_nothing_compounds_over_a_thousand_resets(operation, when):
    made = randomizer(term("drag", 0.9, 1.1, operation=operation, when=when, interval=(0.01, 0.01)), count=64)
    first = copies(made)["drag"]
    for _ in range(1000):
        made.reset(everywhere(made))
        made.step(0.01)
    last = made.values["drag"]
    assert not torch.equal(first, last)
    np.testing.assert_allclose(last.mean(0), first.mean(0), rtol=0.1)
    np.testing.assert_allclose(last.std(0), first.std(0), rtol=0.45)


@pytest.mark.parametrize(("coupling", "correlation"), [(1.0, 1.0), (0.7, 0.7**2 / (0.7**2 + 0.3**2)), (0.0, 0.0)])
def test_a_group_couples_percentiles_and_stays_in_range(coupling, correlation):
    options = {"group": "size", "coupling": coupling}
    made = randomizer(term("mass", **options), term("inertia", 1.0, 100.0, distribution="loguniform", **options))
    mass = (made.values["mass"][:, 0] - 0.5) / 1.5
    inertia = made.values["inertia"][:, 0].log() / math.log(100.0)
    assert float(torch.corrcoef(torch.stack([mass, inertia]))[0, 1]) == pytest.approx(correlation, abs=0.03)
    for percentile in (mass, inertia):
        assert -1e-6 <= float(percentile.min()) < 0.06 and 0.94 < float(percentile.max()) <= 1.0 + 1e-6
    if coupling == 1.0:
        np.testing.assert_allclose(mass, inertia, atol=1e-5)


def test_groups_of_different_names_and_new_episodes_are_independent():
    first = term("mass", group="a", coupling=1.0)
    made = randomizer(first, term("inertia", group="b", coupling=1.0))
    before = copies(made)
    made.reset(everywhere(made))
    pairs = torch.cat([before["mass"], before["inertia"], made.values["mass"]], dim=1)
    np.testing.assert_allclose(np.corrcoef(pairs.T.numpy()), np.eye(3), atol=0.03)


def test_when_start_draws_once():
    made = randomizer(term(when="start"), count=8)
    first = copies(made)["mass"]
    assert len(first.unique()) == 8
    made.reset(everywhere(made))
    made.step(10.0)
    assert torch.equal(made.values["mass"], first)


def test_when_reset_draws_only_where_an_episode_begins():
    made = randomizer(term(), term("drag", operation="scale"), count=8)
    before = copies(made)
    made.step(10.0)
    assert all(torch.equal(made.values[name], before[name]) for name in before)
    mask = torch.arange(8) % 3 == 0
    made.reset(mask)
    for name in ("mass", "drag"):
        changed = (made.values[name] != before[name]).all(-1)
        assert torch.equal(changed, mask)
    made.reset(torch.zeros(8, dtype=torch.bool))
    assert torch.equal((made.values["mass"] != before["mass"])[:, 0], mask)


def test_when_interval_draws_after_times_within_the_interval():
    made = randomizer(term(when="interval", interval=(0.5, 1.0)), count=200)
    age, ages, last = torch.zeros(200), [], copies(made)["mass"]
    for _ in range(400):
        made.step(0.01)
        age += 0.01
        changed = (made.values["mass"] != last)[:, 0]
        ages += age[changed].tolist()
        age[changed] = 0.0
        last = copies(made)["mass"]
    assert len(ages) > 800
    assert 0.5 - 1e-3 <= min(ages) < 0.55 and 0.95 < max(ages) <= 1.0 + 0.011
    made.reset(torch.arange(200) < 100)
    assert torch.equal((made.values["mass"] == last)[:, 0], torch.arange(200) >= 100)


def test_a_reset_leaves_the_process_of_other_environments_alone():
    gust = term("force", 0.0, 1.0, distribution="gaussian", when="step", correlation_time=1.0)
    made = randomizer(gust, count=8)
    made.step(0.01)
    before = copies(made)["force"]
    mask = torch.arange(8) < 3
    made.reset(mask)
    assert torch.equal((made.values["force"] != before).all(-1), mask)


@pytest.mark.parametrize("correlation_time", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("distribution", ["uniform", "gaussian"])
def test_a_process_has_its_stated_mean_deviation_and_correlation_time(correlation_time, distribution):
    gust = term("force", 1.0, 3.0, distribution=distribution, when="step", correlation_time=correlation_time)
    mean, deviation = gust.moments()
    made, dt, lag = randomizer(gust, count=4000), 0.05, 4
    history = [copies(made)["force"]]
    for _ in range(40):
        made.step(dt)
        history.append(copies(made)["force"])
    history = torch.stack(history)
    # From the first step on, not only after a while: a new episode begins in the stationary distribution.
    for moment in (history[0], history[1], history[-1]):
        assert float(moment.mean()) == pytest.approx(mean, abs=0.05 * deviation)
        assert float(moment.std()) == pytest.approx(deviation, rel=0.03)
    early, late = history[:-lag].flatten() - mean, history[lag:].flatten() - mean
    expected = math.exp(-lag * dt / correlation_time) if correlation_time else 0.0
    assert float((early * late).mean()) / deviation**2 == pytest.approx(expected, abs=0.02)


def test_a_seed_gives_the_same_draws_and_another_seed_others():
    terms = (
        *(dataclasses.replace(DISTRIBUTIONS[1], group="g"), term("inertia", 1.0, 2.0, group="g")),
        term("drag", when="interval", interval=(0.01, 0.05)),
        term("force", -1.0, 1.0, when="step", correlation_time=0.2),
    )

    def run(seed):
        made = randomizer(*terms, count=16, seed=seed)
        for _ in range(20):
            made.step(0.01)
        made.reset(torch.arange(16) % 2 == 0)
        return made.values

    first, again, other = run(3), run(3), run(4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_an_unknown_parameter_names_the_nearest_and_a_second_term_on_one_is_refused():
    with pytest.raises(ValueError, match="'mas' acts on nothing; did you mean 'mass'"):
        randomizer(term("mas"))
    with pytest.raises(ValueError, match="'zzz' acts on nothing; known: mass, drag"):
        randomizer(term("zzz"))
    with pytest.raises(ValueError, match="'mass' is declared twice"):
        randomizer(term("mass"), term("drag"), term("mass", operation="scale"))
