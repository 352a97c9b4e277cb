"""Bundles of networks with chunks, memory and noise: checked when written and loaded, run single and batched alike."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import policies
from policies import manifest, rotation
from policies.bundle import BundleError, check_bundle
from policies.execution import Execution
from policies.types import QuadrotorSetpoint, QuadrotorState

HORIZON, MEMORY, NOISE = 3, 5, 2
SAMPLING = Execution(horizon=HORIZON, executed=2, memory_size=MEMORY, memory_initial=0.5, noise_size=NOISE)
REMEMBERING = Execution(horizon=HORIZON, ensemble_decay=0.2, history=1)


class Network:
    """tanh of one dense layer over everything that goes in, to a chunk of four rotors and, maybe, a memory."""

    def __init__(self, size, execution):
        rng = np.random.default_rng(1)
        self.size, self.execution = size, execution
        sizes = {"observation": size, "memory": execution.memory_length(size), "noise": execution.noise_size}
        self.sizes = {name: sizes[name] for name in execution.inputs()}
        width = sum(self.sizes.values())
        self.chunk = (0.2 * rng.standard_normal((width, 4 * HORIZON))).astype(np.float32)
        self.after = (0.2 * rng.standard_normal((width, MEMORY))).astype(np.float32)
        self.inputs = {name: rng.standard_normal((64, n)).astype(np.float32) for name, n in self.sizes.items()}

    def model(self):
        nodes = [
            helper.make_node("Concat", list(self.sizes), ["all"], axis=1),
            helper.make_node("MatMul", ["all", "chunk"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["action"]),
        ]
        constants = [
            numpy_helper.from_array(self.chunk, "chunk"),
            numpy_helper.from_array(np.array([-1, HORIZON, 4], np.int64), "shape"),
        ]
        outputs = [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", HORIZON, 4])]
        if self.execution.recurrent:
            nodes += [helper.make_node("MatMul", ["all", "after"], ["raw"]),
                      helper.make_node("Tanh", ["raw"], ["next_memory"])]  # fmt: skip
            constants.append(numpy_helper.from_array(self.after, "after"))
            outputs.append(helper.make_tensor_value_info("next_memory", TensorProto.FLOAT, ["N", MEMORY]))
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in self.sizes.items()]
        graph = helper.make_graph(nodes, "chunks", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def results(self):
        together = np.concatenate([self.inputs[name] for name in self.sizes], axis=1)
        found = {"action": np.tanh(together @ self.chunk).reshape(-1, HORIZON, 4)}
        return {**found, **({"next_memory": np.tanh(together @ self.after)} if self.execution.recurrent else {})}

    def arguments(self, contents):
        results = self.results()
        state = {**{k: v for k, v in self.inputs.items() if k != "observation"}, **results}
        return {
            "contents": dataclasses.replace(contents, execution=self.execution),
            "network": self.model(),
            "inputs": self.inputs["observation"],
            "expected": state.pop("action"),
            "state": state,
        }


@pytest.fixture(params=[SAMPLING, REMEMBERING], ids=["sampling", "remembering"])
def execution(request):
    return request.param


@pytest.fixture
def arguments(maker, execution):
    return Network(maker.manifest.observation_size, execution).arguments(maker.manifest)


@pytest.fixture
def folder(maker, arguments, tmp_path):
    return maker.write(tmp_path / "chunks", **arguments)


def flight(batch, steps=7, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=(*batch, *shape)).astype(np.float32)

    return [
        (
            QuadrotorState(normal(3), rotation.normalize(normal(4)), normal(3), normal(3)),
            QuadrotorSetpoint(normal(3), normal(3), normal(3), normal()),
        )
        for _ in range(steps)
    ]


def rows(item, index):
    values = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    return type(item)(**{name: None if v is None else v[index] for name, v in values.items()})


def run(policy, samples):
    policy.reset()
    return np.stack([(policy.step(*pair), policy.last_action)[1] for pair in samples])


def test_a_bundle_says_how_it_is_run_and_survives_the_round_trip(folder, execution):
    assert check_bundle(folder) == []
    assert policies.load(folder).manifest.execution == execution
    data = json.loads((folder / "manifest.json").read_text())
    assert json.loads(manifest.to_json(manifest.from_json(data))) == data


def test_a_bundle_without_anything_of_it_does_not_mention_it(bundle):
    assert "execution" not in json.loads((bundle / "manifest.json").read_text())
    assert policies.load(bundle).manifest.execution == Execution()


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 2)])
def test_a_batch_gives_each_row_what_it_gets_alone(folder, batch):
    samples = flight(batch)
    together = run(policies.load(folder), samples)
    assert together.shape == (7, *batch, 4)
    for row, index in enumerate(np.ndindex(*batch)):
        alone = policies.load(folder, seed=row)
        found = run(alone, [(rows(state, index), rows(setpoint, index)) for state, setpoint in samples])
        np.testing.assert_allclose(found, together[(slice(None), *index)], atol=1e-6)


def test_a_reset_in_the_middle_of_a_chunk_is_a_new_episode_for_these_rows_alone(folder, execution):
    samples, fresh = flight((4,), steps=3), flight((4,), seed=1)
    mask = np.array([True, False, False, True])
    policy, untouched = policies.load(folder), policies.load(folder)
    run(policy, samples)
    run(untouched, samples)
    policy.reset(mask)
    masked = np.stack([(policy.step(*pair), policy.last_action)[1] for pair in fresh])
    carried = np.stack([(untouched.step(*pair), untouched.last_action)[1] for pair in fresh])
    np.testing.assert_allclose(masked[:, ~mask], carried[:, ~mask], atol=1e-6)
    assert not np.allclose(masked[:, mask], carried[:, mask], atol=1e-3)
    if not execution.noise_size:  # noise goes on, so only what takes none begins as it did
        np.testing.assert_allclose(masked[:, mask], run(policies.load(folder), fresh)[:, mask], atol=1e-6)


def test_history_of_the_observation_holds_what_was_executed(folder):
    """`action_history` is the last term of this bundle: the chunk's own next action goes in, not its first."""
    policy = policies.load(folder)
    actions = run(policy, flight(()))
    np.testing.assert_array_equal(policy.last_observation[-12:], np.concatenate(actions[-2:-5:-1]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a["state"].update(noise=a["state"]["noise"] + 1.0), "differs from its stored actions"),
        (lambda a: a["state"].update(next_memory=a["state"]["next_memory"] + 1e-3), "stored memories by 0.001"),
        (lambda a: a["state"].update(memory=a["state"]["memory"][:, :2]), "memory is float32 of shape (64, 2)"),
        (lambda a: a["state"].pop("noise"), "vectors.npz cannot be read"),
        (lambda a: a.update(contents=swapped(a, noise_size=0)), "has inputs ['memory', 'noise', 'observation']"),
        (lambda a: a.update(contents=swapped(a, horizon=4)), "gives chunks of 3 actions; execution.horizon is 4"),
        (lambda a: a.update(contents=swapped(a, executed=4)), "executed is 4, but a chunk has 3 actions"),
        (lambda a: a.update(contents=swapped(a, horizon=1000)), "execution.horizon: 1000 is greater than"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(maker, tmp_path, change, says):
    arguments = Network(maker.manifest.observation_size, SAMPLING).arguments(maker.manifest)
    change(arguments)
    with pytest.raises(BundleError) as refused:
        maker.write(tmp_path / "chunks", **arguments)
    assert says in str(refused.value)


def swapped(arguments, **changes):
    contents = arguments["contents"]
    return dataclasses.replace(contents, execution=dataclasses.replace(contents.execution, **changes))
