"""Chunks, ensembles, memory and noise between steps: against hand computations, row by row, and reset where asked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policies.execution import Execution, Executor, execution_violations

ROWS, SIZE, ACTIONS = 4, 3, 2


def observation(step, rows=ROWS):
    """Observations (rows, SIZE) that tell step and row apart."""
    return (np.arange(rows)[:, None] + 10.0 * step + 0.1 * np.arange(SIZE)).astype(np.float32)


def counting(horizon):
    """A network whose chunk is what it saw, 0.001 later for each action, and the calls that it got."""
    calls = []

    def infer(inputs, rows):
        calls.append((rows.tolist(), {name: value.copy() for name, value in inputs.items()}))
        begin = inputs["observation"][:, None, :ACTIONS]
        return {"action": begin + 0.001 * np.arange(horizon, dtype=np.float32)[None, :, None]}

    return infer, calls


def test_a_plain_network_is_called_at_every_step_with_what_is_seen():
    executor = Executor(Execution())
    infer, calls = counting(1)
    for step in range(3):
        np.testing.assert_array_equal(executor.step(observation(step), infer), observation(step)[:, :ACTIONS])
    assert [rows for rows, _ in calls] == [[0, 1, 2, 3]] * 3
    assert all(set(inputs) == {"observation"} for _, inputs in calls)


def test_the_executed_part_of_a_chunk_is_carried_out_before_the_network_runs_again():
    executor = Executor(Execution(horizon=5, executed=3))
    infer, calls = counting(5)
    found = np.stack([executor.step(observation(step), infer) for step in range(7)])
    assert len(calls) == 3
    for step in range(7):
        begun, at = step - step % 3, step % 3
        np.testing.assert_allclose(found[step], observation(begun)[:, :ACTIONS] + 0.001 * at, rtol=1e-6)


def test_rows_that_begin_anew_get_a_new_chunk_and_the_others_go_on_with_theirs():
    executor = Executor(Execution(horizon=4, executed=4))
    infer, calls = counting(4)
    executor.step(observation(0), infer)
    executor.reset(np.array([False, True, False, True]))
    found = executor.step(observation(1), infer)
    assert calls[1][0] == [1, 3]
    np.testing.assert_allclose(found[[1, 3]], observation(1)[[1, 3], :ACTIONS])
    np.testing.assert_allclose(found[[0, 2]], observation(0)[[0, 2], :ACTIONS] + 0.001, rtol=1e-6)
    executor.step(observation(2), infer)
    executor.step(observation(3), infer)
    executor.step(observation(4), infer)
    assert [rows for rows, _ in calls[2:]] == [[0, 2]]  # the others are a step behind


def test_an_ensemble_is_the_mean_with_weights_from_the_oldest_chunk_on():
    decay, horizon = 0.5, 3
    executor = Executor(Execution(horizon=horizon, ensemble_decay=decay))
    rng = np.random.default_rng(0)
    chunks = rng.uniform(-1.0, 1.0, (5, ROWS, horizon, ACTIONS)).astype(np.float32)
    for step in range(5):
        found = executor.step(observation(step), lambda inputs, rows, step=step: {"action": chunks[step][rows]})
        # By hand: the chunks made at steps step-2 … step, each with what it said about now.
        made = [past for past in range(max(0, step - horizon + 1), step + 1)]
        weights = [math.exp(-decay * place) for place in range(len(made))]
        wanted = sum(w * chunks[past, :, step - past] for w, past in zip(weights, made, strict=True)) / sum(weights)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_an_ensemble_votes_on_switches():
    executor = Executor(Execution(horizon=3, ensemble_decay=0.0, switches=(1,)))
    says = [[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]]  # of each chunk, about its three steps
    found = []
    for step in range(3):
        chunk = np.array([[[0.1 * step, value] for value in says[step]]], np.float32)
        found.append(executor.step(observation(step, 1), lambda inputs, rows, chunk=chunk: {"action": chunk})[0])
    # A tie closes; two of three opened for the third step's votes: 1, 1, -1.
    assert [action[1] for action in found] == [1.0, -1.0, 1.0]
    np.testing.assert_allclose([action[0] for action in found], [0.0, 0.05, 0.1], atol=1e-6)


def test_chunks_of_an_earlier_episode_have_no_vote_even_if_they_were_broken():
    executor = Executor(Execution(horizon=3, ensemble_decay=0.1))
    broken = np.full((ROWS, 3, ACTIONS), np.nan, np.float32)
    assert np.isnan(executor.step(observation(0), lambda inputs, rows: {"action": broken})).all()
    mask = np.array([True, False, False, False])
    executor.reset(mask)
    good = np.full((ROWS, 3, ACTIONS), 0.5, np.float32)
    found = executor.step(observation(1), lambda inputs, rows: {"action": good[rows]})
    np.testing.assert_array_equal(found[0], 0.5)
    assert np.isnan(found[1:]).all(), "a chunk that is no number was hidden"


def test_history_is_newest_first_and_begins_with_the_first_observation():
    executor = Executor(Execution(horizon=2, executed=2, history=2))
    infer, calls = counting(2)
    for step in range(5):
        if step == 3:
            executor.reset(np.array([True, False, False, False]))
        executor.step(observation(step), infer)
    first, third, restarted, fifth = (inputs["memory"] for _, inputs in calls)
    np.testing.assert_array_equal(first, np.tile(observation(0), 2))
    np.testing.assert_array_equal(third, np.concatenate([observation(1), observation(0)], axis=1))
    np.testing.assert_array_equal(restarted, np.tile(observation(3)[:1], 2))
    np.testing.assert_array_equal(fifth, np.concatenate([observation(3), observation(2)], axis=1)[1:])


def test_a_recurrent_memory_goes_from_inference_to_inference_and_begins_with_its_initial_value():
    executor = Executor(Execution(memory_size=1, memory_initial=-2.0))

    def infer(inputs, rows):
        after = inputs["memory"] + 1.0
        return {"action": after[:, None].repeat(ACTIONS, axis=2), "next_memory": after}

    assert [float(executor.step(observation(k), infer)[0, 0]) for k in range(3)] == [-1.0, 0.0, 1.0]
    executor.reset(np.array([True, False, False, False]))
    np.testing.assert_array_equal(executor.step(observation(3), infer)[:, 0], [-1.0, 2.0, 2.0, 2.0])


def drawn(executor, steps, rows=ROWS, reset=None):
    """The noise that a network gets."""
    given = []

    def infer(inputs, rows):
        given.append(inputs["noise"])
        return {"action": np.zeros((len(rows), 1, ACTIONS), np.float32)}

    for step in range(steps):
        if reset is not None and step == reset:
            executor.reset()
        executor.step(observation(step, rows), infer)
    return np.stack(given)


def test_a_row_draws_what_it_would_draw_alone_and_the_seed_repeats_it():
    execution = Execution(noise_size=3)
    batch = drawn(Executor(execution, seed=5), 4)
    np.testing.assert_array_equal(batch, drawn(Executor(execution, seed=5), 4))
    for row in range(ROWS):
        np.testing.assert_array_equal(drawn(Executor(execution, seed=5 + row), 4, rows=1)[:, 0], batch[:, row])
    assert len(np.unique(batch)) == batch.size
    assert abs(drawn(Executor(execution), 500).std() - 1.0) < 0.05


def test_a_reset_does_not_rewind_the_noise():
    execution = Execution(noise_size=2)
    np.testing.assert_array_equal(drawn(Executor(execution), 6, reset=3), drawn(Executor(execution), 6))


def test_another_number_of_rows_needs_a_reset():
    executor = Executor(Execution())
    infer, _ = counting(1)
    executor.step(observation(0), infer)
    with pytest.raises(ValueError, match="the batch has 2 rows; it had 4: reset"):
        executor.step(observation(1, 2), infer)
    executor.reset()
    assert executor.step(observation(1, 2), infer).shape == (2, ACTIONS)


@pytest.mark.parametrize(
    ("execution", "says"),
    [
        (Execution(horizon=2, executed=3), "executed is 3, but a chunk has 2 actions"),
        (Execution(horizon=4, executed=2, ensemble_decay=0.1), "at every step, so 1"),
        (Execution(history=1, memory_size=4), "one of them must be 0"),
        (Execution(switches=(2,)), "switches names element 2, but the action has 2"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(execution, says):
    (problem,) = execution_violations(execution, ACTIONS)
    assert says in problem
    assert execution_violations(Execution(), ACTIONS) == []
