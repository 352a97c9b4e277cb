"""Camera and markers as node processes over real DDS: from files to poses in the base's frame."""

import dataclasses
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
cv2 = pytest.importorskip("cv2")
onnx = pytest.importorskip("onnx")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped  # noqa: E402
from listening import ListeningNode  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402

import policies  # noqa: E402
from hardware.perception import files, poses  # noqa: E402
from hardware.perception.hand_eye import HandEye  # noqa: E402
from hardware.perception.rendering import marker_plate, render  # noqa: E402
from policies.actions import ActionConfig  # noqa: E402
from policies.camera import CameraModel, write_camera_model  # noqa: E402
from policies.observations import memory_specs, observation_size  # noqa: E402
from policies.pictures import pinhole_view, preparation  # noqa: E402
from policies.terms import TermConfig  # noqa: E402
from robot_rl.nodes import image_messages, messages, qos  # noqa: E402

CAMERA = CameraModel(
    name="front", width=320, height=240, fx=300.0, fy=301.0, cx=161.0, cy=118.0,
    distortion=(-0.2, 0.06, 0.001, -0.001, 0.0),
)  # fmt: skip
SEEN = CameraModel(width=48, height=48, fx=60.0, fy=60.0, cx=23.5, cy=23.5)
SIDE = 0.05
TERMS = (TermConfig(name="gripper_width", parameters={"scale": 10.0}),)
ACTION = ActionConfig(name="cartesian_twist", parameters={"axes": "x y z rz gripper", "linear": 0.3, "angular": 1.5})
BASE_T_TOOL = poses.from_vectors([3.0, 0.2, 0.3], [0.4, 0.1, 0.5])
TOOL_T_CAMERA = poses.from_vectors([0.1, 0.0, 1.5], [0.05, 0.0, -0.1])
COVARIANCE = np.diag([1e-6] * 3 + [4e-6] * 3)


def marker_pose(shift, turn):
    pose = poses.from_vectors([np.pi, 0.0, 0.0], shift)
    pose[:3, :3] = poses.from_vectors(turn, np.zeros(3))[:3, :3] @ pose[:3, :3]
    return pose


TRUTH = {
    7: marker_pose([-0.06, 0.01, 0.3], [0.5, 0.3, 0.1]),
    11: marker_pose([0.07, -0.03, 0.32], [-0.3, 0.6, 0.2]),
}


