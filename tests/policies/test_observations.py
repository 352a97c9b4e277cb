"""Every observation term, whatever it is: one result for every array kind, pure, symmetric, bounded."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch

from policies import observations, rotation
from policies.observations import TERMS
from policies.quadrotor_terms import QUADROTOR_TERMS
from policies.terms import TermConfig
from policies.types import QuadrotorSetpoint, QuadrotorState

PERIOD = 0.01
BATCH = 5
# Wide limits keep clipping out of the way of exact comparisons; the tests of clipping set their own.
EXAMPLES = {"limit": 50.0, "clip": 50.0, "scale": 0.7, "length": 3, "size": 4, "initial": 0.25}


def config(name, **changes):
    """A configuration of a term with an example value for each of its parameters."""
    signature = inspect.signature(TERMS[name].function)
    needed = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "period"]
    unknown = set(needed) - set(EXAMPLES)
    assert not unknown, f"give {sorted(unknown)} of term {name!r} an example value in this test"
    return TermConfig(name=name, parameters={**{key: EXAMPLES[key] for key in needed}, **changes})


ALL = tuple(config(name) for name in (*QUADROTOR_TERMS, "action_history"))
each_term = pytest.mark.parametrize("term", ALL, ids=lambda term: term.name)


def sample(seed, batch=(BATCH,), spread=1.0):
    """A state, a set-point and a normalized action, numpy float64."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return spread * rng.normal(size=(*batch, *shape))

    state = QuadrotorState(normal(3), rotation.normalize(normal(4)), normal(3), normal(3), None)
    return (
        state,
        QuadrotorSetpoint(normal(3), normal(3), normal(3), normal()),
        rng.uniform(-1, 1, (*batch, 4)),
    )


def mapped(function, item):
    """A dataclass with a function applied to all of its arrays."""
    values = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    return type(item)(**{name: None if v is None else function(v) for name, v in values.items()})


def fly(terms, samples, convert=lambda array: array):
    """Observations and last memory along a sequence of samples, from a fresh memory."""
    memory = observations.initial_memory(terms, like=convert(samples[0][0].position))
    seen = []
    for state, setpoint, action in samples:
        state, setpoint = mapped(convert, state), mapped(convert, setpoint)
        observation, memory = observations.observe(terms, state, setpoint, memory, PERIOD)
        memory = observations.record_action(memory, convert(action))
        seen.append(observation)
    return seen, memory


SAMPLES = [sample(seed) for seed in range(6)]


@each_term
def test_numpy_single_numpy_batch_and_torch_batch_agree(term):
    batch, memory = fly([term], SAMPLES)
    tensors, tensor_memory = fly([term], SAMPLES, torch.as_tensor)
    singles, single_memory = fly([term], SAMPLES, lambda array: array[2])
    for a, b, c in zip(batch, tensors, singles, strict=True):
        assert isinstance(b, torch.Tensor)
        np.testing.assert_allclose(b.numpy(), a, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(c, a[2], rtol=1e-13, atol=1e-14)
    for name in memory:
        np.testing.assert_allclose(tensor_memory[name].numpy(), memory[name], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(single_memory[name], memory[name][2], rtol=1e-13, atol=1e-14)


@each_term
@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3)])
def test_sizes_and_memory_are_as_declared(term, batch):
    samples = [sample(seed, batch) for seed in range(3)]
    specs = observations.memory_specs([term])
    before = observations.initial_memory([term], like=samples[0][0].position)
    assert set(before) == set(specs)
    for name, spec in specs.items():
        np.testing.assert_array_equal(before[name], np.full((*batch, *spec.shape), spec.initial))
    seen, memory = fly([term], samples)
    assert seen[-1].shape == (*batch, observations.observation_size([term]))
    assert {name: value.shape for name, value in memory.items()} == {
        name: (*batch, *spec.shape) for name, spec in specs.items()
    }


@each_term
@pytest.mark.parametrize("convert", [np.float32, lambda a: torch.as_tensor(a, dtype=torch.float32)])
def test_single_precision_stays_single(term, convert):
    seen, memory = fly([term], SAMPLES, convert)
    assert str(seen[-1].dtype).endswith("float32")
    assert all(str(value.dtype).endswith("float32") for value in memory.values())


