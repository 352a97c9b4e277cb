"""From a trained network to a policy bundle that runs without torch."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tyro.conf import Positional

import policies
from hardware.descriptions import load_description
from policies import observations
from policies.actions import action_size
from policies.manifest import SCHEMA_VERSION, Manifest, RobotRequirement
from robot_rl.errors import UserError
from robot_rl.runs import restore
from sim.factory import build_env
from sim.tasks import Task

VECTORS = 128
"""Stored observations per bundle."""
_SAMPLED_PERIODS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write the bundle of a training run's newest checkpoint."""

    run: Positional[Path]
    """Folder of the run, as given to `robot-rl train --out`."""
    out: Path | None = None
    """Folder of the bundle; the run's `bundle` if not given."""


class _Exported(nn.Module):
    """A policy with the shapes of the contract: one action is a chunk of length 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor) -> Tensor:
        return self.network(observation)[:, None, :]


def to_onnx(network: nn.Module, observation_size: int) -> bytes:
    """The network as an ONNX model: `observation` (N, D) float32 → `action` (N, 1, A)."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The older exporter needs no further package and takes 0.05 s.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "policy.onnx"
        torch.onnx.export(
            _Exported(network).eval().cpu(),
            (torch.zeros(2, observation_size),),
            path,
            input_names=["observation"],
            output_names=["action"],
            dynamic_axes={"observation": {0: "N"}, "action": {0: "N"}},
            dynamo=False,
        )
        return path.read_bytes()


@torch.no_grad()
def sample_observations(task: Task, network: nn.Module, count: int, seed: int = 0) -> Tensor:
    """Observations (count, D) from the beginnings of as many randomized episodes of `network`."""
    env = build_env(task, count, seed=seed)
    obs = env.reset()["obs"]
    chosen = torch.zeros_like(obs)
    # Row k is taken so many periods into its episode: starts, what follows and the history are all there.
    spread = min(count, _SAMPLED_PERIODS, env.max_episode_length)
    for k in range(spread):
        chosen[k::spread] = obs[k::spread]
        obs = env.step(network(obs))[0]["obs"]
    return chosen


def export_bundle(
    folder: Path,
    name: str,
    task: Task,
    network: nn.Module,
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
) -> Path:
    """Write the bundle of a trained network; it has passed `policies.check_bundle` when this returns."""
    network = network.cpu().eval()
    inputs = sample_observations(task, network, VECTORS)
    with torch.no_grad():
        expected = _Exported(network)(inputs).numpy()
    interface = load_description(task.robot).interface
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        task=task.name,
        robot=RobotRequirement(
            name=interface.name,
            kind=interface.kind,
            actuators=interface.actuators,
            signals=observations.needed_signals(task.terms),
            command=task.action.name,
        ),
        control_rate_hz=task.control_rate_hz,
        observation=task.terms,
        observation_size=observations.observation_size(task.terms),
        action=task.action,
        action_size=action_size(task.action),
        memory=observations.memory_specs(task.terms),
        envelope=task.envelope,
        training=dict(training),
        evaluation=dict(evaluation),
        files={},
    )
    onnx = to_onnx(network, manifest.observation_size)
    return policies.write_bundle(folder, manifest, onnx, inputs.numpy(), expected, _card(manifest))


def run(config: ExportConfig) -> int:
    """Export the newest checkpoint of a run."""
    if not (config.run / "config.json").is_file():
        raise UserError(f"{config.run} is no training run: it has no config.json")
    learner, training = restore(config.run)
    folder = config.out or config.run / "bundle"
    export_bundle(folder, config.run.resolve().name, learner.task, learner.policy(), training, {})
    sys.stdout.write(f"bundle: {folder} (not evaluated: robot-rl eval {folder})\n")
    return 0


def _card(manifest: Manifest) -> str:
    rows = "\n".join(f"| {term.name} | {dict(term.parameters)} |" for term in manifest.observation)
    scores = "\n".join(
        f"| {key} | {value} |" for key, value in manifest.evaluation.items() if not isinstance(value, dict)
    )
    return f"""# {manifest.name}

Task `{manifest.task}` on `{manifest.robot.name}`, {manifest.control_rate_hz:g} Hz, action `{manifest.action.name}`
{dict(manifest.action.parameters)}, trained by {manifest.training.get("algorithm", "?")} with seed \
{manifest.training.get("seed", "?")}.

Run it: `policies.load("{manifest.name}").step(state, setpoint)`, once per control period. It was trained in
simulation only. Before the first flight on a vehicle, check motor order and directions with propellers off.

| observation term | parameters |
|---|---|
{rows}

| evaluation | |
|---|---|
{scores or "| none | |"}
"""
