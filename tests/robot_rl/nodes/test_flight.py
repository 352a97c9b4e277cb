"""Whole missions by `robot-rl up`: real processes, real DDS, real time."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from nav_msgs.msg import Odometry  # noqa: E402

from policies.types import QuadrotorState  # noqa: E402
from robot_rl.flight import FigureEight, figure_eight_rmse, load_flight, load_timing, measure_phases  # noqa: E402
from robot_rl.nodes import messages, qos  # noqa: E402

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_of_the_test_before(probe):
    for heard in (probe.states, probe.motors, probe.statuses, probe.diagnostics):
        heard.clear()


def fly(folder, *arguments, namespace, parameters, timeout=60.0):
    """Run a mission to its end and read its record."""
    (folder / "parameters.yaml").write_text(parameters)
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(folder / "log"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "robot_rl.up", "quadrotor", "setpoint:=demo", "auto_arm:=true"]
    command += ["end_when_done:=true", f"record:={folder}", f"namespace:={namespace}", *arguments]
    command += [f"params_file:={folder / 'parameters.yaml'}"]
    output = folder / "output.txt"
    with (
        output.open("w") as file,
        subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process,
    ):
        try:
            status = process.wait(timeout)
        finally:
            process.terminate()  # asks all nodes to end where the mission did not
    assert status == 0 and "Traceback" not in output.read_text(), output.read_text()
    return load_flight(folder), output.read_text()


def test_demo_flight(tmp_path):
    """Take-off, hover, one figure-eight at 5.5 s, landing; RMSE of the eight at most 0.15 m in real time."""
    name = f"t{os.getpid()}_cf1"
    shorter = "setpoint:\n  ros__parameters: {periods: 1.0, hover_time: 1.0, landing_speed: 0.4}\n"
    flight, output = fly(tmp_path, "height:=0.6", namespace=name, parameters=f"/{name}/{shorter}")
    phases = [phase.name for phase in measure_phases(flight)]
    order = ["takeoff", "hover", "figure_eight", "return", "landing", "done"]
    assert [name for name in phases if name in order] == order, output
    assert figure_eight_rmse(flight, FigureEight(periods=1)) <= 0.15
    hover = next(phase for phase in measure_phases(flight) if phase.name == "hover")
    assert hover.rmse <= 0.15
    assert flight.position[-1, 2] < 0.02
    assert np.all(flight.motor_commands[-5:] == 0.0)
    assert f"{name}.policy" in output
    timing = load_timing(tmp_path)
    for name in ("policy_step", "control_wake_error", "control_work", "control_state_age", "control_command_age"):
        assert sum(timing[name]["counts"]) == timing[name]["count"] > 500
        assert len(timing[name]["edges_us"]) == len(timing[name]["counts"]) + 1
    assert timing["policy_step"]["p50_us"] < 10_000  # the period


def test_nothing_flies_before_the_recorder_reads(tmp_path, processes, probe):
    """However late the recorder comes, the record has the take-off."""
    folder = f"folder:={tmp_path}"
    processes.start("simulator")
    processes.start("policy", "policy:=geometric")
    processes.start("setpoint", "height:=0.3")
    processes.start("supervisor", "policy:=geometric", "driver:=sim", "auto_arm:=true", f"record:={tmp_path}")
    waits = "auto_arm waits for the recorder"
    probe.wait(lambda: waits in processes.log("supervisor"), 30.0, "supervisor that waits")
    time.sleep(1.0)
    assert not any(status.mode == "active" for status in probe.statuses)
    topics = "topics:=['odom','setpoint','setpoint/phase','motor_commands','supervisor/status']"
    processes.start("recorder", folder, "recording:=true", topics)
    probe.wait(lambda: any(status.mode == "active" for status in probe.statuses), 30.0, "armed supervisor")
    probe.wait(lambda: probe.height > 0.2, 20.0, "take-off")
    assert set(processes.end().values()) == {0}
    phases = [phase.name for phase in measure_phases(load_flight(tmp_path))]
    assert phases[phases.index("takeoff") - 1] == "ground"


def test_record_survives_a_kill(tmp_path, processes, probe):
    """A recorder that is killed in flight has left all of it but the last second."""
    processes.start("recorder", f"folder:={tmp_path}", "recording:=true", "topics:=['odom']")
    publisher = qos.publisher(probe.node, Odometry, "odom", qos.SENSOR_PUBLISHER)
    probe.wait(lambda: publisher.get_subscription_count() > 1, 20.0, "recorder")
    for sent in range(300):
        state = QuadrotorState(np.full(3, float(sent)), np.array([1.0, 0, 0, 0]), np.zeros(3), np.zeros(3))
        publisher.publish(messages.odometry_from_state(state, 100.0 + 0.01 * sent))
        time.sleep(0.005)
    time.sleep(1.0)
    processes.kill("recorder")
    probe.node.destroy_publisher(publisher)
    flight = load_flight(tmp_path)
    assert flight.position[-1, 0] == 299.0
    np.testing.assert_allclose(np.diff(flight.time) / 0.01, np.diff(flight.position[:, 0]), atol=1e-4)
    assert len(flight.time) > 200
    assert np.all(np.isnan(flight.setpoint_position)) and np.all(np.isnan(flight.motor_commands))
    assert flight.phase_names == ("waiting",) and load_timing(tmp_path) == {}
