"""Foresight from recorded episodes, and giving up by it: calibrated, without leaks, safe, worth the time it says."""

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import policies
from hardware.descriptions import load_arm
from policies.manifest import Manifest, RobotRequirement
from policies.observations import memory_specs, needed_signals, observation_size
from policies.types import ArmSetpoint, ArmState
from robot_rl.episodes import Episode, load_episodes
from robot_rl.errors import UserError
from robot_rl.hil.failure import DEFAULT, FailurePredictor, Trace, cross_validate, features_of, fit, usable
from robot_rl.hil.giving_up import NEVER, GiveUpRule, GivingUp, Watch, choose_rule
from robot_rl.hil.log import RecordLog
from robot_rl.hil.restart import expected_makespan, fit_run_times
from sim.tasks import TASKS

sys.path.insert(0, str(Path(__file__).parent))
from workers import make_record, make_schema

SCHEMA = make_schema(observation=2)
LIMIT = 100


def episode(number, success, progress, force, drivers=None, **info):
    length = len(progress)
    zeros = np.zeros(length)
    return Episode(
        source=Path("made-up.log"),
        number=number,
        schema=SCHEMA,
        complete=True,
        observations=np.stack([progress, np.arange(length)], axis=1).astype(np.float32),
        images={},
        actions=np.zeros((length, 3), np.float32),
        policy_actions=np.zeros((length, 3), np.float32),
        drivers=np.full(length, "policy") if drivers is None else drivers,
        rewards=zeros.astype(np.float32),
        terminated=np.arange(length) == (length - 1 if success else -1),
        truncated=np.arange(length) == (-1 if success else length - 1),
        success=success,
        observed_at=zeros,
        acted_at=zeros,
        wall_time=0.0,
        info={"progress": np.asarray(progress), "peak_force_arm": np.asarray(force), **info},
    )


def made_up(rng, number):
    """Doomed in four of ten: then it gets stuck on the way and presses; otherwise it succeeds after 2 s or more."""
    doomed = rng.random() < 0.4
    length = LIMIT if doomed else min(LIMIT, int(20 + rng.exponential(15.0)))
    time = np.arange(length)
    reach = rng.uniform(0.2, 0.7) if doomed else 1.0
    pace = LIMIT / 4 if doomed else length
    progress = np.minimum(time / pace, reach) + 0.15 * rng.normal(size=length)
    force = np.abs(rng.normal(size=length)) + (3.0 * (time > 30) if doomed else 0.0)
    return episode(number, not doomed and length < LIMIT, progress, force)


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    return [made_up(rng, number) for number in range(150)]


@pytest.fixture(scope="module")
def judged(episodes):
    return cross_validate(episodes)


def test_features_are_known_before_the_action():
    progress, force = [0.1, 0.4, 0.3, 0.2], [5.0, 1.0, 7.0, 9.0]
    rows = features_of(episode(0, True, progress, force), (*DEFAULT, "observation"))
    expected = [
        # time, progress, best, since best, force, peak force, observation
        [0.0, 0.1, 0.1, 0.0, 0.0, 0.0, 0.1, 0.0],
        [0.1, 0.4, 0.4, 0.0, 5.0, 5.0, 0.4, 1.0],
        [0.2, 0.3, 0.4, 0.1, 1.0, 5.0, 0.3, 2.0],
        [0.3, 0.2, 0.4, 0.2, 7.0, 7.0, 0.2, 3.0],
    ]
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_episodes_come_from_a_log(tmp_path):
    schema = make_schema(observation=2)
    with RecordLog(tmp_path / "steps.log", schema) as log:
        for number in range(4):
            for index in range(5):
                info = {"progress": 0.1 * index, "peak_force_arm": 1.0 + index + 5.0 * (number % 2)}
                log.append(make_record(schema, number, index, ended=index == 4, driver="policy", info=info))
    loaded = load_episodes(tmp_path / "steps.log")
    predictor = fit(loaded)
    assert predictor.period == pytest.approx(0.1)
    assert [one.success for one in loaded] == [True, False, True, False]
    assert all((predictor.along(one)[-1] > 0.5) == (not one.success) for one in loaded)


def test_the_chance_is_calibrated_on_episodes_that_were_not_seen(judged):
    """Of the steps that get a chance of about x, a share of about x is in episodes that fail."""
    chances = np.concatenate(judged.chances)
    failed = np.concatenate([np.full(len(one), end) for one, end in zip(judged.chances, judged.failed, strict=True)])
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.0)):
        bin_ = (chances >= low) & (chances < high)
        assert bin_.sum() > 30
        assert chances[bin_].mean() == pytest.approx(failed[bin_].mean(), abs=0.2)


