"""`robot-rl up` with real processes: it starts all, ends all, and leaves nothing behind, whoever dies."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")

ROOT = Path(__file__).parents[2]
BOUND = 10.0
"""s within which everything has ended, by the launcher's own escalation."""
LIGHT = {
    "description": "Two nodes that start fast.",
    "arguments": {
        "record": {"default": "", "description": "Folder."},
        "mission": {"default": "hover", "description": "Mission."},
    },
    "nodes": [
        {
            "name": "setpoint",
            "executable": "setpoint",
            "critical": True,
            "grace": 1.0,
            "parameters": {"mission": "$(mission)"},
        },
        {"name": "recorder", "executable": "recorder", "parameters": {"folder": "$(record)", "recording": True}},
    ],
}


class Up:
    """A running `robot-rl up`."""

    def __init__(self, folder, *arguments, domain=None):
        folder.mkdir()
        self.arguments = arguments
        self.output = folder / "output.txt"
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain or random.SystemRandom().randint(1, 101)),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "log"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "robot_rl.up", *arguments],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self):
        return self.output.read_text()

    def wait_for(self, *words, timeout=30.0):
        """Wait until the output has all the words."""
        deadline = time.monotonic() + timeout
        while not all(word in self.text for word in words):
            assert self.process.poll() is None, f"ended too early:\n{self.text}"
            assert time.monotonic() < deadline, f"not all of {words} in:\n{self.text}"
            time.sleep(0.05)
        return self

    def pid(self, node):
        """Process id of a node, as the launcher told it."""
        line = next(line for line in self.text.splitlines() if line.startswith(f"[up] {node}: process"))
        return int(line.split()[-1])

    def kill(self, node):
        """SIGKILL for a node, or for the launcher itself if `node` is empty."""
        os.kill(self.pid(node) if node else self.process.pid, signal.SIGKILL)

    @property
    def nodes(self):
        return [int(line.split()[-1]) for line in self.text.splitlines() if ": process " in line]

    @property
    def planes(self):
        """Process ids of what the nodes have started, as long as they run, by the name of the process."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if "robot_rl.planes" in words and parent_of(path.name) in self.nodes and alive(path.name):
                    found[words[3]] = int(path.name)
        return found

    @property
    def memory(self):
        """Shared memory of its namespace, if it has one."""
        namespace = next((word.partition(":=")[2] for word in self.arguments if word.startswith("namespace")), None)
        return list(Path("/dev/shm").glob(f"robot_rl-*-{namespace}.*")) if namespace else []

    def ends(self, within=BOUND):
        """Its exit status; fails if it, any process of it, or memory is still there after `within` s."""
        begin = time.monotonic()
        processes = [*self.nodes, *self.planes.values()]
        status = self.process.wait(within)
        while left := [pid for pid in (*processes, *self.nodes) if alive(pid)]:
            assert time.monotonic() - begin < within, f"left behind: {left}"
            time.sleep(0.05)
        while self.memory:
            assert time.monotonic() - begin < within, f"left in memory: {self.memory}"
            time.sleep(0.05)
        return status


def state_of(pid):
    """Its state as the kernel says it: R, S, T, ..., X where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid):
    return state_of(pid) not in "ZX"


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def up(tmp_path):
    """Start `robot-rl up`; nothing of it outlives the test."""
    started = []

    def start(*arguments, **options):
        started.append(Up(tmp_path / str(len(started)), *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        for pid in [each.process.pid, *each.planes.values(), *each.nodes]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        each.process.wait(5.0)


@pytest.fixture
def quadrotor(up):
    """Start a quadrotor in a namespace of its own, or in the one given."""

    def start(*arguments, namespace=None, **options):
        return up("quadrotor", f"namespace:={namespace or unique_name()}", *arguments, **options)

    return start


def unique_name():
    """A namespace: shared memory is named by it, and the machine may run other tests meanwhile."""
    return f"t{os.getpid()}_{random.SystemRandom().randint(0, 99999)}"


@pytest.fixture
def light(tmp_path, up):
    """Two nodes that start fast."""
    path = tmp_path / "light.yaml"
    path.write_text(yaml.safe_dump(LIGHT))

    def start(*arguments):
        return up(str(path), f"record:={tmp_path / 'flight'}", *arguments)

    return start


def started(running):
    return running.wait_for("phase waiting", "recording /")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_with_status_0(light, number):
    running = started(light())
    running.process.send_signal(number)
    assert running.ends(within=10.0) == 0
    assert running.text.count("ended on SIGINT") == 2
    assert "Traceback" not in running.text and "killed" not in running.text


def test_two_signals_end_all_with_status_0(light):
    """Ctrl-C twice, in a hurry."""
    running = started(light())
    for _ in range(3):
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert running.ends(within=10.0) == 0
    assert "Traceback" not in running.text


def test_a_signal_while_the_nodes_are_loading(light):
    running = light().wait_for("recorder: process")
    running.process.send_signal(signal.SIGINT)
    assert running.ends() == 0
    assert "Traceback" not in running.text


def test_a_frozen_node_does_not_hold_up_the_end(light):
    running = started(light())
    os.kill(running.pid("recorder"), signal.SIGSTOP)
    running.process.send_signal(signal.SIGINT)
    assert running.ends() == 0


def test_killed_launcher_leaves_no_orphans(light):
    running = started(light())
    running.kill("")
    assert running.ends(within=10.0) == -signal.SIGKILL


def test_killed_launcher_leaves_no_frozen_orphans(light):
    running = started(light())
    frozen = running.pid("recorder")
    os.kill(frozen, signal.SIGSTOP)
    threads = [int(path.name) for path in Path(f"/proc/{frozen}/task").iterdir()]
    while any(state_of(thread) != "T" for thread in threads):  # that takes a moment on a busy machine
        time.sleep(0.01)
    running.kill("")
    assert running.ends(within=10.0) == -signal.SIGKILL


def test_launcher_killed_while_the_nodes_are_loading(light):
    """The nodes may ask for the signal of their parent's death only after it."""
    running = light().wait_for("recorder: process")
    running.kill("")
    assert running.ends(within=10.0) == -signal.SIGKILL


def test_death_of_a_critical_node_ends_all_after_its_grace(light):
    running = started(light())
    begin = time.monotonic()
    running.kill("setpoint")
    assert running.ends(within=5.0) == 1
    assert time.monotonic() - begin >= 1.0
    assert "node setpoint was killed by SIGKILL" in running.text
    assert "phase waiting; ending in 1 s" in running.text  # its last words


def test_death_of_another_node_is_only_reported(light):
    running = started(light())
    running.kill("recorder")
    running.wait_for("node recorder was killed by SIGKILL")
    time.sleep(1.5)
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGINT)
    assert running.ends(within=10.0) == 0


def test_a_node_that_refuses_to_start_ends_all_at_once(light):
    running = light("mission:=loop")
    assert running.ends(within=5.0) == 1
    assert "parameter 'mission' is 'loop'; choose from hover" in running.text
    assert "Traceback" not in running.text


def test_missing_bundle_is_one_sentence(quadrotor):
    running = quadrotor("policy:=no-such-bundle", "driver:=topics", "setpoint:=none")
    assert running.ends() == 1
    assert "no-such-bundle" in running.text and "ending" in running.text
    assert "Traceback" not in running.text


def test_wrong_arguments_start_nothing(up):
    running = up("quadrotor", "polisy:=x")
    assert running.ends() == 2
    assert "did you mean 'policy'" in running.text
    assert not running.nodes


def test_list_shows_the_arguments(up):
    running = up("quadrotor", "--list")
    assert running.ends() == 0
    assert "policy:=quadrotor-track" in running.text and "nodes: supervisor, sim" in running.text


def test_an_executable_runs_by_itself():
    """As `ros2 run` starts it: by path, with the first python3 on PATH."""
    executable = ROOT / "robot_rl" / "nodes" / "bin" / "setpoint"
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    arguments = ["--ros-args", "-p", "heigth:=2.0"]
    done = subprocess.run(
        [str(executable), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20.0,
        check=False,
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "[FATAL] cannot start: node setpoint has no parameter 'heigth'; did you mean 'height'?"
    )


def test_auto_arm_is_refused_without_the_simulator(quadrotor):
    running = quadrotor("driver:=topics", "auto_arm:=true", "setpoint:=none")
    assert running.ends() == 1
    assert "auto_arm is for the simulator only" in running.text


@pytest.mark.parametrize("victim", ["sim", "supervisor"])
def test_death_of_simulator_or_supervisor_ends_the_flight(quadrotor, victim):
    running = quadrotor("auto_arm:=true").wait_for("phase takeoff")
    running.kill(victim)
    assert running.ends() == 1
    assert f"node {victim} was killed by SIGKILL" in running.text
    assert "Traceback" not in running.text


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        ("quadrotor_control", ("the control process was killed by SIGKILL", "node supervisor ended with status 3")),
        ("simulated_quadrotor", ("the simulation process was killed by SIGKILL", "node sim ended with status 3")),
        pytest.param(
            "quadrotor_policy",
            ("the policy process was killed by SIGKILL", "node policy ended with status 3", "fault: landed after"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_death_of_a_process_behind_a_node_ends_the_flight(quadrotor, victim, words):
    """Said in a sentence; without its policy the vehicle has time to land before."""
    running = quadrotor("auto_arm:=true", "height:=0.5").wait_for("phase takeoff")
    os.kill(running.planes[victim], signal.SIGKILL)
    assert running.ends(within=25.0 if victim == "quadrotor_policy" else BOUND) == 1
    assert all(word in running.text for word in words), running.text
    assert "Traceback" not in running.text


def test_killed_launcher_leaves_no_process_of_a_flight(quadrotor):
    running = quadrotor("auto_arm:=true").wait_for("phase takeoff")
    running.kill("")
    assert running.ends(within=15.0) == -signal.SIGKILL


def test_nothing_arms_by_itself(quadrotor):
    running = quadrotor().wait_for("phase ground", "disarmed: not armed")
    time.sleep(2.0)
    running.process.send_signal(signal.SIGTERM)
    assert running.ends() == 0
    assert "armed" not in running.text.replace("disarmed", "").replace("not armed", "").replace("is armed", "")
    assert "Traceback" not in running.text


def test_two_quadrotors_fly_side_by_side(quadrotor):
    """Under two namespaces of one ROS domain; the end of one is nothing to the other."""
    domain = random.SystemRandom().randint(1, 101)
    first, second = (quadrotor("auto_arm:=true", "height:=0.3", domain=domain) for _ in range(2))
    for running in (first, second):
        running.wait_for("phase takeoff", timeout=60.0)
    first.kill("supervisor")
    assert first.ends() == 1
    second.wait_for("phase hover")
    second.process.send_signal(signal.SIGINT)
    assert second.ends() == 0
    for words in ("fault", "descending", "Traceback"):
        assert words not in second.text, second.text


def test_a_second_one_of_the_same_namespace_is_refused(quadrotor):
    """In a sentence; the first one flies on."""
    domain, namespace = random.SystemRandom().randint(1, 101), unique_name()
    first = quadrotor("auto_arm:=true", "height:=0.3", domain=domain, namespace=namespace).wait_for("phase takeoff")
    second = quadrotor("setpoint:=none", domain=domain, namespace=namespace)
    assert second.process.wait(30.0) == 1
    refused = f"cannot start: robot '{namespace}.crazyflie' is in use by process {first.pid('supervisor')}"
    assert refused in second.text, second.text
    first.wait_for("phase hover")
    first.process.send_signal(signal.SIGINT)
    assert first.ends() == 0
    assert "fault" not in first.text and "descending" not in first.text
