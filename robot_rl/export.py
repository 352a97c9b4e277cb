"""From a trained network to a policy bundle that runs without torch, and from a bundle to C."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from tyro.conf import Positional

import policies
from hardware.controllers.arm_config import ArmControllerConfig
from hardware.descriptions import load_description
from policies import observations
from policies.actions import action_size
from policies.bundle import read_manifest
from policies.execution import Execution, Executor
from policies.manifest import SCHEMA_VERSION, Manifest, RobotRequirement
from policies.pictures import View, pinhole_view
from robot_rl.errors import UserError
from robot_rl.export_c.compiled import CompiledPolicy, compare, compile_library, find_compiler
from robot_rl.export_c.writer import write_c
from robot_rl.runs import restore
from sim.factory import build_env
from sim.tasks import Task
from sim.tasks.arm import ArmTask

VECTORS = 128
"""Stored observations per bundle."""
_SAMPLED_PERIODS = 50
_PICTURED_EPISODES = 8
_C_TOLERANCE = 1e-5
_FIRST = {
    "quadrotor": "Before the first flight on a vehicle, check motor order and directions with propellers off.",
    "arm": "Before the first motion of an arm, go through the checklist of docs/safety.md, emergency stop at hand.",
}
"""What a card says last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write the bundle of a training run's newest checkpoint, or a bundle as C for a microcontroller."""

    run: Positional[Path]
    """Folder of the run, as given to `robot-rl train --out`; with `--format c` a bundle: its folder, or a name in the
    zoo."""
    out: Path | None = None
    """Folder to write; if not given, the run's `bundle`, or NAME-c here."""
    format: Literal["bundle", "c"] = "bundle"
    """`bundle`, or `c`: freestanding C99 (docs/controllers.md)."""
    vectors: int = 64
    """Stored observations in the boot test of the C code; fewer need less flash."""


class _Exported(nn.Module):
    """A policy with the shapes of the contract: one action is a chunk of length 1.

    A network with an `execution` has the contract's inputs and outputs as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor, *pictures: Tensor) -> Any:
        if hasattr(self.network, "execution"):
            return self.network(observation, *pictures)
        images = dict(zip(image_shapes(self.network), pictures, strict=True))
        return _act(self.network, observation, images)[:, None, :]


def image_shapes(network: nn.Module) -> dict[str, tuple[int, int]]:
    """(H, W) of the pictures that a network sees, by camera: its attribute `image_shapes`; empty for most."""
    return dict(getattr(network, "image_shapes", {}))


def execution_of(network: nn.Module) -> Execution:
    """How a network is run from step to step: its attribute `execution`; most have none."""
    found: Execution = getattr(network, "execution", Execution())
    return found


def _act(network: nn.Module, observation: Tensor, images: Mapping[str, Tensor]) -> Tensor:
    action: Tensor = network(observation, images) if images else network(observation)
    return action


def to_onnx(network: nn.Module, observation_size: int) -> bytes:
    """The network as an ONNX model: `observation` (N, D) float32 → `action` (N, H, A).

    One with `image_shapes` takes the pictures (N, H, W, 3) uint8 of its cameras too, as `image_<camera>`; one with an
    `execution` takes and gives what is named there.
    """
    execution, shapes = execution_of(network), image_shapes(network)
    sizes = {
        "observation": observation_size,
        "memory": execution.memory_length(observation_size),
        "noise": execution.noise_size,
    }
    given = {name: torch.zeros(2, sizes[name]) for name in execution.inputs()}
    given |= {f"image_{camera}": torch.zeros(2, *shape, 3, dtype=torch.uint8) for camera, shape in shapes.items()}
    outputs = execution.outputs()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The older exporter needs no further package and takes 0.05 s.
        warnings.simplefilter("ignore", DeprecationWarning)
        # It warns of recurrent networks whose batch may grow; the memory is an input here, so this one's may.
        warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size other than 1", UserWarning)
        # They compare sizes of their inputs with what they were built for.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning, module=r"torch\.nn\.modules\.rnn")
        path = Path(folder) / "policy.onnx"
        torch.onnx.export(
            _Exported(network).eval().cpu(),
            tuple(given.values()),
            path,
            input_names=list(given),
            output_names=list(outputs),
            dynamic_axes={name: {0: "N"} for name in [*given, *outputs]},
            dynamo=False,
        )
        return path.read_bytes()


@torch.no_grad()
def sample_observations(task: Task, network: nn.Module, count: int, seed: int = 0) -> Tensor:
    """Observations (count, D) from the beginnings of as many randomized episodes of `network`."""
    return sample_inputs(task, network, count, seed)[0]


@torch.no_grad()
def sample_inputs(task: Task, network: nn.Module, count: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Observations as of `sample_observations`, and the pictures (count, H, W, 3) of the network's cameras to them."""
    cameras = image_shapes(network)
    # Rendering takes far longer than physics: pictures come from fewer episodes, several moments of each.
    envs = min(count, _PICTURED_EPISODES) if cameras else count
    env = build_env(task, envs, seed=seed, cameras=tuple(cameras))
    observed = env.reset()
    # Row k is taken so many periods into its episode: starts, what follows and the history are all there.
    spread = min(count, _SAMPLED_PERIODS, env.max_episode_length)
    rows: dict[int, tuple[int, dict[str, Any]]] = {}
    for k in range(spread):
        for row in range(k, count, spread):
            rows[row] = (row % envs, observed)
        observed = env.step(_act(network, observed["obs"], observed.get("images", {})))[0]
    env.close()
    picked = [rows[row] for row in range(count)]
    observations_ = torch.stack([seen["obs"][index] for index, seen in picked])
    return observations_, {c: torch.stack([seen["images"][c][index] for index, seen in picked]) for c in cameras}


