"""The memory of steps, against a naive one that keeps whole episodes."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.hil.replay import NEVER, PERSON, POLICY, Replay, Step

DISCOUNT = 0.9


@dataclass
class Episode:
    """What a naive memory keeps: every value names its step, so that a mix-up shows."""

    given: bool
    drivers: list[int]
    end: str
    """`won`, `late`, `crash` (no observation after the last step) or `running`."""
    numbers: list[int] = field(default_factory=list)
    final: int = -1


def observation(number):
    return np.array([number, -number], np.float32)


def reward_of(number):
    return float(np.sin(number))


def fill(episodes, capacity=10_000):
    replay = Replay(2, 1, capacity=capacity)
    number = 0
    for episode in episodes:
        for k, driver in enumerate(episode.drivers):
            number += 1
            episode.numbers.append(number)
            last = k == len(episode.drivers) - 1 and episode.end in ("won", "late")
            replay.add(
                Step(
                    observation=observation(number),
                    action=np.array([number / 1000], np.float32),
                    policy_action=np.array([-number / 1000], np.float32),
                    driver=driver,
                    reward=reward_of(number),
                    terminated=last and episode.end == "won",
                    last=last,
                ),
                demonstration=episode.given,
            )
        if episode.end in ("won", "late"):
            number += 1
            episode.final = number
            replay.finish(observation(number))
        elif episode.end == "crash":
            replay.finish(None)
    return replay


def learnable(episode):
    """How many of its steps have an observation after them."""
    return len(episode.drivers) - (episode.end in ("crash", "running"))


def naive(episode, k, n_step):
    """(reward, discount, number of the next observation) of its step k."""
    reward, factor, j = 0.0, 1.0, k
    while True:
        reward += factor * reward_of(episode.numbers[j])
        factor *= DISCOUNT
        if j + 1 == learnable(episode) or j + 1 - k == n_step:
            break
        j += 1
    over = episode.end == "won" and j == len(episode.drivers) - 1
    after = (episode.numbers + [episode.final])[j + 1]
    return reward, 0.0 if over else factor, after


drivers = st.lists(st.sampled_from([POLICY, PERSON]), min_size=1, max_size=7)
ends = st.sampled_from(["won", "late", "crash"])
histories = st.tuples(
    st.lists(st.builds(Episode, st.booleans(), drivers, ends), min_size=1, max_size=6),
    st.one_of(st.none(), st.builds(Episode, st.just(False), drivers, st.just("running"))),
).map(lambda parts: [*parts[0], *([parts[1]] if parts[1] else [])])


@settings(max_examples=60, deadline=None)
@given(histories, st.integers(1, 4))
def test_transitions_equal_a_naive_loop(history, n_step):
    replay = fill(history)
    wanted = {
        episode.numbers[k]: (episode, k) for episode in history for k in range(learnable(episode))
    }  # fmt: skip
    rows = [row for row in range(replay.rows) if int(replay.column("observation")[row, 0]) in wanted]
    assert len(rows) == len(wanted)
    if not rows:
        return
    batch = replay.gather(np.array(rows), n_step, DISCOUNT)
    for i in range(len(rows)):
        number = int(batch.observation[i, 0])
        episode, k = wanted[number]
        reward, discount, after = naive(episode, k, n_step)
        assert float(batch.reward[i]) == pytest.approx(reward, abs=1e-5)
        assert float(batch.discount[i]) == pytest.approx(discount, abs=1e-6)
        if discount:
            assert batch.next_observation[i].tolist() == [after, -after]
        before = episode.numbers[max(0, k - 1)]
        assert float(batch.previous[i, 0]) == pytest.approx(before / 1000)
        assert float(batch.action[i, 0]) == pytest.approx(number / 1000)
        assert int(batch.driver[i]) == episode.drivers[k]
        assert bool(batch.given[i]) == episode.given
        over = episode.end in ("won", "late")
        assert int(batch.left[i]) == (len(episode.drivers) - k if over else -1)
        assert bool(batch.won[i]) == (over and reward_of(episode.numbers[-1]) > 0.0)
        helps = [j - k for j in range(k, len(episode.drivers)) if episode.drivers[j] == PERSON]
        assert int(batch.until_help[i]) == (helps[0] if helps and over else NEVER)
        if k + 1 < learnable(episode):
            assert int(batch.next_driver[i]) == episode.drivers[k + 1]
        elif episode.end in ("won", "late"):
            assert int(batch.next_driver[i]) == -1


@settings(max_examples=60, deadline=None)
@given(histories)
def test_only_steps_with_an_observation_after_them_are_drawn(history):
    replay = fill(history)
    generator = np.random.default_rng(0)
    for demonstrations in (True, False):
        allowed = {
            episode.numbers[k]
            for episode in history
            for k in range(learnable(episode))
            if (episode.given or episode.drivers[k] == PERSON if demonstrations else not episode.given)
        }
        if not allowed:
            with pytest.raises(ValueError, match="to learn from"):
                replay.sample(1, generator, demonstrations=demonstrations)
            continue
        batch = replay.sample(400, generator, demonstrations=demonstrations)
        found = set(batch.observation[:, 0].int().tolist())
        assert found <= allowed
        assert not replay.column("ghost")[batch.rows.numpy()].any()
        if len(allowed) <= 20:
            assert found == allowed, "every step has its chance"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(Episode, st.booleans(), drivers, ends), min_size=1, max_size=25))
def test_forgetting_keeps_what_is_left_whole(history):
    replay = fill(history, capacity=24)
    assert replay.rows <= 24
    where = {episode.numbers[k]: (episode, k) for episode in history for k in range(len(episode.drivers))}
    for demonstrations in (True, False):
        rows = replay.rows_of(demonstrations=demonstrations)
        assert (np.diff(rows) > 0).all() and (rows < replay.rows).all()
        assert not replay.column("ghost")[rows].any()
        if not len(rows):
            continue
        batch = replay.gather(rows, 2, DISCOUNT)
        for i in range(len(rows)):
            episode, k = where[int(batch.observation[i, 0])]
            assert episode.given or not demonstrations or episode.drivers[k] == PERSON
            reward, discount, after = naive(episode, k, 2)
            assert float(batch.reward[i]) == pytest.approx(reward, abs=1e-5)
            assert float(batch.discount[i]) == pytest.approx(discount, abs=1e-6)
            if discount:
                assert batch.next_observation[i].tolist() == [after, -after]
    assert replay.steps == sum(len(episode.drivers) for episode in history)


def test_the_newest_are_kept():
    history = [Episode(False, [POLICY] * 4, "late") for _ in range(10)]
    replay = fill(history, capacity=20)
    assert replay.column("observation")[replay.rows - 1, 0] == history[-1].final
    assert 10 <= replay.rows <= 20


def test_an_episode_longer_than_half_the_memory_is_cut():
    replay = fill([Episode(False, [POLICY] * 50, "late")], capacity=16)
    numbers = replay.column("observation")[:, 0]
    assert (np.diff(numbers) == 1).all() and numbers[-1] == 51
    assert len(numbers) >= 8


def test_memory_grows_beyond_its_first_allocation():
    replay = fill([Episode(False, [POLICY] * 700, "late") for _ in range(4)])
    assert replay.rows == 4 * 701
    batch = replay.sample(50, np.random.default_rng(0), demonstrations=False)
    assert (batch.next_observation[:, 0] - batch.observation[:, 0]).tolist() == [1.0] * 50


def test_the_last_step_waits_for_what_followed_it():
    replay = Replay(2, 1)
    step = {"action": np.zeros(1, np.float32), "policy_action": np.zeros(1, np.float32), "driver": POLICY}
    replay.add(Step(observation=observation(1), reward=0.0, terminated=False, last=False, **step))
    replay.add(Step(observation=observation(2), reward=1.0, terminated=True, last=True, **step))
    generator = np.random.default_rng(0)
    assert set(replay.sample(50, generator, demonstrations=False).observation[:, 0].tolist()) == {1.0}
    replay.finish(observation(3))
    assert set(replay.sample(50, generator, demonstrations=False).observation[:, 0].tolist()) == {1.0, 2.0}


def test_a_won_step_is_learned_from_even_without_what_followed():
    replay = Replay(2, 1)
    step = {"action": np.zeros(1, np.float32), "policy_action": np.zeros(1, np.float32), "driver": POLICY}
    replay.add(Step(observation=observation(1), reward=1.0, terminated=True, last=True, **step))
    replay.finish(None)
    batch = replay.sample(3, np.random.default_rng(0), demonstrations=False)
    assert batch.reward.tolist() == [1.0] * 3 and batch.discount.tolist() == [0.0] * 3


def test_returns_of_the_robots_own_finished_episodes():
    history = [
        Episode(True, [PERSON] * 2, "won"),
        Episode(False, [POLICY] * 3, "late"),
        Episode(False, [POLICY] * 2, "crash"),
        Episode(False, [POLICY, PERSON], "won"),
        Episode(False, [POLICY] * 2, "running"),
    ]
    replay = fill(history)
    wanted = [sum(map(reward_of, episode.numbers)) for episode in (history[1], history[3])]
    assert replay.returns == pytest.approx(wanted)


def test_relabelled_rewards_are_summed_step_by_step():
    replay = fill([Episode(False, [POLICY] * 4, "late")])
    replay.relabel = lambda rows: np.where(rows == 2, 10.0, 1.0)
    batch = replay.gather(np.arange(4), 3, DISCOUNT)
    assert batch.reward.tolist() == pytest.approx([1 + 0.9 + 8.1, 1 + 9 + 0.81, 10.9, 1.0])


def test_pictures_are_kept_once_and_follow_their_steps():
    replay = Replay(2, 1, {"front": (2, 2, 3)})
    step = {"action": np.zeros(1, np.float32), "policy_action": np.zeros(1, np.float32), "driver": POLICY}
    for k in range(3):
        images = {"front": np.full((2, 2, 3), k, np.uint8)}
        replay.add(
            Step(observation=observation(k), reward=0.0, terminated=False, last=k == 2, images=images, **step)
        )  # fmt: skip
    replay.finish(observation(3), {"front": np.full((2, 2, 3), 3, np.uint8)})
    batch = replay.gather(np.arange(3), 2, DISCOUNT)
    assert batch.images["front"][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert batch.next_images["front"][:, 0, 0, 0].tolist() == [2, 3, 3]
    with pytest.raises(ValueError, match="front"):
        replay.add(Step(observation=observation(1), reward=0.0, terminated=False, last=False, **step))
