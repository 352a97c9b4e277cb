"""A ROS node in a thread of the test that listens to an arm's nodes, commands them and asks them."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.srv import ChangeState, GetState
from listening import ListeningNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String

from robot_rl.nodes import arm_messages, messages, qos

ROOT = Path(__file__).parents[4]
PATIENCE = 100.0
"""s until everything has loaded on a machine that does other work too."""


class Up:
    """A running `robot-rl up arm` in a namespace of its own; a context manager that leaves nothing behind."""

    def __init__(self, folder, domain, *arguments, namespace=None, name="arm"):
        self.namespace = namespace or f"t{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"
        self.output = folder / f"{self.namespace}.txt"
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "log"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        command = [sys.executable, "-m", "robot_rl.up", name, f"namespace:={self.namespace}", *arguments]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def text(self):
        return self.output.read_text()

    def wait_for(self, *words, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while not all(word in self.text for word in words):
            assert self.process.poll() is None, f"ended too early:\n{self.text}"
            assert time.monotonic() < deadline, f"not all of {words} in:\n{self.text}"
            time.sleep(0.05)
        return self

    def pid(self, node):
        line = next(line for line in self.text.splitlines() if line.startswith(f"[up] {node}: process"))
        return int(line.split()[-1])

    def plane(self, node):
        """Process id of the process that a node has started."""
        found = [pid for pid in processes() if parent_of(pid) == self.pid(node)]
        assert len(found) == 1, f"{node} has started {found}"
        return found[0]

    def signal(self, pid, number):
        os.kill(pid, number)
        return time.time()

    @property
    def memory(self):
        return [path for path in Path("/dev/shm").glob(f"robot_rl-*-{self.namespace}.*")]

    def family(self):
        """Every process whose environment or command line says that it is of this run."""
        mine = f"robot_rl-{os.getuid()}-{self.namespace}.".encode()
        named = f"__ns:=/{self.namespace}".encode()
        return [pid for pid in processes() if mine in command_line(pid) or named in command_line(pid).split(b"\0")]

    def ends(self, within=20.0):
        """Its exit status; fails if a process or memory of it is left after `within` s."""
        begin = time.monotonic()
        status = self.process.wait(within)
        while left := self.family():
            assert time.monotonic() - begin < within, f"left behind: {[(p, command_line(p)) for p in left]}"
            time.sleep(0.05)
        while self.memory:
            assert time.monotonic() - begin < within, f"left in memory: {self.memory}"
            time.sleep(0.05)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.family():
            os.kill(pid, signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(15.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)


def processes():
    """Ids of all that run."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [number for number in numbers if state_of(number) not in "ZX"]


def stat_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "0"]


def state_of(pid):
    return stat_of(pid)[0]


def parent_of(pid):
    return int(stat_of(pid)[1])


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class ArmProbe(ListeningNode):
    """Listens in one namespace."""

    answer_within = armed_within = 20.0
    ask_again = 0.2

    def __init__(self, domain, namespace):
        super().__init__("probe", domain, namespace)
        self.episodes, self.joints, self.tools, self.urdf = [], [], [], []
        self.diagnostics, self.messages = {}, []
        self.namespace = namespace

        def note(message):
            for entry in message.status:
                if entry.name.startswith(f"/{namespace}/"):
                    values = {pair.key: pair.value for pair in entry.values}
                    self.diagnostics[entry.name.rpartition(": ")[2]] = (entry.level, entry.message, values)
                    self.messages.append(entry.message)

        listen = self.node.create_subscription
        # Deeper than STATUS: changes that follow each other within milliseconds count here.
        latched = QoSProfile(depth=50, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        listen(String, "supervisor/status", lambda m: self.statuses.append(messages.status_from_message(m)), latched)
        listen(String, "sim/episode", lambda m: self.episodes.append(json.loads(m.data)), latched)
        listen(String, "robot_description", lambda m: self.urdf.append(m.data), qos.STATUS)
        listen(JointState, "joint_states", lambda m: self.joints.append((time.time(), m)), qos.SENSOR_READER)
        listen(PoseStamped, "tool_pose", lambda m: self.tools.append(arm_messages.pose_from_message(m)), 10)
        listen(DiagnosticArray, "/diagnostics", note, qos.STATUS_READER)
        self.start()

    def known(self):
        return f"{super().known()}; {self.diagnostics}"

    def wait_message(self, words, timeout):
        return self.wait(lambda: next((m for m in self.messages if words in m), None), timeout, f"diagnostics: {words}")

    def transition(self, node, number):
        """Ask for a transition by its number; whether it was done."""
        request = ChangeState.Request()
        request.transition.id = number
        client = self.node.create_client(ChangeState, f"{node}/change_state")
        self.wait(client.service_is_ready, 30.0, f"{node}/change_state")
        future = client.call_async(request)
        self.wait(future.done, 60.0, f"answer of {node}")
        self.node.destroy_client(client)
        return future.result().success

    def state(self, node):
        return self.call(GetState, f"{node}/get_state").current_state.label

    def publish(self, kind, topic, message):
        publisher = self.node.create_publisher(kind, topic, qos.STATUS_READER)
        self.wait(publisher.get_subscription_count, 10.0, f"subscription to {topic}")
        publisher.publish(message)
        return publisher, time.time()

    def inject(self, fault):
        return self.publish(String, "sim/fault", String(data=fault))[1]

    def estop(self):
        return self.publish(Bool, "estop", Bool(data=True))[1]

    def twist_publisher(self):
        publisher = self.node.create_publisher(TwistStamped, "command/twist", qos.command_publisher(0.05))
        self.wait(publisher.get_subscription_count, 10.0, "subscription to command/twist")
        return publisher
