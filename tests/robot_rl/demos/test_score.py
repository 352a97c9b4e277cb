"""Scores: by hand in a case that can be counted, and against the grades that the score does not see."""

import dataclasses
import json

import numpy as np
import pytest

from robot_rl import cli
from robot_rl.demos.configs import ScoreSettings
from robot_rl.demos.dataset import open_set
from robot_rl.demos.score import score_episodes
from robot_rl.errors import UserError


@pytest.fixture
def skilled(tmp_path, tools):
    """Six steady and six unsteady episodes, one after the other. Their switch stays as it is: the tools' goes by time,
    which no state shows."""
    point_records, write_episode, _ = tools
    for number in range(12):
        records = point_records(seed=number, noise=0.05 if number % 2 == 0 else 0.6)
        for record in records:
            record.action[3] = record.observation[9] = 1.0
        records[-1].final_observation[9] = 1.0
        write_episode(tmp_path / "set", records)
    return tmp_path / "set"


@pytest.fixture
def drive(tools, tmp_path):
    """An episode of a point that somebody steers to the origin."""
    point_records, write_episode, _ = tools
    write_episode(tmp_path / "form", point_records(30))
    form = open_set(tmp_path / "form").episodes[0]

    def one(seed, noise=0.05, push=0.0, gain=1.0, start=None):
        generator = np.random.default_rng(seed)
        position = generator.uniform(-1, 1, 3) if start is None else np.array(start)
        side = generator.standard_normal(3)
        side *= push / np.linalg.norm(side)
        places, actions = [], []
        for _ in range(30):
            places.append(position)
            action = np.clip(-2.0 * gain * position + side + noise * generator.standard_normal(3), -1, 1)
            actions.append(action)
            position = position + 0.1 * action + 0.005 * generator.standard_normal(3)
        observations, done = np.zeros((31, 10), np.float32), np.zeros((30, 4), np.float32)
        observations[:, :3], done[:, :3] = [*places, position], actions
        return dataclasses.replace(form, observations=observations, actions=done)

    return one


def test_steady_hands_score_better(skilled):
    scores = score_episodes(open_set(skilled).episodes)
    steady, unsteady = scores[::2], scores[1::2]
    assert min(one.score for one in steady) > max(one.score for one in unsteady)
    assert max(o.action_divergence for o in steady) < 0.5 * min(o.action_divergence for o in unsteady)
    assert np.mean([one.score for one in scores]) == pytest.approx(0.0, abs=1e-6)


def test_a_steady_habit_scores_below_good_hands_and_so_does_noise(drive):
    """A push to one side is small beside the noise in every single step, and there in all of them."""
    good = [drive(seed) for seed in range(12)]
    pushing = [drive(seed, push=0.3, gain=0.6) for seed in range(20, 30)]
    noisy = [drive(seed, noise=0.5) for seed in range(40, 50)]
    scores = np.array([one.score for one in score_episodes([*good, *pushing, *noisy])])
    assert np.median(scores[:12]) > max(scores[12:22])
    assert np.median(scores[:12]) > np.median(scores[22:]) + 0.3
    best = np.argsort(scores)[-16:]
    assert np.isin(np.arange(12), best).sum() >= 10


def test_a_rare_place_to_begin_costs_less_than_a_habit(drive):
    """Whoever begins far from all others differs from them there, and does not afterwards."""
    usual = [drive(seed) for seed in range(24)]
    far = [drive(30, start=[1.8, 0.0, 0.0]), drive(31, start=[0.0, 0.0, -1.8])]
    pushing = [drive(seed, push=0.3) for seed in range(40, 44)]
    scores = score_episodes([*usual, *far, *pushing])
    divergence = np.array([one.action_divergence for one in scores])
    assert max(divergence[24:26]) < 0.5 * min(divergence[26:])


def test_the_better_half_begins_in_as_many_places_as_any_half(drive):
    places = np.random.default_rng(0).uniform(-1, 1, (30, 3))
    kinds: list[dict] = [{}, {"push": 0.3}, {"noise": 0.5}]
    scores = score_episodes([drive(seed, start=place, **kinds[seed % 3]) for seed, place in enumerate(places)])

    def reach(half):
        return np.linalg.norm(places[:, None] - places[half], axis=2).min(axis=1).mean()

    halves = [reach(np.random.default_rng(seed).permutation(30)[:15]) for seed in range(200)]
    assert reach(np.argsort([one.score for one in scores])[-15:]) < np.quantile(halves, 0.975)


def five_alike(tools, folder):
    """Episodes that pass the same four states with the same actions; every change is alike."""
    point_records, write_episode, _ = tools
    write_episode(folder, point_records(4))
    episode = open_set(folder).episodes[0]
    states = np.zeros((5, 10), np.float32)
    states[:, 0] = np.arange(5)
    return [dataclasses.replace(episode, observations=states, actions=np.zeros((4, 4), np.float32)) for _ in range(5)]


def test_divergence_by_hand(tools, tmp_path):
    """One of five episodes acts otherwise in one of its four steps, by the whole range."""
    episodes = five_alike(tools, tmp_path)
    episodes[-1].actions[2, 0] = 1.0
    scores = score_episodes(episodes)
    assert all(one.transition_diversity == 0.0 for one in scores)
    # One of 20 actions is 1: the variance is 0.05 · 0.95, and only that number of the action varies. All four steps
    # make one window, whose mean is a fourth of it.
    wanted = [0, 0, 0, 0, 4 * 0.25**2 / (0.05 * 0.95)]
    assert [one.action_divergence for one in scores] == pytest.approx(wanted, abs=1e-3)
    assert scores[-1].score < min(one.score for one in scores[:-1])


