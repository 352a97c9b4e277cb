"""The recorder as a process over real DDS: what is published is in the file, to the bit, with its times."""

import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from listening import ListeningNode  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage, Imu, JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray, String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from robot_rl.nodes import messages, qos  # noqa: E402
from robot_rl.recording import load_recording  # noqa: E402

RATE = 200.0
"""Hz of the joints' states."""


class Robot(ListeningNode):
    """Publishes what a robot does, in a thread, and remembers it."""

    def __init__(self, domain):
        super().__init__("robot", domain)
        self.answer_within = 20.0
        make = self.node.create_publisher
        self.publishers = {
            "joint_states": qos.publisher(self.node, JointState, "joint_states", qos.SENSOR_PUBLISHER),
            "imu": make(Imu, "imu", qos.SENSOR_READER),  # best effort
            "camera": make(CompressedImage, "camera/front/compressed", 5),
            "command": qos.publisher(self.node, Float64MultiArray, "command", qos.command_publisher(0.02)),
            "phase": make(String, "phase", qos.STATUS),
            "secret": make(Odometry, "secret/odom", 5),
        }
        self.sent = {name: [] for name in self.publishers}
        self.pause, self.paused = threading.Event(), threading.Event()
        self.start()
        self.publish("phase", String(data="before anything"))
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.worker.start()

    def publish(self, name, message):
        data = serialize_message(message)
        self.sent[name].append((time.time_ns(), data))
        self.publishers[name].publish(data)  # what is between its fields is arbitrary, and comes along

    def _work(self):
        random = np.random.default_rng(0)
        tick, due = 0, time.monotonic()
        while not self.stop.is_set():
            due += 1.0 / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            if self.pause.is_set():
                self.paused.set()
                continue
            tick += 1
            # Measured before it is sent: the two times must not be mixed up.
            stamp = messages.to_stamp(time.time() - 0.25)
            state = JointState(name=["a", "b"], position=[float(tick), -1.0])
            state.header.stamp = stamp
            self.publish("joint_states", state)
            imu = Imu()
            imu.header.stamp = stamp
            self.publish("imu", imu)
            self.publish("command", Float64MultiArray(data=[float(tick)]))
            if tick % 7 == 0:
                picture = CompressedImage(format="jpeg", data=random.bytes(30_000))
                picture.header.stamp = stamp
                self.publish("camera", picture)
                self.publish("secret", Odometry())


@pytest.fixture(scope="module")
def robot(domain):
    found = Robot(domain)
    yield found
    found.close()


@pytest.fixture
def recorder(processes, robot, tmp_path):
    log = processes.folder / "recorder.log"
    old = len(log.read_text()) if log.is_file() else 0
    processes.start("recorder", f"folder:={tmp_path}", "exclude:=['/secret/*']", "robot:=some")
    expected = ("joint_states", "imu", "camera/front/compressed", "command", "phase")
    robot.wait(lambda: all(f"/{name}" in processes.log("recorder")[old:] for name in expected), 30.0, "subscription")
    robot.wait(lambda: robot.node.count_services("/record") == 1, 10.0, "service")
    time.sleep(0.5)
    yield processes
    if "recorder" in processes.running:
        assert processes.end()["recorder"] == 0


def quiet(robot):
    """Nothing is under way when this returns."""
    robot.paused.clear()
    robot.pause.set()
    assert robot.paused.wait(10.0)
    time.sleep(0.5)


