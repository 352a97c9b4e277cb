"""Markers in a camera's pictures: one topic per marker, a pose with covariance, in the camera's or the base's frame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.publisher import Publisher
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hardware.perception import poses
from hardware.perception.boards import dictionary
from hardware.perception.files import MountedCamera, read_mounted_camera
from hardware.perception.markers import find_markers, locate_marker
from hardware.perception.pose_buffer import PoseBuffer
from hardware.realtime.histogram import Histogram
from policies.camera import CameraModel
from robot_rl.nodes import image_messages, messages, parameters, qos
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import Face, StartError, run

IMAGE_READER = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
"""The newest picture only: an old one would be a marker where it no longer is."""
_FAMILIES = ("4x4_50", "4x4_250", "5x5_100", "6x6_250", "apriltag_36h11", "apriltag_25h9", "apriltag_16h5")


@dataclass(frozen=True, kw_only=True)
class MarkersConfig:
    """Parameters of the node."""

    family: str = parameter("apriltag_36h11", "Family of the markers.", choices=_FAMILIES)
    side: float = parameter(0.05, "m, side of the black square, measured on the print.", low=0.001, high=10.0)
    ids: list = parameter([-1], "Ids of the markers to look for; [-1]: all of the family.")
    camera: str = parameter("camera", "Beginning of the camera's topics.")
    compressed: bool = parameter(
        True, "Read compressed pictures: raw ones are so large that over UDP most of them are lost or late."
    )
    noise: float = parameter(0.15, "Pixels, standard deviation of a corner.", low=0.001, high=10.0)
    largest_residual: float = parameter(1.0, "Pixels; a pose that fits worse is refused.", low=0.01, high=100.0)
    publish_ambiguous: bool = parameter(
        False, "Publish poses whose tilt may be another one too, with a covariance that says so; else refuse them."
    )
    mounted_camera: str = parameter(
        "", "File of robot-rl calibrate hand-eye: poses are then in the base's frame; empty: in the camera's."
    )
    base_frame: str = parameter("base", "Name of the base's frame.")
    tool_pose_gap: float = parameter(
        0.02, "s by which the tool's pose may miss the picture's stamp, for a camera on the tool.", low=0.0, high=1.0
    )


class MarkersNode(Face):
    """One picture, all its markers; nothing is kept from picture to picture."""

    period = 0.1

    def __init__(self) -> None:
        super().__init__("markers")
        self.config = config = parameters.read(self, MarkersConfig)
        self._mounted = _mounted(config)
        known = len(dictionary(config.family).bytesList)
        wrong = [number for number in config.ids if not -1 <= number < known]
        if wrong:
            raise StartError(f"parameter ids has {wrong[0]}; family {config.family} has 0 to {known - 1}")
        self._wanted = None if -1 in config.ids else frozenset(config.ids)
        self._camera: CameraModel | None = None
        self._tool = PoseBuffer(config.tool_pose_gap)
        self._by_marker: dict[int, Publisher] = {}
        self._counts = dict.fromkeys(("pictures", "poses", "ambiguous", "bad fits", "without tool pose"), 0)
        self._refusal = ""
        self._last = 0.0
        self._work, self._age = Histogram(), Histogram()
        self._next_report = 0.0
        self._diagnostics = qos.publisher(self, DiagnosticArray, "/diagnostics", qos.SENSOR_PUBLISHER)
        base = config.camera.rstrip("/")
        qos.subscription(self, CameraInfo, f"{base}/camera_info", self._on_info, qos.SENSOR_READER)
        if config.compressed:
            topic = f"{base}/image_raw/compressed"
            qos.subscription(self, CompressedImage, topic, self._on_image, IMAGE_READER)
        else:
            qos.subscription(self, Image, f"{base}/image_raw", self._on_image, IMAGE_READER)
        if self._mounted is not None and self._mounted.mounting == "eye-in-hand":
            qos.subscription(self, PoseStamped, "tool_pose", self._on_tool, qos.SENSOR_READER)

    def tick(self) -> None:
        """Report once a second."""
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + 1.0
            self._report()

    def _on_info(self, message: CameraInfo) -> None:
        try:
            self._camera = image_messages.camera_from_info(message)
        except (messages.MessageError, ValueError) as error:
            self._note(str(error))

    def _on_tool(self, message: PoseStamped) -> None:
        try:
            pose = image_messages.matrix_from_pose(message)
        except messages.MessageError as error:
            self._note(f"tool pose: {error}")
            return
        if message.header.frame_id != self.config.base_frame:
            self._note(f"tool pose is in frame {message.header.frame_id!r}, expected {self.config.base_frame!r}")
        elif refusal := self._tool.add(messages.to_seconds(message.header.stamp), pose):
            self._note(f"tool pose: {refusal}")

    def _on_image(self, message: Image | CompressedImage) -> None:
        begin = time.perf_counter()
        if self._camera is None:
            self._note(f"no camera_info yet on {self.resolve_topic_name(f'{self.config.camera}/camera_info')}")
            return
        try:
            read = (
                image_messages.picture_from_compressed if self.config.compressed else image_messages.picture_from_image
            )
            image = read(message)
        except messages.MessageError as error:
            self._note(str(error))
            return
        if image.shape[:2] != (self._camera.height, self._camera.width):
            self._note(
                f"the picture has {image.shape[1]} x {image.shape[0]} pixels, camera_info says {self._camera.width} x "
                f"{self._camera.height}"
            )
            return
        stamp = messages.to_seconds(message.header.stamp)
        self._counts["pictures"] += 1
        self._last = time.monotonic()
        for seen in find_markers(image, self.config.family, self._camera):  # type: ignore[arg-type]
            if self._wanted is None or seen.number in self._wanted:
                self._locate(seen.number, seen.corners, self._camera, stamp, message.header.frame_id)
        self._work.record(time.perf_counter() - begin)
        self._age.record(max(0.0, self.now() - stamp))

    def _locate(self, number: int, corners: np.ndarray, camera: CameraModel, stamp: float, frame: str) -> None:
        found = locate_marker(corners, self.config.side, camera, self.config.noise)
        if found is None or found.residual > self.config.largest_residual:
            self._counts["bad fits"] += 1
            return
        if found.is_ambiguous():
            self._counts["ambiguous"] += 1
            if not self.config.publish_ambiguous:
                return
        pose, covariance = found.matrix, found.whole_covariance
        if self._mounted is not None:
            place = self._place(self._mounted, stamp)
            if place is None:
                self._counts["without tool pose"] += 1
                self._note(f"no tool pose within {self.config.tool_pose_gap:g} s of a picture's stamp")
                return
            covariance = poses.composed_covariance(place[0], pose, place[1], covariance)
            pose, frame = place[0] @ pose, self.config.base_frame
        self._counts["poses"] += 1
        self._topic_of(number).publish(image_messages.pose_message(pose, covariance, stamp, frame))

    def _place(self, mounted: MountedCamera, stamp: float) -> tuple[np.ndarray, np.ndarray] | None:
        """base_T_camera at `stamp` and its covariance; the arm's own error is not in it."""
        if mounted.mounting == "eye-to-hand":
            return mounted.matrix, mounted.covariance
        tool = self._tool.at(stamp)
        if tool is None:
            return None
        return tool @ mounted.matrix, poses.composed_covariance(
            tool, mounted.matrix, np.zeros((6, 6)), mounted.covariance
        )

    def _topic_of(self, number: int) -> Publisher:
        if number not in self._by_marker:
            topic = f"markers/marker_{number}"
            self._by_marker[number] = qos.publisher(self, PoseWithCovarianceStamped, topic, qos.SENSOR_PUBLISHER)
        return self._by_marker[number]

    def _note(self, refusal: str) -> None:
        self._refusal = refusal
        self.get_logger().warning(refusal, throttle_duration_sec=2.0)

    def _report(self) -> None:
        silent = time.monotonic() - self._last > 1.0
        level = DiagnosticStatus.WARN if silent else DiagnosticStatus.OK
        summary = f"no pictures: {self._refusal or 'none has come'}" if silent else "looking"
        values = {
            **self._counts,
            "markers": ", ".join(str(number) for number in sorted(self._by_marker)),
            "last refused": self._refusal,
            "timing.markers_work": self._work.to_chart(),
            "timing.markers_age": self._age.to_chart(),
        }
        name = f"{self.get_fully_qualified_name()}: markers"
        self._diagnostics.publish(
            messages.diagnostics_message(name, self.config.camera, level, summary, values, self.now())
        )


def _mounted(config: MarkersConfig) -> MountedCamera | None:
    if not config.mounted_camera:
        return None
    path = Path(config.mounted_camera).expanduser()
    if not path.is_file():
        raise StartError(f"parameter mounted_camera: there is no file {path}")
    return read_mounted_camera(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(MarkersNode, argv)
