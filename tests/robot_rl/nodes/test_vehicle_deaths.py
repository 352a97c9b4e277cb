"""`up quadrotor driver:=mavlink` in flight: whoever dies, the vehicle lands, and neither process nor memory is left."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests" / "hardware" / "drivers"))
pytest.importorskip("rclpy")
pytest.importorskip("pymavlink", reason="MAVLink packets: pip install 'robot_rl[mavlink]'")

from mavlink_vehicle import PX4_LAND, MavlinkVehicle  # noqa: E402

from hardware.realtime.seqlock import SlotFolder  # noqa: E402
from robot_rl.nodes.process import is_running  # noqa: E402

pytestmark = pytest.mark.slow
HEIGHT = 0.6


class Flight:
    """The launcher, its nodes, and the vehicle."""

    def __init__(self, folder, vehicle, port):
        self.vehicle, self.output = vehicle, folder / "output.txt"
        # The robot's memory is named by its namespace, and the machine may run other tests meanwhile.
        self.namespace = f"t{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"
        self.memory = SlotFolder(f"{self.namespace}.crazyflie").path
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "log"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        command = [sys.executable, "-m", "robot_rl.up", "quadrotor", "driver:=mavlink", f"height:={HEIGHT}"]
        command += [f"namespace:={self.namespace}"]
        command += [f"driver_settings:=[connection=udp:127.0.0.1:{port}]"]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def text(self):
        return self.output.read_text()

    @property
    def nodes(self):
        """Process ids by name, as the launcher told them."""
        lines = [line for line in self.text.splitlines() if line.startswith("[up]") and ": process " in line]
        return {line.split()[1].rstrip(":"): int(line.split()[-1]) for line in lines}

    def wait(self, condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"no {what} within {seconds:g} s:\n{self.text}"
            time.sleep(0.02)

    def take_off(self):
        """Armed by the executable that a person calls; nothing before has moved it."""
        self.wait(lambda: "phase ground" in self.text, 30.0, "set-point on the ground")
        assert not self.vehicle.setpoints and not self.vehicle.armed
        code = "import sys; from robot_rl.nodes.process import start; sys.exit(start('arm'))"
        arm = [sys.executable, "-c", code, "--ros-args", "-r", f"__ns:=/{self.namespace}"]
        armed = subprocess.run(arm, env=self.environment, timeout=40.0, check=False)
        assert armed.returncode == 0, self.text
        self.wait(lambda: self.vehicle.body.height > 0.5 * HEIGHT, 15.0, "flight")
        self.started = {f"process of {name}": pid for name, pid in self.planes().items()}
        assert set(self.started) == {"process of supervisor", "process of policy"} and self.memory.exists()

    def planes(self):
        """Process ids of what the nodes have started, by the node's name."""
        nodes = {pid: name for name, pid in self.nodes.items()}
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent in nodes:
                found[nodes[parent]] = int(path.name)
        return found

    def ends(self, within):
        """The launcher's status; fails if it, a node, a node's process or memory is left."""
        begin, pids = time.monotonic(), {**self.nodes, **self.started}
        status = self.process.wait(within)
        while left := [name for name, pid in pids.items() if is_running(pid)] + ["memory"] * self.memory.exists():
            assert time.monotonic() - begin < within, f"left behind: {left}"
            time.sleep(0.05)
        return status

    def close(self):
        for pid in [self.process.pid, *self.nodes.values(), *self.planes().values()]:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(5.0)


@pytest.fixture
def flight(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with MavlinkVehicle(port) as vehicle:
        running = Flight(tmp_path, vehicle, port)
        try:
            running.take_off()
            yield running
        finally:
            running.close()


def landed(flight):
    """On the ground and disarmed, by the vehicle's own landing or the supervisor's descent."""
    flight.wait(lambda: not flight.vehicle.armed, 12.0, "landing")
    assert flight.vehicle.body.on_ground


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_launcher_lands_the_vehicle(flight, number):
    flight.process.send_signal(number)
    begin = time.monotonic()
    flight.wait(lambda: flight.vehicle.mode == PX4_LAND, 3.0, "landing")
    print(f"{number.name}: the vehicle lands after {time.monotonic() - begin:.2f} s")
    assert flight.ends(within=12.0) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert "Traceback" not in flight.text
    landed(flight)


@pytest.mark.parametrize("victim", ["supervisor", "policy"])
def test_the_death_of_a_critical_node_ends_all_and_lands(flight, victim):
    os.kill(flight.nodes[victim], signal.SIGKILL)
    landed(flight)
    assert flight.ends(within=25.0) == 1
    assert f"node {victim} was killed by SIGKILL" in flight.text and "Traceback" not in flight.text


@pytest.mark.parametrize(("victim", "process"), [("supervisor", "control"), ("policy", "policy")])
def test_the_death_of_a_nodes_process_ends_all_and_lands(flight, victim, process):
    os.kill(flight.started[f"process of {victim}"], signal.SIGKILL)
    landed(flight)
    assert flight.ends(within=25.0) == 1
    assert f"the {process} process was killed by SIGKILL" in flight.text and "Traceback" not in flight.text


def test_the_death_of_the_setpoint_node_changes_nothing(flight):
    flight.wait(lambda: abs(flight.vehicle.body.height - HEIGHT) < 0.15, 10.0, "hover")
    os.kill(flight.nodes["setpoint"], signal.SIGKILL)
    time.sleep(3.0)
    assert abs(flight.vehicle.body.height - HEIGHT) < 0.25
    assert flight.vehicle.armed and flight.process.poll() is None
    flight.process.send_signal(signal.SIGINT)
    assert flight.ends(within=12.0) == 0
    landed(flight)
