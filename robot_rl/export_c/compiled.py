"""An exported policy compiled for this machine: in place of the bundle where a policy is wanted, and to measure it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import policies
from policies.manifest import Manifest
from policies.types import BodyRatesThrust, CartesianTwist, Command, JointPositions, MotorSpeeds
from robot_rl.errors import UserError
from robot_rl.export_c.layout import flatten, floats, read_layout, unflatten
from robot_rl.export_c.samples import random_rows

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
"""An exported policy compiles with these."""
_FLOATS = ctypes.POINTER(ctypes.c_float)


def find_compiler() -> str | None:
    """`$CC`, or the first of cc, gcc and clang; None where there is none."""
    wanted = os.environ.get("CC")
    return next((found for name in (wanted, "cc", "gcc", "clang") if name and (found := shutil.which(name))), None)


def compile_library(folder: Path, compiler: str | None = None) -> Path:
    """Compile an exported folder to `libpolicy.so` in it, with its native loop.

    Raises:
        UserError: There is no C compiler, or it reports something.
    """
    compiler = compiler or find_compiler()
    if compiler is None:
        raise UserError("there is no C compiler (cc, gcc or clang); install one, or set CC")
    sources = ("policy.c", "policy_boot_test.c", "policy_loop.c")
    command = [compiler, *WARNINGS, "-O2", "-fPIC", "-shared", "-o", "libpolicy.so", *sources, "-lm", "-lpthread"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{compiler} does not compile {folder}: {done.stderr.strip()}")
    return folder / "libpolicy.so"


class CompiledPolicy:
    """An exported policy in this process; like `policies.Policy`, for one robot and without batches."""

    def __init__(self, library: Path, manifest: Manifest) -> None:
        """Open a library of `compile_library` that was exported from the bundle of `manifest`."""
        self.manifest = manifest
        self.layout = read_layout(manifest)
        self.library = ctypes.CDLL(str(library.resolve()))
        self.library.policy_boot_test.restype = ctypes.c_float
        self.last_action: np.ndarray | None = None
        """Normalized action (A,) of the last step, before its physical scale; None after a reset."""
        memory = sum(int(np.prod(spec.shape)) for spec in manifest.memory.values())
        self._first_action = memory + manifest.observation_size
        # `scratch` lies last in the structure; its size is only in the header.
        scratch = (library.parent / "policy.h").read_text().split("POLICY_SCRATCH_SIZE ")[1].split()[0]
        self._policy = np.zeros(self._first_action + manifest.action_size + int(scratch), np.float32)
        self._command = np.zeros(floats(self.layout.command), np.float32)
        self.reset()

    def boot_test(self) -> float:
        """Largest error of a normalized action over the stored inputs."""
        return float(self.library.policy_boot_test())

    def reset(self, mask: Any = None) -> None:
        """Begin an episode."""
        self.library.policy_reset(_pointer(self._policy))
        self.last_action = None

    def step(self, state: Any, setpoint: Any) -> Command:
        """The command for one state and set-point.

        Raises:
            ValueError: The policy gives no command: something is not finite.
        """
        rows = flatten(state, self.layout.state), flatten(setpoint, self.layout.setpoint)
        return self.step_rows(*rows)

    def step_rows(self, state: np.ndarray, setpoint: np.ndarray) -> Command:
        """`step` on rows of float32."""
        given = [_pointer(row) for row in (self._policy, state, setpoint, self._command)]
        if not self.library.policy_step(*given):
            raise ValueError("the policy gives no command: its state, set-point or action is not finite")
        self.last_action = self._policy[self._first_action :][: self.manifest.action_size].copy()
        values = self._command.copy()
        name = self.manifest.action.name
        if name == "motor_speeds":
            return MotorSpeeds(values)
        if name == "body_rates_thrust":
            return BodyRatesThrust(values[:3], values[3])
        if name == "cartesian_twist":
            frame = "tool" if self.manifest.action.parameters.get("frame") == "tool" else "base"
            return CartesianTwist(values[:6], frame, values[6])  # type: ignore[arg-type]
        return JointPositions(values[:-1], values[-1])


def _pointer(row: np.ndarray) -> Any:
    return row.ctypes.data_as(_FLOATS)


def compare(compiled: CompiledPolicy, bundle: str | Path, episodes: int, steps: int, seed: int = 0) -> float:
    """Largest difference of a normalized action between C and the bundle, over random episodes of both, whole path."""
    policy = policies.load(bundle)
    layout = compiled.layout
    worst = 0.0
    states, setpoints = random_rows(layout, episodes * steps, seed)
    expected = np.zeros((steps, episodes, policy.manifest.action_size), np.float32)
    for k in range(steps):
        rows = slice(k * episodes, (k + 1) * episodes)
        policy.step(unflatten(states[rows], layout, "state"), unflatten(setpoints[rows], layout, "setpoint"))
        expected[k] = policy.last_action
    for episode in range(episodes):
        compiled.reset()
        for k in range(steps):
            compiled.step_rows(states[k * episodes + episode], setpoints[k * episodes + episode])
            worst = max(worst, float(np.abs(compiled.last_action - expected[k, episode]).max()))
    return worst