def seeing_bundle(folder):
    """A bundle that sees a 48 x 48 pinhole picture of the camera `front`."""
    nodes = [
        helper.make_node("Cast", ["image_front"], ["light"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["light"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Add", ["observation", "column"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["one"]),
        helper.make_node("Concat", ["one"] * 5, ["five"], axis=1),
        helper.make_node("Unsqueeze", ["five", "last"], ["action"]),
    ]
    graph = helper.make_graph(
        nodes, "seeing",
        [
            helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", observation_size(TERMS)]),
            helper.make_tensor_value_info("image_front", TensorProto.UINT8, ["N", 48, 48, 3]),
        ],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["N", 1, 5])],
        [onnx.numpy_helper.from_array(np.array([1], np.int64), "last")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shipped = policies.load("arm-pick-lift").manifest
    contents = dataclasses.replace(
        shipped, name="seeing", observation=TERMS, observation_size=observation_size(TERMS), action=ACTION,
        action_size=5, memory=memory_specs(TERMS), images={"front": (48, 48)}, views={"front": pinhole_view(SEEN)},
        robot=dataclasses.replace(shipped.robot, signals=("gripper_width", "images"), command=ACTION.name),
        training={}, evaluation={}, files={},
    )  # fmt: skip
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-0.5, 0.5, (64, 1)).astype(np.float32)
    images = rng.integers(0, 3, (64, 48, 48, 3), dtype=np.uint8)
    expected = np.repeat(np.tanh(inputs + images.reshape(64, -1).mean(1, keepdims=True)), 5, 1)[:, None]
    pictures = {"front": images}
    onnx_bytes = model.SerializeToString()
    return policies.write_bundle(folder, contents, onnx_bytes, inputs, expected.astype(np.float32), "# s\n", pictures)


class Listener(ListeningNode):
    """Keeps the newest message of each topic."""

    poll = 0.02

    def __init__(self, domain):
        super().__init__("listener", domain)
        self.newest, self.counts, self.delays = {}, {}, []
        self.values = {}
        self.tool = self.node.create_publisher(PoseStamped, "tool_pose", 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 10)
        self.node.create_timer(0.01, self._publish_tool)
        self.start()

    def listen(self, message_type, topic, profile=qos.SENSOR_READER):
        def keep(message):
            self.newest[topic] = message
            self.counts[topic] = self.counts.get(topic, 0) + 1
            if message_type is Image:
                self.delays.append(time.time() - messages.to_seconds(message.header.stamp))

        self.node.create_subscription(message_type, topic, keep, profile)

    def _diagnostics(self, message):
        for status in message.status:
            self.values[status.name.rpartition(": ")[2]] = (
                status.message, {pair.key: pair.value for pair in status.values},
            )  # fmt: skip

    def _publish_tool(self):
        stamped = image_messages.pose_message(BASE_T_TOOL, np.zeros((6, 6)), time.time(), "base")
        self.tool.publish(PoseStamped(header=stamped.header, pose=stamped.pose.pose))

    def known(self):
        return f"have {sorted(self.newest)}"


@pytest.fixture(scope="module")
def listener(domain):
    made = Listener(domain)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with pictures, the camera's calibration and its place on a tool, and a bundle."""
    made = tmp_path_factory.mktemp("camera")
    (made / "pictures").mkdir()
    plates = [marker_plate("apriltag_36h11", number, SIDE, pose) for number, pose in TRUTH.items()]
    for index in range(2):
        image = render(CAMERA, plates, np.random.default_rng(index), noise=1.0)
        cv2.imwrite(str(made / "pictures" / f"{index}.png"), image)
    write_camera_model(made / "camera.yaml", CAMERA)
    nothing = np.zeros((0, 2))
    found = HandEye(
        mounting="eye-in-hand", camera=TOOL_T_CAMERA, board=np.eye(4), covariance=COVARIANCE, names=(),
        kept=np.zeros(0, bool), residuals=nothing, held_out=nothing, methods={}, turns=np.ones(3),
    )  # fmt: skip
    files.write_mounted_camera(made / "mounted.yaml", CAMERA, found, "panda")
    seeing_bundle(made / "seeing")
    return made


def matrix_of(message):
    return image_messages.matrix_from_pose(PoseStamped(header=message.header, pose=message.pose.pose))


def test_pictures_and_poses_arrive(folder, processes, listener):
    source = [f"source:={folder / 'pictures'}", "rate:=10.0", f"calibration:={folder / 'camera.yaml'}"]
    processes.start("camera", *source, f"policy:={folder / 'seeing'}", "frame:=front_optical")
    processes.start("markers", f"mounted_camera:={folder / 'mounted.yaml'}", f"side:={SIDE}")
    kinds = {
        "camera/image_raw": Image, "camera/image_raw/compressed": CompressedImage, "camera/camera_info": CameraInfo,
        "camera/image_policy": Image, "markers/marker_7": PoseWithCovarianceStamped,
        "markers/marker_11": PoseWithCovarianceStamped,
    }  # fmt: skip
    for topic, kind in kinds.items():
        listener.listen(kind, topic)
    listener.wait(lambda: set(kinds) <= set(listener.newest), 30.0, f"messages on {', '.join(kinds)}")

    raw = image_messages.picture_from_image(listener.newest["camera/image_raw"])
    originals = [cv2.imread(str(folder / "pictures" / f"{index}.png")) for index in range(2)]
    assert any(np.array_equal(raw, original) for original in originals)
    packed = image_messages.picture_from_compressed(listener.newest["camera/image_raw/compressed"])
    assert np.abs(packed.astype(float) - originals[0]).mean() < 4.0
    ready = preparation((48, 48), pinhole_view(SEEN), CAMERA)
    small = image_messages.picture_from_image(listener.newest["camera/image_policy"])
    assert any(np.array_equal(small, ready.apply(original)) for original in originals)
    assert listener.newest["camera/image_policy"].header.frame_id == "front_optical"
    info = image_messages.camera_from_info(listener.newest["camera/camera_info"])
    assert dataclasses.replace(info, name="front") == CAMERA

    for number, truth in TRUTH.items():
        message = listener.newest[f"markers/marker_{number}"]
        assert message.header.frame_id == "base"
        change = poses.change_between(BASE_T_TOOL @ TOOL_T_CAMERA @ truth, matrix_of(message))
        covariance = np.array(message.pose.covariance).reshape(6, 6)
        assert np.linalg.norm(change[:3]) < 0.003 and np.linalg.norm(change[3:]) < 0.05
        np.testing.assert_allclose(covariance, covariance.T, atol=1e-12)
        # The place of the camera is uncertain too: no pose is surer than that.
        assert np.all(np.linalg.eigvalsh(covariance[:3, :3]) > 0.99e-6)
        assert change @ np.linalg.solve(covariance, change) < 22.5  # 99.9 % of chi-square

    listener.wait(lambda: {"camera", "markers"} <= set(listener.values), 30.0, "diagnostics")
    listener.wait(lambda: 7.0 < float(listener.values["camera"][1]["rate"]) < 12.0, 30.0, "10 pictures per second")
    assert min(listener.delays) >= 0.0 and np.median(listener.delays) < 0.25
    listener.wait(lambda: int(listener.values["markers"][1]["poses"]) > 0, 30.0, "poses counted")
    assert processes.end() == {"camera": 0, "markers": 0}


def test_what_does_not_fit_is_refused_at_the_start(folder, processes, tmp_path):
    write_camera_model(tmp_path / "other.yaml", dataclasses.replace(CAMERA, width=640))
    pictures = f"source:={folder / 'pictures'}"
    cases = {
        "no pictures from /dev/video97": ("source:='97'",),
        "is of a camera with 640 x 240": (pictures, f"calibration:={tmp_path / 'other.yaml'}"),
        "needs the camera's calibration": (pictures, f"policy:={folder / 'seeing'}"),
        "parameter camera is 'back'": (pictures, f"policy:={folder / 'seeing'}", "camera:=back"),
    }
    started = [processes.start("camera", *arguments) for arguments in cases.values()]
    assert [process.wait(60.0) for process in started] == [1] * len(cases)
    log = processes.log("camera")
    for text in cases:
        assert text in log, log
    processes.running.clear()


def test_messages_that_are_no_pictures_are_refused():
    good = image_messages.image_message(np.zeros((4, 6, 3), np.uint8), 1.0, "c")
    assert image_messages.picture_from_image(good).shape == (4, 6, 3)
    for change, text in (
        ({"encoding": "bayer_rggb8"}, "encoding"), ({"height": 5}, "bytes"), ({"width": 0}, "pixels"),
        ({"step": 6}, "step"),
    ):  # fmt: skip
        bad = image_messages.image_message(np.zeros((4, 6, 3), np.uint8), 1.0, "c")
        for key, value in change.items():
            setattr(bad, key, value)
        with pytest.raises(messages.MessageError, match=text):
            image_messages.picture_from_image(bad)
    with pytest.raises(messages.MessageError, match="cannot be unpacked"):
        image_messages.picture_from_compressed(CompressedImage(data=[1, 2, 3]))
    with pytest.raises(messages.MessageError, match="not calibrated"):
        image_messages.camera_from_info(CameraInfo())
    blue = Image(height=1, width=1, encoding="bgr8", step=3, data=[255, 0, 0])
    np.testing.assert_array_equal(image_messages.picture_from_image(blue), [[[0, 0, 255]]])
