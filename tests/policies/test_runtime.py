"""The runtime: single and batched alike, with a memory that `reset` clears where it is asked to."""

import dataclasses

import numpy as np
import pytest

import policies
from policies import observations, rotation
from policies.types import MotorSpeeds, QuadrotorSetpoint, QuadrotorState

STEPS = 6


def flight(batch, seed=0, dtype=np.float32):
    """States and set-points of a few steps."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(*batch, *shape)).astype(dtype)

    return [
        (
            QuadrotorState(normal(3), rotation.normalize(normal(4)), normal(3), normal(3)),
            QuadrotorSetpoint(normal(3), normal(3), normal(3), normal()),
        )
        for _ in range(STEPS)
    ]


def rows(item, index):
    values = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    return type(item)(**{name: None if v is None else v[index] for name, v in values.items()})


@pytest.fixture
def policy(bundle):
    return policies.load(bundle)


def run(policy, samples):
    """Commands and normalized actions of a flight from a fresh start."""
    policy.reset()
    commands, actions = [], []
    for state, setpoint in samples:
        command = policy.step(state, setpoint)
        assert isinstance(command, MotorSpeeds)
        commands.append(command.values)
        actions.append(policy.last_action)
    return np.array(commands), np.array(actions)


def test_a_step_is_observation_network_and_scale(policy, maker):
    (state, setpoint), *_ = flight(())
    memory = observations.initial_memory(maker.manifest.observation, like=state.position)
    expected, _ = observations.observe(maker.manifest.observation, state, setpoint, memory, 0.01)
    command = policy.step(state, setpoint)
    np.testing.assert_allclose(policy.last_observation, expected, atol=1e-6)
    action = np.tanh(expected @ maker.weights + maker.bias)
    np.testing.assert_allclose(policy.last_action, action, atol=1e-6)
    np.testing.assert_allclose(command.values, 1000.0 * (action + 1.0), atol=1e-2)
    assert command.values.shape == (4,)


@pytest.mark.parametrize("batch", [(1,), (5,), (2, 3)])
def test_a_batch_gives_each_vehicle_what_it_gets_alone(policy, batch):
    samples = flight(batch)
    commands, actions = run(policy, samples)
    assert commands.shape == (STEPS, *batch, 4)
    for index in np.ndindex(*batch):
        alone = run(policy, [(rows(state, index), rows(setpoint, index)) for state, setpoint in samples])
        np.testing.assert_allclose(alone[1], actions[(slice(None), *index)], atol=1e-6)
        np.testing.assert_allclose(alone[0], commands[(slice(None), *index)], atol=1e-3)


def test_single_and_double_precision_give_the_same_action(policy):
    samples = flight((4,), dtype=np.float64)
    single = [
        tuple(type(x)(**{k: None if v is None else v.astype(np.float32) for k, v in vars(x).items()}) for x in pair)
        for pair in samples
    ]
    np.testing.assert_allclose(run(policy, samples)[1], run(policy, single)[1], atol=2e-6)
    assert policy.last_observation.dtype == np.float32


def test_measured_motor_speeds_are_not_needed_and_change_nothing(policy):
    samples = flight(())
    with_speeds = [(dataclasses.replace(state, motor_speeds=np.ones(4)), point) for state, point in samples]
    np.testing.assert_array_equal(run(policy, samples)[0], run(policy, with_speeds)[0])


def test_history_holds_the_last_actions_newest_first(policy):
    _, actions = run(policy, flight(()))
    history = policy.last_observation[-12:]  # action_history is the last term of the bundle
    np.testing.assert_array_equal(history, np.concatenate(actions[-2:-5:-1]))


def test_reset_starts_anew(policy):
    samples = flight((3,))
    first, _ = run(policy, samples)
    again, _ = run(policy, samples)
    np.testing.assert_array_equal(first, again)
    policy.reset()
    assert policy.last_action is None
    assert policy.last_observation is None
    carried = [policy.step(*samples[0]).values, policy.step(*samples[0]).values]
    assert not np.array_equal(*carried), "the memory does nothing"


def test_a_mask_resets_only_what_it_names(policy):
    samples, fresh = flight((4,)), flight((4,), seed=1)
    mask = np.array([True, False, False, True])
    run(policy, samples)
    untouched = [policy.step(*pair).values for pair in fresh]
    run(policy, samples)
    policy.reset(mask)
    masked = [policy.step(*pair).values for pair in fresh]
    from_start, _ = run(policy, fresh)
    np.testing.assert_array_equal(np.array(masked)[:, mask], from_start[:, mask])
    np.testing.assert_array_equal(np.array(masked)[:, ~mask], np.array(untouched)[:, ~mask])
    assert not np.array_equal(np.array(masked)[:, mask], np.array(untouched)[:, mask])


def test_a_single_vehicle_takes_a_mask_without_axes(policy):
    samples = flight(())
    for again in (True, False):
        run(policy, samples)
        carried = policy.step(*samples[0]).values
        run(policy, samples)
        policy.reset(np.array(again))
        after = policy.step(*samples[0]).values
        assert np.array_equal(after, carried) is not again


def test_a_mask_of_another_shape_is_refused_and_one_before_any_step_is_harmless(policy):
    policy.reset(np.array([True, False]))
    samples = flight((3,))
    run(policy, samples)
    with pytest.raises(ValueError, match=r"reset mask has shape \(2,\), but the batch has \(3,\)"):
        policy.reset(np.array([True, False]))


def test_two_policies_of_one_bundle_share_no_memory(bundle, policy):
    other = policies.load(bundle)
    samples = flight(())
    run(other, flight((), seed=5))
    expected, _ = run(policy, samples)
    policy.reset()
    for (state, setpoint), values in zip(samples, expected, strict=True):
        other.step(state, setpoint)
        np.testing.assert_array_equal(policy.step(state, setpoint).values, values)


def test_inputs_are_not_written(policy):
    (state, setpoint), *_ = flight((2,))
    for array in [v for v in (*vars(state).values(), *vars(setpoint).values()) if v is not None]:
        array.flags.writeable = False
    before = state.position.copy()
    policy.step(state, setpoint)
    np.testing.assert_array_equal(state.position, before)


def test_what_is_not_finite_is_not_hidden(policy):
    """Refusing such a state is the caller's work; the policy must not turn it into a plausible command."""
    (state, setpoint), *_ = flight(())
    broken = dataclasses.replace(state, angular_velocity=np.full(3, np.nan, np.float32))
    assert not np.isfinite(policy.step(broken, setpoint).values).any()