def test_the_confusion_matrix_counts_who_still_runs(episodes, judged):
    found = judged.confusion(0.5)
    for step in (0, 10, 30, 60):
        running = [one for one in episodes if len(one) > step]
        failures = sum(not one.success for one in running)
        assert found.true_positives[step] + found.false_negatives[step] == failures
        assert found.false_positives[step] + found.true_negatives[step] == len(running) - failures
    alarms = {round(alarm.time, 3): alarm for alarm in found.alarms()}
    assert alarms[4.0].true_positives > 0.8
    assert alarms[4.0].false_positives < 0.2
    assert max(alarms) < 0.1 * LIMIT  # at the end there is no success left to mistake


def test_what_says_nothing_foresees_nothing(episodes):
    """Cross-validation is by episode: chance features that are constant in an episode cannot be learned by heart."""
    rng = np.random.default_rng(1)
    blind = [
        dataclasses.replace(one, observations=np.repeat(rng.normal(size=(1, 2)), len(one), axis=0)) for one in episodes
    ]
    found = cross_validate(blind, ("observation",)).confusion(0.4)
    true = found.true_positives[5] / (found.true_positives[5] + found.false_negatives[5])
    false = found.false_positives[5] / (found.false_positives[5] + found.true_negatives[5])
    assert abs(true - false) < 0.25


def test_helped_given_up_and_unfinished_episodes_do_not_count(episodes):
    helped = dataclasses.replace(episodes[0], drivers=np.array(["policy", "person"] + ["policy"] * 98))
    gave_up = dataclasses.replace(episodes[1], info={**episodes[1].info, "gave_up": np.array([np.nan, 1.0])})
    cut = dataclasses.replace(episodes[2], complete=False)
    assert usable([helped, gave_up, cut, episodes[3]]) == [episodes[3]]
    with pytest.raises(UserError, match="some of both"):
        fit([one for one in episodes if one.success])
    nothing = dataclasses.replace(episodes[0], info={})
    with pytest.raises(UserError, match="no `progress`"):
        features_of(nothing)


def test_a_predictor_comes_back_from_its_file_and_garbage_does_not(episodes, tmp_path):
    predictor = fit(episodes[:40])
    predictor.save(tmp_path / "failure.safetensors")
    loaded = FailurePredictor.load(tmp_path / "failure.safetensors")
    np.testing.assert_array_equal(loaded.along(episodes[50]), predictor.along(episodes[50]))
    assert loaded.features == predictor.features
    (tmp_path / "garbage").write_bytes(b"\x08" + bytes(100))
    with pytest.raises(UserError, match="no failure predictor"):
        FailurePredictor.load(tmp_path / "garbage")
    dataclasses.replace(predictor, weights=predictor.weights[:-1]).save(tmp_path / "short")
    with pytest.raises(UserError, match="shapes"):
        FailurePredictor.load(tmp_path / "short")
    dataclasses.replace(predictor, weights=predictor.weights * np.nan).save(tmp_path / "nan")
    with pytest.raises(UserError, match="not finite"):
        FailurePredictor.load(tmp_path / "nan")


def run_times(episodes):
    return fit_run_times([0.1 * len(one) for one in episodes], [one.success for one in episodes], 0.1 * LIMIT)


def watched(watch, one):
    """Step at which a recorded episode would have been given up, or None."""
    watch.begin()
    force = np.concatenate([[0.0], one.info["peak_force_arm"]])
    for k in range(len(one)):
        if watch.look(float(one.info["progress"][k]), float(force[k]), one.observations[k]):
            return k
    return None


def test_the_watch_sees_what_the_predictor_was_fitted_to(episodes):
    predictor = fit(episodes[:60])
    watch = Watch(predictor, NEVER)
    force = np.concatenate([[0.0], episodes[70].info["peak_force_arm"]])
    seen = []
    for k in range(len(episodes[70])):
        assert not watch.look(float(episodes[70].info["progress"][k]), float(force[k]))
        seen.append(watch.failure)
    np.testing.assert_allclose(seen, predictor.along(episodes[70]), atol=1e-12)


def test_the_chosen_rule_shortens_the_makespan_of_new_episodes_as_it_says(episodes, judged):
    reset = 3.0
    runs = run_times(episodes)
    rule, promised = choose_rule(judged, runs, reset, force_limit=20.0)
    assert promised < 0.9 * expected_makespan(runs, reset)
    watch = Watch(fit(episodes), rule)
    rng = np.random.default_rng(2)
    spent = {"with": 0.0, "without": 0.0}
    solved = {"with": 0, "without": 0}
    for number in range(600):
        one = made_up(rng, number)
        end = watched(watch, one)
        for name, success, steps in (
            ("without", one.success, len(one)),
            ("with", one.success and end is None, len(one) if end is None else end),
        ):
            spent[name] += 0.1 * steps + (0.0 if success else reset)
            solved[name] += success
    found = {name: spent[name] / solved[name] for name in spent}
    assert found["with"] < 0.9 * found["without"]
    assert found["with"] == pytest.approx(promised, rel=0.15)
    assert found["without"] == pytest.approx(expected_makespan(runs, reset), rel=0.15)