@torch.no_grad()
def sample_steps(task: Task, network: nn.Module, count: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs (count, ...) by name of a network with an `execution`, from randomized episodes in which it acts."""
    env = build_env(task, count, seed=seed)
    executor = Executor(execution_of(network), seed)
    taken: list[dict[str, np.ndarray]] = []

    def infer(inputs: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        taken.append(dict(inputs))
        return run_network(network, inputs)

    observed = env.reset()
    for _ in range(min(_SAMPLED_PERIODS, env.max_episode_length)):
        observed = env.step(torch.from_numpy(executor.step(observed["obs"].cpu().numpy(), infer)).to(env.device))[0]
    env.close()
    # Row k of the k-th inference: starts, what follows and what is remembered are all there.
    picked = [(taken[k % len(taken)], k) for k in range(count)]
    return {name: torch.from_numpy(np.stack([inputs[name][row] for inputs, row in picked])) for name in taken[0]}


def run_network(network: nn.Module, inputs: Mapping[str, np.ndarray | Tensor]) -> dict[str, np.ndarray]:
    """What a network with an `execution` makes of its inputs, by name."""
    execution = execution_of(network)
    found = network(*(torch.as_tensor(inputs[name]) for name in execution.inputs()))
    values = found if isinstance(found, tuple) else (found,)
    return {name: value.numpy() for name, value in zip(execution.outputs(), values, strict=True)}


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
    shapes = image_shapes(network)
    images: dict[str, Tensor] = {}
    state: dict[str, np.ndarray] = {}
    with torch.no_grad():
        if hasattr(network, "execution"):
            given = sample_steps(task, network, VECTORS)
            results = run_network(network, given)
            inputs, expected = given.pop("observation"), results.pop("action")
            state = {**{name: value.numpy() for name, value in given.items()}, **results}
        else:
            inputs, images = sample_inputs(task, network, VECTORS)
            expected = _Exported(network)(inputs, *(images[camera] for camera in shapes)).numpy()
    signals = observations.needed_signals(task.terms)
    interface = load_description(task.robot).interface
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        task=task.name,
        robot=RobotRequirement(
            name=interface.name,
            kind=interface.kind,
            actuators=interface.actuators,
            signals=tuple(sorted({*signals, "images"})) if shapes else signals,
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
        images=shapes,
        views=_views(task, shapes),
        execution=execution_of(network),
        controller=_controller(task),
    )
    onnx = to_onnx(network, manifest.observation_size)
    pictures = {camera: stored.numpy() for camera, stored in images.items()}
    return policies.write_bundle(folder, manifest, onnx, inputs.numpy(), expected, _card(manifest), pictures, state)


def _controller(task: Task) -> dict[str, Any]:
    """What the task sets of its arm's controller, as JSON data; the robot's shall be set alike."""
    if not isinstance(task, ArmTask):
        return {}
    set_here = dataclasses.asdict(task.controller)
    usual = dataclasses.asdict(ArmControllerConfig())
    return {name: value for name, value in set_here.items() if value != usual[name]}


def _views(task: Task, shapes: Mapping[str, tuple[int, int]]) -> dict[str, View]:
    """What a robot's calibrated camera must show: the same pinhole picture as the simulated one."""
    if not shapes:
        return {}
    from sim.camera_model import camera_model  # needs OpenCV, which a policy without pictures does not

    cameras = {camera.name: camera_model(camera) for camera in task.scene.cameras}  # type: ignore[union-attr]
    return {name: pinhole_view(cameras[name], shape) for name, shape in shapes.items() if name in cameras}


def run(config: ExportConfig) -> int:
    """Export the newest checkpoint of a run, or a bundle as C."""
    if config.format == "c":
        return _run_c(config)
    if not (config.run / "config.json").is_file():
        raise UserError(f"{config.run} is no training run: it has no config.json")
    learner, training = restore(config.run)
    folder = config.out or config.run / "bundle"
    export_bundle(folder, config.run.resolve().name, learner.task, learner.policy(), training, {})
    sys.stdout.write(f"bundle: {folder} (not evaluated: robot-rl eval {folder})\n")
    return 0


def _run_c(config: ExportConfig) -> int:
    """Write C; where there is a compiler, compile it and compare it with the bundle."""
    source = config.run / "bundle" if (config.run / "config.json").is_file() else config.run
    manifest = read_manifest(source)[1]
    folder = write_c(source, config.out or Path(f"{manifest.name}-c"), config.vectors)
    sys.stdout.write(f"C: {folder} (how to use it: {folder}/README.md)\n")
    if find_compiler() is None:
        sys.stdout.write("not compared with the bundle: no C compiler here (cc, gcc or clang)\n")
        return 0
    compiled = CompiledPolicy(compile_library(folder), manifest)
    stored, random = compiled.boot_test(), compare(compiled, source, episodes=20, steps=50)
    sys.stdout.write(
        f"largest error of an action: boot test {stored:.1e}, 1000 random states {random:.1e} "
        f"(limit {_C_TOLERANCE:g})\n"
    )
    return 0 if max(stored, random) <= _C_TOLERANCE else 1


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
simulation only. {_FIRST[manifest.robot.kind]}

| observation term | parameters |
|---|---|
{rows}

| evaluation | |
|---|---|
{scores or "| none | |"}
"""