def test_what_is_published_is_recorded_to_the_bit(recorder, robot, tmp_path):
    quiet(robot)
    marks = {name: len(sent) for name, sent in robot.sent.items()}
    answer = robot.call(SetBool, "record", data=True)
    assert answer.success and "episode-000000.mcap" in answer.message
    assert not robot.call(SetBool, "record", data=True).success
    robot.pause.clear()
    robot.wait(lambda: len(robot.sent["joint_states"]) > marks["joint_states"] + 200, 60.0, "messages")
    quiet(robot)
    answer = robot.trigger("record/success")
    assert answer.success, answer.message
    assert not robot.trigger("record/failure").success
    recording = load_recording(tmp_path / "episode-000000.mcap")
    assert (recording.state, recording.success, recording.cause, recording.problem) == (
        "finished", True, "success", "",
    )  # fmt: skip
    assert recording.info["robot"] == "some"
    topics = {
        "joint_states": "/joint_states",
        "imu": "/imu",
        "camera": "/camera/front/compressed",
        "command": "/command",
    }
    for name, topic in topics.items():
        sent = robot.sent[name][marks[name] :]
        stream = recording.stream(topic)
        # Fast DDS latches where a publisher leaves it to the system: then the last message from before comes first.
        first = len(stream) - len(sent)
        assert first in (0, 1), name
        assert list(stream.raws())[first:] == [data for _, data in sent], name
        received = np.array(stream.channel.received, np.int64)[first:]
        published = np.array([when for when, _ in sent])
        delay = 1e-9 * (received - published)
        assert (delay > 0.0).all() and np.median(delay) < 0.2, "the time of receipt is not the middleware's"
        measured = np.array(stream.channel.measured, np.int64)[first:]
        ahead = 1e-9 * (received - measured)
        assert (ahead > 0.2).all() if name != "command" else (ahead == 0.0).all()
    assert len(recording.stream("/joint_states")) > 100
    # Said before the episode, and still true in it.
    assert [message.data for message in recording.stream("/phase").messages()] == ["before anything"]
    assert "/secret/odom" not in recording.streams and "/rosout" not in recording.streams
    assert recording.dropped == {}


def test_episodes_end_as_they_are_judged(recorder, robot, tmp_path):
    robot.pause.clear()
    for name in ("record/failure", "record/discard", "record/success"):
        assert robot.call(SetBool, "record", data=True).success
        time.sleep(0.2)
        assert robot.call(Trigger, name).success
    assert robot.call(SetBool, "record", data=True).success
    assert robot.call(SetBool, "record", data=False).success
    assert robot.call(SetBool, "record", data=True).success
    assert recorder.end()["recorder"] == 0
    found = [load_recording(path) for path in sorted(tmp_path.glob("*.mcap"))]
    assert [(one.success, one.cause) for one in found] == [
        (False, "failure"), (True, "success"), (False, "stopped"), (False, "the recorder ended"),
    ]  # fmt: skip
    assert all(one.finished for one in found)


def test_what_never_came_is_counted_and_said(recorder, robot, tmp_path):
    robot.pause.clear()
    publisher = robot.node.create_publisher(Float64MultiArray, "burst", 10)
    robot.wait(lambda: publisher.get_subscription_count() == 1, 30.0, "subscription")
    publisher.publish(Float64MultiArray(data=[-1.0]))  # the first one that it knows of
    time.sleep(0.5)
    assert robot.call(SetBool, "record", data=True).success
    recorder.signal("recorder", signal.SIGSTOP)
    sent = 3000
    for number in range(sent):
        publisher.publish(Float64MultiArray(data=[float(number)]))
    recorder.signal("recorder", signal.SIGCONT)
    for number in range(sent, sent + 50):
        publisher.publish(Float64MultiArray(data=[float(number)]))
        time.sleep(0.02)
    time.sleep(0.5)
    answer = robot.trigger("record/success")
    recording = load_recording(tmp_path / "episode-000000.mcap")
    numbers = recording.stream("/burst").values("data")[:, 0]
    numbers = numbers[numbers >= 0.0]  # what was latched comes first
    assert numbers[-1] == sent + 49 and (np.diff(numbers) > 0).all()
    assert len(numbers) < sent, "nothing was lost: nothing was tested"
    assert recording.dropped["/burst"] == sent + 50 - len(numbers)
    assert "messages were lost" in answer.message
    robot.node.destroy_publisher(publisher)


def test_a_killed_recorder_loses_less_than_a_second(recorder, robot, tmp_path):
    # The last test: DDS believes for some time that the killed one is still there.
    robot.pause.clear()
    assert robot.call(SetBool, "record", data=True).success
    time.sleep(0.5)
    assert robot.trigger("record/success").success
    assert robot.call(SetBool, "record", data=True).success
    begun, before = time.time_ns(), len(robot.sent["joint_states"])
    time.sleep(2.0)
    robot.wait(lambda: len(robot.sent["joint_states"]) > before + 300, 60.0, "messages")
    killed = time.time_ns()
    recorder.kill("recorder")
    whole, torn = (load_recording(tmp_path / f"episode-00000{number}.mcap") for number in (0, 1))
    assert whole.finished and whole.success
    assert torn.state == "cut off"
    sent = [data for when, data in robot.sent["joint_states"] if begun + 2e8 < when < killed - 1e9]
    found = set(torn.stream("/joint_states").raws())
    assert len(sent) > 20 and all(data in found for data in sent)