def test_where_resets_are_too_dear_nothing_is_given_up(judged, episodes):
    blind = dataclasses.replace(judged, chances=[np.full(len(one), 0.99) for one in judged.chances])
    runs = run_times(episodes)
    assert choose_rule(blind, runs, 1e4) == (NEVER, expected_makespan(runs, 1e4))


def always(features=("time",), period=0.1, observation=0):
    """A predictor that expects failure whatever it sees."""
    size = len(features) - 1 + observation if observation else len(features)
    weights = np.zeros(2 * size + 1)
    weights[0] = 4.0
    return FailurePredictor(
        features=features, period=period, limit=10.0, mean=np.zeros(size), spread=np.ones(size), weights=weights
    )


def test_giving_up_waits_for_its_time_and_until_nothing_presses():
    watch = Watch(always(), GiveUpRule(time=0.3, force_limit=5.0))
    forces = [0.0, 0.0, 0.0, 8.0, math.nan, 12.0, 4.9, 0.0]
    assert [watch.look(0.0, force) for force in forces] == [False] * 6 + [True, True]
    watch.begin()
    assert [watch.look(0.0, 0.0) for _ in range(4)] == [False] * 3 + [True]
    late = Watch(always(), NEVER)
    assert not any(late.look(0.0, 0.0) for _ in range(200))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A policy of the peg task that a linear layer makes."""
    task = TASKS["arm-peg-insert"]
    size = observation_size(task.terms)
    rng = np.random.default_rng(3)
    weights = (0.1 * rng.normal(size=(size, 4))).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["observation", "weights"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["flat"]),
            helper.make_node("Unsqueeze", ["flat", "axis"], ["action"]),
        ],
        "linear",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", 1, 4])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    interface = load_arm("panda").interface
    signals = needed_signals(task.terms)
    manifest = Manifest(
        schema_version=policies.manifest.SCHEMA_VERSION,
        name="linear",
        task=task.name,
        robot=RobotRequirement(
            name="panda", kind="arm", actuators=interface.actuators, signals=signals, command=task.action.name
        ),
        control_rate_hz=10.0,
        observation=task.terms,
        observation_size=size,
        action=task.action,
        action_size=4,
        memory=memory_specs(task.terms),
        envelope=task.envelope,
        training={},
        evaluation={},
        files={},
    )
    inputs = rng.normal(size=(64, size)).astype(np.float32)
    folder = tmp_path_factory.mktemp("bundles") / "linear"
    return policies.write_bundle(
        folder, manifest, model.SerializeToString(), inputs, np.tanh(inputs @ weights)[:, None], "# linear\n"
    )


def arm_state(force):
    pose = np.array([0.5, 0.0, 0.1, 0.0, 1.0, 0.0, 0.0], np.float32)
    zeros = np.zeros(7, np.float32)
    wrench = None if force is None else np.array([0.0, 0.0, -force, 0.0, 0.0, 0.0], np.float32)
    return ArmState(zeros, zeros, pose, np.zeros(6, np.float32), np.float32(0.0), None, wrench, {"hole": pose})


def test_a_policy_says_when_to_give_up_and_acts_as_before(bundle):
    plain, wrapped = policies.load(bundle), policies.load(bundle)
    size = plain.manifest.observation_size
    giving = GivingUp(wrapped, always(("time", "observation"), observation=size), GiveUpRule(time=0.2, force_limit=5.0))
    for _ in range(2):
        plain.reset()
        giving.reset()
        flags = []
        for force in (0.0, 0.0, 9.0, 1.0):
            state = arm_state(force)
            command, give_up = giving.step(state, ArmSetpoint())
            np.testing.assert_array_equal(command.values, plain.step(state, ArmSetpoint()).values)
            flags.append(give_up)
        assert flags == [False, False, False, True]
    # What the caller felt since the last step counts for more than this moment.
    assert not giving.step(arm_state(0.0), ArmSetpoint(), peak_force=9.0)[1]


def test_what_the_wrapper_cannot_know_it_asks_for(bundle):
    policy = policies.load(bundle)
    with pytest.raises(ValueError, match="give the function"):
        GivingUp(policy, always(("progress",)), NEVER)
    with pytest.raises(ValueError, match="fitted at 20 Hz"):
        GivingUp(policy, always(period=0.05), NEVER)
    giving = GivingUp(policy, always(), GiveUpRule(time=0.0))
    state = dataclasses.replace(arm_state(0.0), wrench=np.zeros(6, np.float32))
    assert giving.step(state, ArmSetpoint())[1]
    with pytest.raises(ValueError, match="wants the policy's observation"):
        Trace(("observation",), 0.1).look(0.0, 0.0)
