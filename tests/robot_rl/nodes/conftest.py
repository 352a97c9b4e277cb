"""Real node processes over real DDS, in a domain of their own, and a probe that listens to them."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

sys.path.insert(0, str(Path(__file__).parent))

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from listening import ListeningNode  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Bool, Float64, Float64MultiArray, String  # noqa: E402
from trajectory_msgs.msg import MultiDOFJointTrajectory  # noqa: E402

from hardware import setpoints  # noqa: E402
from hardware.descriptions import load_description  # noqa: E402
from policies import rotation  # noqa: E402
from policies.types import MotorSpeeds  # noqa: E402
from robot_rl.nodes import messages, qos  # noqa: E402
from robot_rl.nodes.process import PARENT_VARIABLE  # noqa: E402

ROOT = Path(__file__).parents[3]
START = "import sys; from robot_rl.nodes.process import start; sys.exit(start({module!r}))"


@pytest.fixture(scope="session")
def domain():
    """A ROS domain that nobody else on this machine is likely to use (0 to 101 are safe)."""
    return random.SystemRandom().randint(1, 101)


@pytest.fixture(scope="session")
def environment(domain):
    """Environment of every process of these tests."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        PARENT_VARIABLE: str(os.getpid()),
    }


def status_or_kill(process):
    """Exit status of a process that was asked to end; that of SIGKILL if it does not."""
    try:
        return process.wait(8.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(5.0)


class Processes:
    """Node processes by name."""

    def __init__(self, environment, folder):
        self.environment, self.folder = environment, folder
        self.running = {}

    def start(self, module, *arguments, code=None):
        code = code or START.format(module=module)
        log = (self.folder / f"{module}.log").open("a")
        command = [sys.executable, "-c", code, "--ros-args"]
        command += [word for argument in arguments for word in ("-p", argument)]
        process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        self.running[module] = process
        return process

    def signal(self, module, number):
        self.running[module].send_signal(number)

    def kill(self, module):
        """End it the hard way and wait until it is gone."""
        self.signal(module, signal.SIGKILL)
        self.running.pop(module).wait(5.0)

    def log(self, module):
        return (self.folder / f"{module}.log").read_text()

    def end(self):
        """SIGINT to all; statuses by name."""
        for process in self.running.values():
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
        statuses = {name: status_or_kill(process) for name, process in self.running.items()}
        self.running.clear()
        return statuses


@pytest.fixture(scope="module")
def processes(environment, tmp_path_factory):
    """Starts nodes; all of them are ended when the module is done."""
    started = Processes(environment, tmp_path_factory.mktemp("logs"))
    yield started
    started.end()


class Probe(ListeningNode):
    """Records what passes by, publishes a set-point, calls services."""

    def __init__(self, domain):
        super().__init__("probe", domain)
        self.changed = threading.Condition()
        self.robot = load_description("crazyflie").interface
        self.states, self.motors, self.actions, self.causes = [], [], [], []
        self.diagnostics = {}
        self.target = None
        self._listen()
        self.setpoint = qos.publisher(self.node, MultiDOFJointTrajectory, "setpoint", qos.command_publisher(0.02))
        self.node.create_timer(0.02, self._publish_setpoint)
        self.start()

    def _listen(self):
        def record(records, convert):
            def callback(message):
                with self.changed:
                    records.append(convert(message))
                    self.changed.notify_all()

            return callback

        def motors(message):
            command, stamp = messages.motor_speeds_from_joint_state(message, self.robot.actuators)
            return stamp, command.values

        def odometry(message):
            state, stamp = messages.state_from_odometry(message)
            return stamp, state

        def note(message):
            for entry in message.status:
                values = {pair.key: pair.value for pair in entry.values}
                self.diagnostics[entry.name.rpartition(": ")[2]] = (entry.message, values)
                self.causes.append(entry.message)

        listen = self.node.create_subscription
        listen(Odometry, "odom", record(self.states, odometry), qos.SENSOR_READER)
        listen(JointState, "motor_commands", record(self.motors, motors), qos.COMMAND_READER)
        listen(String, "supervisor/status", record(self.statuses, messages.status_from_message), qos.STATUS)
        listen(Float64MultiArray, "policy/action", record(self.actions, lambda m: np.array(m.data)), 100)
        listen(DiagnosticArray, "/diagnostics", lambda m: note(m), qos.STATUS_READER)

    def _publish_setpoint(self):
        if self.target is not None:
            self.setpoint.publish(messages.trajectory_from_setpoint(self.target(time.time()), time.time()))

    def wait(self, condition, timeout, what):
        """Wait until `condition()` is truthy and return it; fail with what was expected instead."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not (found := condition()):
                left = deadline - time.monotonic()
                if left <= 0.0:
                    raise AssertionError(f"no {what} within {timeout:g} s; {self.known()}")
                self.changed.wait(min(left, 0.05))
        return found

    def inject(self, topic, seconds):
        """Ask the simulator for a fault, and return when."""
        publisher = self.node.create_publisher(Float64, topic, qos.STATUS_READER)
        self.wait(lambda: publisher.get_subscription_count(), 5.0, f"subscription to {topic}")
        publisher.publish(Float64(data=seconds))
        return time.time()

    def publish_estop(self):
        publisher = self.node.create_publisher(Bool, "estop", qos.STATUS_READER)
        self.wait(lambda: publisher.get_subscription_count(), 5.0, "subscription to estop")
        publisher.publish(Bool(data=True))
        return time.time()

    def command_motors(self, values, publisher=None):
        """Publish a motor command as a second policy would."""
        publisher = publisher or self.node.create_publisher(
            JointState, "policy/motor_commands", qos.command_publisher(0.01)
        )
        publisher.publish(
            messages.joint_state_from_motor_speeds(MotorSpeeds(np.asarray(values)), self.robot.actuators, time.time())
        )
        return publisher

    def go(self, start, goal, duration):
        """From now on the set-point moves to `goal` in `duration` s and stays there."""
        begin = time.time()

        def sample(now):
            return setpoints.segment(np.asarray(now - begin), start=start, goal=goal, duration=duration)

        self.target = sample

    @property
    def state(self):
        return self.states[-1][1]

    @property
    def height(self):
        return float(self.state.position[2])

    @property
    def tilt(self):
        return float(rotation.tilt_of(self.state.orientation))


@pytest.fixture(scope="module")
def probe(domain):
    """One probe per module."""
    listening = Probe(domain)
    yield listening
    listening.close()
