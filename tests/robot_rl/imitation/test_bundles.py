"""`robot-rl train` by imitation: from a recorded file to a bundle that acts in simulation and in its process."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import policies
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies import bundle as bundles
from policies.types import ArmSetpoint, CartesianTwist
from robot_rl import cli, export, train
from robot_rl.errors import UserError
from robot_rl.evaluate import evaluate
from robot_rl.evaluate_arm import _numpy, act
from robot_rl.export_c.writer import write_c
from robot_rl.hil.log import RecordLog
from robot_rl.hil.operators import OperatorConfig, ScriptedOperator
from robot_rl.hil.plant import SimulatedPlant, expert_action
from robot_rl.hil.rollout import Rollout
from robot_rl.hil.schema import Schema
from robot_rl.imitation.act import ActConfig
from robot_rl.imitation.algorithms import IMITATION
from robot_rl.imitation.bc import BcConfig
from robot_rl.imitation.bc_rnn import BcRnnConfig
from robot_rl.imitation.consistency import ConsistencyConfig
from robot_rl.imitation.diffusion import DiffusionConfig
from robot_rl.planes import records
from robot_rl.planes.policy_process import PolicyRunner
from robot_rl.planes.settings import PolicyConfig
from robot_rl.runs import TrainConfig, restore
from sim.factory import build_env
from sim.tasks import TASKS

TASK = TASKS["arm-reach"]
_DIFFUSION = DiffusionConfig(steps=100, hidden=32, blocks=1, horizon=6, executed=3)
TINY = {
    "bc": BcConfig(steps=100, hidden=(32,), components=2),
    "bc_rnn": BcRnnConfig(steps=50, hidden=16, memory=8, layers=2, components=2),
    "act": ActConfig(steps=50, width=16, heads=2, layers=1, horizon=5),
    "diffusion": _DIFFUSION,
    "consistency": ConsistencyConfig(steps=50, teacher=dataclasses.replace(_DIFFUSION, steps=50)),
}


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory):
    """Six episodes of the scripted expert, in a log."""
    path = tmp_path_factory.mktemp("demos") / "steps.log"
    plant = SimulatedPlant(TASK, seed=7)
    schema = Schema(observation=plant.observation_size, action=plant.action_size, task=TASK.name, robot="panda",
                    control_rate_hz=TASK.control_rate_hz)  # fmt: skip
    from robot_rl.hil.layout import action_layout

    operator = ScriptedOperator(
        OperatorConfig(rule="always", noise=0.05), action_layout(TASK.action),
        lambda moment: expert_action(TASK, moment.state, moment.setpoint), np.random.default_rng(0),
    )  # fmt: skip
    with RecordLog(path, schema) as log:
        rollout = Rollout(plant, operator)
        for _ in range(6):
            rollout.begin(demonstration=True)
            while rollout.running:
                log.append(rollout.step(lambda moment, index: (np.zeros(schema.action, np.float32), None)))
    plant.close()
    return path


@pytest.fixture(scope="session")
def runs(demonstrations, tmp_path_factory):
    """A short run of every algorithm, by name."""
    patch = pytest.MonkeyPatch()
    patch.setattr(export, "VECTORS", bundles.MIN_VECTORS)
    patch.setattr(export, "_SAMPLED_PERIODS", 7)
    folder = tmp_path_factory.mktemp("runs")
    for name in IMITATION:
        config = TrainConfig(
            task=TASK.name, algorithm=name, demos=demonstrations, out=folder / name, evaluation_episodes=0, **TINY
        )
        assert train.run(config) == 0
    patch.undo()
    return folder


@pytest.mark.parametrize("name", IMITATION)
def test_a_run_ends_with_a_bundle_that_says_what_it_imitated_and_how_it_is_run(runs, name):
    folder = runs / name / "bundle"
    assert policies.check_bundle(folder) == []
    manifest = policies.load(folder).manifest
    assert manifest.training["algorithm"] == name
    assert manifest.training["demonstrations"]["episodes"] == 6
    assert manifest.execution == restore(runs / name)[0].policy().execution
    horizons = {"bc": 1, "bc-rnn": 1, "act": 5, "diffusion": 6, "consistency": 6}
    assert manifest.execution.horizon == horizons[name]
    assert manifest.execution.recurrent is (name == "bc-rnn")
    assert (manifest.execution.noise_size > 0) is (name in ("diffusion", "consistency"))
    with np.load(folder / "vectors.npz") as vectors:
        named = {*manifest.execution.inputs(), *manifest.execution.outputs()}
        assert set(vectors.files) == named
        assert len({row.tobytes() for row in vectors["observation"]}) == bundles.MIN_VECTORS
    rows = [json.loads(line) for line in (runs / name / "progress.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows)


@pytest.mark.parametrize("name", IMITATION)
def test_the_exported_graph_is_the_network_that_was_trained(runs, name):
    learner, training = restore(runs / name)
    assert training["demonstrations"]["episodes"] == 6
    network, execution = learner.policy(), learner.policy().execution
    session = bundles.open_session(runs / name / "bundle" / "policy.onnx")
    size = policies.load(runs / name / "bundle").manifest.observation_size
    sizes = {"observation": size, "memory": execution.memory_length(size), "noise": execution.noise_size}
    generator = torch.Generator().manual_seed(3)
    for count in (1, 7):
        inputs = {n: 0.5 * torch.randn(count, sizes[n], generator=generator) for n in execution.inputs()}
        exported = session.run(list(execution.outputs()), {n: value.numpy() for n, value in inputs.items()})
        with torch.no_grad():
            wanted = network(*inputs.values())
        for found, value in zip(exported, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            np.testing.assert_allclose(found, value.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", IMITATION)
def test_a_batch_of_robots_gets_what_each_gets_alone(runs, name):
    """Along the same states, with resets of some rows in the middle of a chunk."""
    policy = policies.load(runs / name / "bundle")
    alone = [policies.load(runs / name / "bundle", seed=row) for row in range(3)]
    env = build_env(TASK, 3, seed=0)
    env.reset()
    generator = np.random.default_rng(0)
    for step in range(10):
        state, setpoint = env.measured, env.setpoint
        together = act(policy, TASK, state, setpoint)
        for row, single in enumerate(alone):
            one = type(state)(**{f.name: picked(getattr(state, f.name), row) for f in dataclasses.fields(state)})
            single.step(_numpy(one), ArmSetpoint(tool_pose=setpoint.tool_pose[row].numpy()))
            np.testing.assert_allclose(single.last_action, together[row], atol=1e-5)
        env.step(torch.from_numpy(generator.uniform(-1.0, 1.0, together.shape).astype(np.float32)))
        if step == 4:
            mask = np.array([False, True, True])
            policy.reset(mask)
            for single, again in zip(alone, mask, strict=True):
                if again:
                    single.reset()
    env.close()


def picked(value, row):
    if value is None:
        return None
    return {name: item[row] for name, item in value.items()} if isinstance(value, dict) else value[row]


@pytest.mark.parametrize("name", ["bc-rnn", "diffusion"])
def test_the_evaluation_of_every_policy_runs_it_without_knowing_what_it_is(runs, name):
    metrics = evaluate(runs / name / "bundle", episodes=4, seed=0)
    assert metrics["episodes"] == 4 and 0.0 <= metrics["success_rate"] <= 1.0
    assert evaluate(runs / name / "bundle", episodes=4, seed=0)["episode_return"] == metrics["episode_return"]


@pytest.mark.parametrize("name", ["bc-rnn", "act", "diffusion"])
def test_the_policy_process_gives_the_commands_of_the_policy_and_forgets_at_a_new_episode(runs, name, tmp_path):
    folder = runs / name / "bundle"
    env = build_env(TASK, 1, seed=0)
    env.reset()
    state, setpoint = env.measured, env.setpoint
    env.close()
    slots = {
        "state": records.state_dtype(7), "objects": records.OBJECTS, "setpoint": records.SETPOINT, "face": records.FACE
    }  # fmt: skip
    writers = {slot: SlotWriter(tmp_path, slot, dtype) for slot, dtype in slots.items()}
    runner = PolicyRunner(policies.load(folder), 7, PolicyConfig(bundle=str(folder)), tmp_path)
    commands = SlotReader(tmp_path, "command", records.command_dtype(7))
    alone = policies.load(folder)
    alone.step(_numpy(type(state)(**{f.name: picked(getattr(state, f.name), 0) for f in dataclasses.fields(state)})),
               ArmSetpoint(tool_pose=setpoint.tool_pose[0].numpy()))  # fmt: skip
    alone.reset()  # the runner tries its policy out: the noise has gone on, everything else begins
    now, period = 10.0, runner.period
    for step in range(8):
        angles = state.joint_positions[0].numpy() + 0.01 * step
        record = records.new(records.state_dtype(7))
        record["stamp"], record["joint_positions"] = now, angles
        for field in ("joint_velocities", "tool_pose", "tool_twist", "gripper_width"):
            record[field] = getattr(state, field)[0].numpy()
        writers["state"].write(record)
        writers["setpoint"].write(
            records.fill_setpoint(records.new(records.SETPOINT), ArmSetpoint(tool_pose=setpoint.tool_pose[0].numpy()))
        )
        face = records.new(records.FACE)
        face["policy_active"], face["episode"] = True, 1 if step < 5 else 2
        writers["face"].write(face)
        assert runner.tick(now) == ""
        if step in (0, 5):
            alone.reset()
        sent = records.to_command(commands.read().record, 7)
        seen = records.to_state(record[()])
        wanted = alone.step(seen, ArmSetpoint(tool_pose=setpoint.tool_pose[0].numpy()))
        assert isinstance(sent, CartesianTwist)
        np.testing.assert_allclose(sent.values, wanted.values, atol=1e-6)
        now += period
    runner.close()


def test_a_finished_diffusion_run_can_be_the_teacher(runs, demonstrations, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "VECTORS", bundles.MIN_VECTORS)
    monkeypatch.setattr(export, "_SAMPLED_PERIODS", 2)
    config = TrainConfig(
        task=TASK.name, algorithm="consistency", demos=demonstrations, out=tmp_path, evaluation_episodes=0,
        consistency=ConsistencyConfig(steps=50, teacher_run=runs / "diffusion"),
    )  # fmt: skip
    assert train.run(config) == 0
    student, teacher = (load_file(folder / "checkpoint.safetensors") for folder in (tmp_path, runs / "diffusion"))
    for name in (name for name in teacher if name.startswith("deployed/")):
        taught = student[name.replace("deployed/", "second/deployed/teacher.")]
        assert torch.equal(taught, teacher[name])
    with pytest.raises(UserError, match="was trained by act, not by diffusion"):
        train.run(dataclasses.replace(config, out=tmp_path / "x",
                                      consistency=ConsistencyConfig(teacher_run=runs / "act")))  # fmt: skip


def test_what_keeps_something_between_steps_is_not_written_as_c(runs, tmp_path):
    with pytest.raises(UserError, match="keeps chunks, memory or noise between steps"):
        write_c(runs / "act" / "bundle", tmp_path / "c")


def test_the_command_line_names_demonstrations_and_refuses_what_makes_no_sense(tmp_path, capsys):
    parsed = cli.parse("train", ["arm-pick-lift", "--algorithm", "bc", "--demos", "set", "--demo-share", "0.5",
                                 "--demo-choice", "best", "--bc.steps", "7"])  # fmt: skip
    assert (parsed.algorithm, str(parsed.demos), parsed.demo_share, parsed.bc.steps) == ("bc", "set", 0.5, 7)
    assert cli.main(["train", "arm-reach", "--algorithm", "bc", "--out", str(tmp_path / "a")]) == cli.USAGE
    assert "give --demos FOLDER" in capsys.readouterr().err
    assert cli.main(["train", "arm-reach", "--demos", "x", "--out", str(tmp_path / "b")]) == cli.USAGE
    assert "ppo learns from the simulator" in capsys.readouterr().err
