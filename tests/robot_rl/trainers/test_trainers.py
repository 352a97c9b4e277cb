"""Other libraries train a task, each in an environment of its own, and the return rises."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import robot_rl

ROOT = Path(robot_rl.__file__).parents[1]
NUM_ENVS, HORIZON, ITERATIONS = 64, 16, 30
EPISODE = 50
"""Steps of an episode of `arm-reach`."""
LIBRARIES = {
    "rsl-rl-5": ("rsl_rl", ["rsl-rl-lib==5.5.1", "tensordict", "pyvers", "GitPython", "gitdb", "smmap"]),
    "rl-games-1.6": ("rl_games", ["rl-games==1.6.5", "psutil==5.9.8", "tensorboardX", "setproctitle", "watchdog"]),
    "skrl-2": ("skrl", ["skrl==2.1.1"]),
    "skrl-1.4": ("skrl", ["skrl==1.4.3", "gym==0.26.2", "gym-notices"]),
}
"""Module of `robot_rl.trainers`, and what it needs beside torch; without their own dependencies, which bring CUDA."""


def environment(folder, packages):
    """A Python with `packages` and, behind them, what this Python has."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, *packages]
    result = subprocess.run(install, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip(f"pip could not install {' '.join(packages)}: {result.stderr.strip().splitlines()[-1]}")
    return python


def mean_return(rows):
    return sum(row["return"] * row["episodes"] for row in rows) / sum(row["episodes"] for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_return_rises(library, tmp_path):
    module, packages = LIBRARIES[library]
    python = environment(tmp_path / "environment", packages)
    size = ["--num-envs", str(NUM_ENVS), "--horizon", str(HORIZON), "--iterations", str(ITERATIONS)]
    result = subprocess.run(
        [python, "-m", f"robot_rl.trainers.{module}", "arm-reach", *size, "--out", tmp_path / "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "run" / "returns.jsonl").read_text().splitlines()]
    assert len(rows) >= ITERATIONS
    # Until then some episodes are short: rsl_rl begins in the middle of them.
    whole = [row for row in rows if row["episodes"] > 0 and row["steps"] > (EPISODE + HORIZON) * NUM_ENVS]
    third = len(whole) // 3
    before, after = mean_return(whole[:third]), mean_return(whole[-third:])
    print(f"{library}: return {before:.2f} → {after:.2f} in {rows[-1]['steps']} steps")
    assert after > before + 3.0, f"return {before:.2f} → {after:.2f}; its standard error is about 0.6"