@each_term
def test_inputs_are_never_written(term):
    state, setpoint, action = SAMPLES[0]
    memory = fly([term], SAMPLES)[1]
    everything = [
        *(v for v in vars(state).values() if v is not None),
        *vars(setpoint).values(),
        *memory.values(),
        action,
    ]
    copies = [array.copy() for array in everything]
    names = dict(memory)
    for array in everything:
        array.flags.writeable = False
    try:
        _, after = observations.observe([term], state, setpoint, memory, PERIOD)
        observations.record_action(after, action)
    finally:
        for array in everything:
            array.flags.writeable = True
    for array, copy in zip(everything, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert all(memory[name] is value for name, value in names.items()) and set(memory) == set(names)


@each_term
def test_a_turn_of_the_whole_world_about_the_vertical_changes_nothing(term):
    for angle in (0.3, -2.0, 3.1):
        turn = rotation.from_yaw(np.array(angle))

        def world(vector, turn=turn):
            return rotation.rotate(turn[None], vector)

        turned = [
            (
                QuadrotorState(
                    world(s.position),
                    rotation.multiply(np.broadcast_to(turn, s.orientation.shape), s.orientation),
                    world(s.linear_velocity),
                    s.angular_velocity,
                ),
                QuadrotorSetpoint(world(t.position), world(t.velocity), world(t.acceleration), t.yaw + angle),
                action,
            )
            for s, t, action in SAMPLES
        ]
        for a, b in zip(fly([term], SAMPLES)[0], fly([term], turned)[0], strict=True):
            np.testing.assert_allclose(b, a, atol=1e-12)


@each_term
def test_a_shift_of_the_world_changes_nothing(term):
    shift = np.array([10.0, -7.0, 3.0])
    shifted = [
        (
            dataclasses.replace(s, position=s.position + shift),
            dataclasses.replace(t, position=t.position + shift),
            a,
        )
        for s, t, a in SAMPLES
    ]
    for a, b in zip(fly([term], SAMPLES)[0], fly([term], shifted)[0], strict=True):
        np.testing.assert_allclose(b, a, atol=1e-13)


@each_term
def test_both_signs_of_a_quaternion_look_the_same(term):
    flipped = [(dataclasses.replace(s, orientation=-s.orientation), t, a) for s, t, a in SAMPLES]
    for a, b in zip(fly([term], SAMPLES)[0], fly([term], flipped)[0], strict=True):
        np.testing.assert_allclose(b, a, atol=1e-12)


@each_term
def test_a_term_reads_all_of_its_declared_signals_and_no_other(term):
    signals = TERMS[term.name].signals
    plain, plain_memory = fly([term], SAMPLES)
    for field in ("position", "orientation", "linear_velocity", "angular_velocity"):
        if field in signals:
            other = sample(99)[0]
            changed = [(dataclasses.replace(s, **{field: getattr(other, field)}), t, a) for s, t, a in SAMPLES]
            seen, memory = fly([term], changed)
            same = np.array_equal(seen, plain) and all(np.array_equal(memory[n], plain_memory[n]) for n in memory)
            assert not same, f"{term.name} declares {field} but does not read it"
        else:
            hidden = [
                (dataclasses.replace(s, **{field: np.full_like(getattr(s, field), np.nan)}), t, a)
                for s, t, a in SAMPLES
            ]
            np.testing.assert_array_equal(fly([term], hidden)[0], plain)


@each_term
def test_memory_stays_within_its_clip_whatever_happens(term):
    term = config(term.name, **({"clip": 0.02} if "clip" in term.parameters else {}))
    samples = [(s, t, 40.0 * a) for s, t, a in (sample(seed, spread=100.0) for seed in range(8))]
    samples[1:] = samples[:1] * 7  # the same way all the time, so that sums grow
    _, memory = fly([term], samples)
    for name, spec in observations.memory_specs([term]).items():
        if spec.clip is not None:
            vector = term.name == "position_error_integral"  # its length is clipped, not its elements
            size = np.linalg.norm(memory[name], axis=-1) if vector else np.abs(memory[name])
            assert size.max() == pytest.approx(spec.clip)


@each_term
def test_gradients_are_exact(term):
    state, setpoint, action = (mapped(torch.as_tensor, x) if not isinstance(x, np.ndarray) else x for x in SAMPLES[0])
    memory = fly([term], SAMPLES, torch.as_tensor)[1]
    names = sorted(memory)
    moving = [state.position, state.orientation, state.linear_velocity, state.angular_velocity]
    moving += [setpoint.position, setpoint.velocity, setpoint.acceleration, setpoint.yaw]
    moving += [memory[name] for name in names] + [torch.as_tensor(action)]
    moving = [x.clone().requires_grad_() for x in moving]

    def observe(*x):
        memory = dict(zip(names, x[8:-1], strict=True))
        seen, memory = observations.observe([term], QuadrotorState(*x[:4]), QuadrotorSetpoint(*x[4:8]), memory, PERIOD)
        memory = observations.record_action(memory, x[-1])
        return (seen, *(memory[name] for name in names))

    assert torch.autograd.gradcheck(observe, moving)
    gradients = torch.autograd.grad(observe(*moving)[0].square().sum(), moving, allow_unused=True)
    assert any(g is not None and bool((g != 0).any()) for g in gradients)


def test_world_vectors_come_first_and_each_in_the_order_of_the_terms():
    whole, _ = fly(ALL, SAMPLES)
    order = sorted(ALL, key=lambda term: not TERMS[term.name].world_vector)
    parts = np.concatenate([fly([term], SAMPLES)[0][-1] for term in order], axis=-1)
    # A term alone keeps its own memory, so this holds after any number of steps.
    np.testing.assert_allclose(whole[-1], parts, rtol=1e-13, atol=1e-14)
    assert whole[-1].shape[-1] == observations.observation_size(ALL)


def test_world_vectors_are_seen_in_the_frame_of_the_vehicle():
    state, setpoint, _ = SAMPLES[0]
    yaw = rotation.from_yaw(np.linspace(-3.0, 3.0, BATCH))
    level = dataclasses.replace(state, orientation=yaw)
    feature, _ = observations.observe([config("position_error")], level, setpoint, {}, PERIOD)
    error = state.position - setpoint.position
    # Softened where there is no heading (upside down), which costs a part in ten thousand elsewhere.
    np.testing.assert_allclose(feature, rotation.rotate_inverse(yaw, error), rtol=3e-4)
    up, _ = observations.observe([config("up_direction")], level, setpoint, {}, PERIOD)
    np.testing.assert_allclose(up, np.broadcast_to([0.0, 0.0, 1.0], up.shape), atol=1e-15)


def test_up_direction_is_the_vertical_in_the_body_frame_at_any_attitude():
    state, setpoint, _ = SAMPLES[0]
    up, _ = observations.observe([config("up_direction")], state, setpoint, {}, PERIOD)
    vertical = np.broadcast_to([0.0, 0.0, 1.0], up.shape)
    np.testing.assert_allclose(up, rotation.rotate_inverse(state.orientation, vertical), atol=1e-14)


@each_term
def test_features_stay_finite_and_small_upside_down(term):
    flips = rotation.from_rotation_vector(np.array([[np.pi, 0.0, 0.0], [0.0, np.pi, 0.0], [np.pi - 1e-9, 0.0, 0.0]]))
    state, setpoint, action = sample(3, (3,))
    seen, _ = fly([term], [(dataclasses.replace(state, orientation=flips), setpoint, action)])
    assert np.isfinite(seen[0]).all()
    assert np.abs(seen[0]).max() < 10.0


@pytest.mark.parametrize("heading", [-3.0, -0.4, 0.0, 1.0, 3.1])
@pytest.mark.parametrize("offset", [-0.3, 0.0, 0.2, 2.0, -2.0])
def test_yaw_error_wraps_and_clips(heading, offset):
    state, setpoint, _ = sample(0, ())
    state = dataclasses.replace(state, orientation=rotation.from_yaw(np.array(heading + offset)))
    for turns in (-2, 0, 1):
        at = dataclasses.replace(setpoint, yaw=np.array(heading + 2 * np.pi * turns))
        error, _ = observations.observe([config("yaw_error", limit=0.5)], state, at, {}, PERIOD)
        assert error[0] == pytest.approx(np.clip(offset, -0.5, 0.5), abs=1e-12)


def test_histories_are_newest_first_and_start_at_their_initial_value():
    terms = (config("action_history"), config("angular_velocity_history"))
    seen, _ = fly(terms, SAMPLES)
    actions = [action for _, _, action in SAMPLES]
    rates = [0.7 * state.angular_velocity for state, _, _ in SAMPLES]
    start, still = np.full((BATCH, 4), 0.25), np.zeros((BATCH, 3))
    np.testing.assert_array_equal(seen[0], np.concatenate([start] * 3 + [still] * 3, axis=-1))
    np.testing.assert_array_equal(
        seen[2], np.concatenate([actions[1], actions[0], start, rates[1], rates[0], still], axis=-1)
    )
    np.testing.assert_array_equal(seen[5], np.concatenate(actions[4:1:-1] + rates[4:1:-1], axis=-1))


def test_the_integral_adds_error_times_period_and_clips_error_and_sum():
    state, setpoint, _ = sample(0, ())
    still = dataclasses.replace(state, orientation=np.array([1.0, 0.0, 0.0, 0.0]))
    at = dataclasses.replace(setpoint, position=still.position - np.array([3.0, -4.0, 0.0]))
    term = config("position_error_integral", limit=1.0, clip=0.015, scale=2.0)
    seen, memory = fly([term], [(still, at, np.zeros(4))] * 2)
    direction = np.array([0.6, -0.8, 0.0])
    np.testing.assert_allclose(seen[0], 2.0 * 0.01 * direction, rtol=3e-4)
    np.testing.assert_allclose(seen[1], 2.0 * 0.015 * direction, rtol=3e-4)
    np.testing.assert_allclose(memory["position_error_integral"], 0.015 * direction, atol=1e-15)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("position_eror", "did you mean 'position_error'?"), ("camera", "known terms: position_error")],
)
def test_unknown_terms_name_the_nearest(wrong, hint):
    with pytest.raises(ValueError, match=f"unknown observation term {wrong!r}") as caught:
        observations.observation_size([TermConfig(name=wrong)])
    assert hint in str(caught.value)
