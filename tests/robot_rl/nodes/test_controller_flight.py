"""A controller in place of a policy, in the same nodes: real processes, real DDS, real time."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from robot_rl.evaluate import evaluate  # noqa: E402
from robot_rl.flight import FigureEight, figure_eight_rmse, load_flight  # noqa: E402

ROOT = Path(__file__).parents[3]
NAMESPACE = f"t{os.getpid()}"
MISSION = f"/{NAMESPACE}/setpoint:\n  ros__parameters: {{hover_time: 1.0, landing_speed: 0.4}}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["geometric"])
def test_it_tracks_the_figure_eight_as_in_pure_simulation(tmp_path, name):
    """Two figure-eights of 5.5 s: tracking within 20 % of the simulation without any node."""
    report = evaluate(name, randomization="none", episodes=4, seed=1)
    expected = report["tracking_rmse_m"]
    (tmp_path / "parameters.yaml").write_text(MISSION)
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(tmp_path / "log"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "robot_rl.up", "quadrotor", f"policy:={name}", "setpoint:=demo"]
    command += ["auto_arm:=true", "end_when_done:=true", f"record:={tmp_path}", "height:=0.6"]
    command += [f"namespace:={NAMESPACE}"]
    command += [f"params_file:={tmp_path / 'parameters.yaml'}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            output = process.communicate(timeout=90.0)[0].decode()
        finally:
            process.terminate()  # asks all nodes to end where the mission did not
    assert process.returncode == 0 and "Traceback" not in output, output
    flown = figure_eight_rmse(load_flight(tmp_path), FigureEight(periods=2))
    print(f"{name}: {1e3 * flown:.1f} mm through the nodes, {1e3 * expected:.1f} mm in pure simulation")
    assert flown <= 1.2 * expected
