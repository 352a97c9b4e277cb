"""The demonstration: what it starts it ends, and it says how the flight went."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from policies import BundleError
from robot_rl import demo
from robot_rl.errors import UserError
from robot_rl.flight import figure_eight_rmse, load_flight, load_timing, measure_phases

STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


def child(code, patience):
    return demo._process([sys.executable, "-c", code], os.environ, patience)


def test_a_child_is_asked_to_end_when_the_block_is_left():
    with child("import time; time.sleep(60)", patience=10.0) as process:
        assert process.poll() is None
    assert process.returncode not in (None, 0, -9)


def test_a_child_that_does_not_end_is_killed(capfd):
    with child(STUBBORN, patience=0.3) as process:
        while "up" not in capfd.readouterr().out:
            assert process.poll() is None
    assert process.returncode == -9


def test_a_failing_stage_is_named_with_its_status():
    with pytest.raises(UserError, match="robot-rl lst ended with status 2"):
        demo._command(["lst"])


def test_an_unknown_policy_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(BundleError, match="quadrotor-trck"):
        demo.run(demo.DemoConfig(out=tmp_path, policy="quadrotor-trck"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_shipped_policy_flies_the_demo_over_ros_2(tmp_path):
    command = [
        sys.executable,
        "-m",
        "robot_rl.cli",
        "demo",
        "--policy",
        "quadrotor-track",
        "--out",
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    (folder,) = tmp_path.iterdir()
    flight = load_flight(folder / "flight")
    phases = [phase.name for phase in measure_phases(flight)]
    assert [name for name in phases if name in {"takeoff", "hover", "figure_eight", "landing"}] == [
        "takeoff",
        "hover",
        "figure_eight",
        "landing",
    ]
    assert figure_eight_rmse(flight) <= 0.15
    assert abs(flight.position[-1, 2]) < 0.1
    assert 0 < load_timing(folder / "flight")["policy_step"]["p99_us"] < 100_000
    assert (folder / "report.html").stat().st_size < 6_000_000
    assert f"{folder.as_uri()}/report.html" in result.stdout
    assert not _running(str(folder))


def _running(word):
    """Processes whose command line mentions `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found