def test_what_averages_out_is_no_divergence(tools, tmp_path):
    """Differences of one size in every step, to both sides in turn or always to the same."""
    episodes = five_alike(tools, tmp_path)
    episodes[0].actions[:, 0] = (0.1, -0.1, 0.1, -0.1)
    episodes[1].actions[:, 0] = 0.1
    turning, steady, *others = score_episodes(episodes)
    assert turning.action_divergence == pytest.approx(0.0, abs=1e-3)
    assert steady.action_divergence > 1.0
    assert steady.score < min(one.score for one in others)


def test_a_varied_world_is_better_than_one_that_repeats_itself(skilled):
    episodes = open_set(skilled).episodes[::2]
    generator = np.random.default_rng(0)
    noisy = episodes[0].observations.copy()
    noisy[:, 3:6] += 0.3 * generator.standard_normal((len(noisy), 3)).astype(np.float32)
    plain = score_episodes(episodes)[0]
    varied = score_episodes([dataclasses.replace(episodes[0], observations=noisy), *episodes[1:]])[0]
    assert varied.transition_diversity > 2.0 * plain.transition_diversity


def test_repeated_actions_in_the_observation_do_not_help(skilled):
    """With the last action among the compared numbers every action would be near its like."""
    episodes = open_set(skilled).episodes
    blind = [dataclasses.replace(e, observations=e.observations[:, :6]) for e in episodes]
    for seen, hidden in zip(score_episodes(episodes), score_episodes(blind), strict=True):
        assert seen.action_divergence == pytest.approx(hidden.action_divergence, rel=1e-5)


def test_verdict_and_info_change_nothing(skilled):
    episodes = open_set(skilled).episodes
    failed = [dataclasses.replace(e, success=False, rewards=0.0 * e.rewards) for e in episodes]
    assert score_episodes(episodes) == score_episodes(failed)


def test_the_worst_come_first_and_the_best_are_kept(skilled, tmp_path, capsys):
    out = tmp_path / "best"
    assert cli.main(["demos", "score", str(skilled), "--json", "--keep", "0.5", "--out", str(out)]) == 0
    rows = json.loads(capsys.readouterr().out)
    values = [row["score"] for row in rows]
    assert values == sorted(values) and len(rows) == 12
    assert {int(row["name"][8:14]) % 2 for row in rows[:6]} == {1}
    np.testing.assert_array_equal(
        [one.observations[0] for one in open_set(out).episodes],
        [one.observations[0] for one in open_set(skilled).episodes[::2]],
    )
    assert cli.main(["demos", "score", str(skilled)]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(rows[0]["name"])


def test_large_sets_are_compared_with_some_of_their_episodes(skilled):
    episodes = open_set(skilled).episodes
    few = score_episodes(episodes, ScoreSettings(most_episodes=6, most_steps=15, neighbours=3))
    every = score_episodes(episodes)
    for one, other in zip(few, every, strict=True):  # a sum over all steps, estimated from some
        assert one.action_divergence == pytest.approx(other.action_divergence, rel=0.9)
    assert np.mean([one.score for one in few[::2]]) > np.mean([one.score for one in few[1::2]]) + 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keep", "0.5"], "--keep and --out go together"),
        (["--keep", "0", "--out", "{out}"], "expected a share above 0"),
        (["--settings.neighbours", "0"], "at least 1 is needed"),
        (["--settings.most-steps", "1"], "--settings.most-steps is 1"),
    ],
)
def test_what_cannot_be_scored_is_said(options, words, skilled, tmp_path, capsys):
    options = [option.format(out=tmp_path / "out") for option in options]
    assert cli.main(["demos", "score", str(skilled), *options]) == 2
    assert words in capsys.readouterr().err
    with pytest.raises(UserError, match="at least 3"):
        score_episodes(open_set(skilled).episodes[:2])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_grades_of_scripted_people_are_told_apart(tmp_path):
    """Of mixed demonstrations the better half has most of the experts', and few of those with a habit."""
    pytest.importorskip("mujoco")
    folder = str(tmp_path / "set")
    arguments = ["arm-pick-lift", "--episodes", "60", "--quality", "mixed", "--out", folder]
    assert cli.main(["demos", "collect", *arguments]) == 0
    data = open_set(tmp_path / "set")
    scores = score_episodes(data.episodes)
    grades = np.array([one.info["quality"] for one in data])
    order = np.argsort([one.score for one in scores])
    worse, better = grades[order[:30]], grades[order[30:]]
    print({name: ((worse == name).sum(), (better == name).sum()) for name in np.unique(grades)})
    assert (better == "expert").sum() > 2 * (worse == "expert").sum()
    assert (worse == "biased").sum() > 2 * (better == "biased").sum()
    mean = {
        name: np.mean([one.score for one, own in zip(scores, grades, strict=True) if own == name]) for name in grades
    }
    assert mean["expert"] > mean["noisy"] + 0.3 and mean["expert"] > mean["biased"] + 0.6
