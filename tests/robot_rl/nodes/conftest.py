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
from rclpy.qos import QoSDurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Bool, Float64MultiArray, String  # noqa: E402
from trajectory_msgs.msg import MultiDOFJointTrajectory  # noqa: E402

from hardware import setpoints  # noqa: E402
from hardware.descriptions import load_description  # noqa: E402
from policies import rotation  # noqa: E402
from robot_rl.nodes import messages, qos  # noqa: E402
from robot_rl.nodes.process import PARENT_VARIABLE, is_running  # noqa: E402

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


def only_child(pid):
    """The process that another one has started; fails unless there is exactly one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        found += [int(path.name)] if parent == pid and is_running(int(path.name)) else []
    assert len(found) == 1, f"process {pid} has started {found}"
    return found[0]


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
        self.namespace = ""
        self.running = {}

    def start(self, module, *arguments, code=None, name=None, namespace=None):
        """Start a node in `namespace`, else that of the probe; `name` is what it is called here, else its module."""
        code = code or START.format(module=module)
        name, namespace = name or module, namespace or self.namespace
        command = [sys.executable, "-c", code, "--ros-args"]
        command += ["-r", f"__ns:=/{namespace}"] if namespace else []
        command += [word for argument in arguments for word in ("-p", argument)]
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        self.running[name] = process
        return process

    def signal(self, name, number):
        self.running[name].send_signal(number)

    def kill(self, name):
        """End it the hard way and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        self.running.pop(name).wait(5.0)

    def plane(self, name):
        """Process id of the process that a node has started."""
        return only_child(self.running[name].pid)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

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

    def __init__(self, domain, namespace=None):
        super().__init__("probe", domain, namespace)
        self.changed = threading.Condition()
        self.namespace = namespace
        self.robot = load_description("crazyflie").interface
        self.states, self.motors, self.actions, self.causes = [], [], [], []
        self.refused, self.diagnostics = [], {}
        self.target = None
        self._listen()
        self.setpoint = qos.publisher(self.node, MultiDOFJointTrajectory, "setpoint", qos.command_publisher(0.02))
        self.node.create_timer(0.02, self._publish_setpoint)
        self.start()

    def _listen(self):
        def record(records, convert):
            def callback(message):
                with self.changed:
                    try:
                        records.append(convert(message))
                    except messages.MessageError as error:
                        self.refused.append(str(error))
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
                if self.namespace and not entry.name.startswith(f"/{self.namespace}/"):
                    continue
                values = {pair.key: pair.value for pair in entry.values}
                self.diagnostics[entry.name.rpartition(": ")[2]] = (entry.message, values)
                self.causes.append(entry.message)

        listen = self.node.create_subscription
        # Deeper than STATUS: changes that follow each other within milliseconds count here.
        latched = QoSProfile(depth=50, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        listen(Odometry, "odom", record(self.states, odometry), qos.SENSOR_READER)
        listen(JointState, "motor_commands", record(self.motors, motors), qos.COMMAND_READER)
        listen(String, "supervisor/status", record(self.statuses, messages.status_from_message), latched)
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

    def publish(self, kind, topic, message):
        """Say something once to whoever listens, and return when."""
        publisher = self.node.create_publisher(kind, topic, qos.STATUS_READER)
        self.wait(lambda: publisher.get_subscription_count(), 5.0, f"subscription to {topic}")
        publisher.publish(message)
        return time.time()

    def inject(self, fault):
        """Ask the simulator for a fault, and return when."""
        return self.publish(String, "sim/fault", String(data=fault))

    def publish_estop(self):
        return self.publish(Bool, "estop", Bool(data=True))

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
def probe(domain, processes):
    """One probe per module, in a namespace of its own, where `processes` starts the nodes from then on.

    A robot's shared memory is named by its namespace, and the machine may run other tests meanwhile.
    """
    processes.namespace = f"t{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"
    listening = Probe(domain, processes.namespace)
    yield listening
    listening.close()
