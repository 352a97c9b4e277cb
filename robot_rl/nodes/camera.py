"""A camera as a node: newest picture in, raw, compressed and as the policy sees it out, stamped at its receipt."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from hardware.perception.capture import Capture, CaptureConfig, Frame
from hardware.realtime.histogram import Histogram
from policies.bundle import read_manifest
from policies.camera import CameraModel, read_camera_model
from policies.pictures import Preparation, preparation
from robot_rl.nodes import image_messages, messages, parameters, qos
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.running import Face, StartError, run

IMAGE_PUBLISHER = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=2, reliability=QoSReliabilityPolicy.RELIABLE)
"""Readers of either reliability can connect; a picture is large, so few are kept."""
_FIRST = 8.0
"""s until the first picture has to be there."""
_SILENCE = 1.0
"""s without a picture after which diagnostics warn."""


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """Parameters of the node."""

    source: str = parameter("0", "Number or path of a V4L2 device, path of a video file or of a folder of pictures.")
    width: int = parameter(0, "Pixels to ask a device for; 0: what it gives.", low=0, high=16384)
    height: int = parameter(0, "Pixels to ask a device for; 0: what it gives.", low=0, high=16384)
    rate: float = parameter(0.0, "Pictures per second to ask for; 0: the source's own.", low=0.0, high=1000.0)
    loop: bool = parameter(True, "Whether a file or a folder begins again at its end.")
    calibration: str = parameter("", "Calibration file of robot-rl calibrate or of ROS; empty: not calibrated.")
    topic: str = parameter("camera", "Beginning of the names of all topics.")
    frame: str = parameter("camera_optical_frame", "Frame of the pictures: z out of the lens, x right, y down.")
    policy: str = parameter("", "Bundle whose manifest says what image_policy is; empty: no such topic.")
    camera: str = parameter("", "Which camera of the manifest this is; empty: its only one.")
    jpeg_quality: int = parameter(90, "Of the compressed pictures.", low=1, high=100)


class CameraNode(Face):
    """Polls the reading thread; what nobody listens to is not made."""

    period = 0.004

    def __init__(self) -> None:
        super().__init__("camera")
        self.config = config = parameters.read(self, CameraConfig)
        self.model = _calibration(config)
        self.capture = Capture(
            CaptureConfig(
                source=config.source, width=config.width, height=config.height, rate=config.rate, loop=config.loop
            )
        )
        try:
            self._prepared = self._prepare()
        except BaseException:
            self.capture.close()
            raise
        self._number = self._missed = self._count = 0
        self._delay, self._work = Histogram(), Histogram()
        self._last = self._next_report = self._since = time.monotonic()
        self._summary = ""
        base = config.topic.rstrip("/")
        self._raw = qos.publisher(self, Image, f"{base}/image_raw", IMAGE_PUBLISHER)
        self._packed = qos.publisher(self, CompressedImage, f"{base}/image_raw/compressed", IMAGE_PUBLISHER)
        self._info = qos.publisher(self, CameraInfo, f"{base}/camera_info", qos.SENSOR_PUBLISHER)
        self._policy = qos.publisher(self, Image, f"{base}/image_policy", IMAGE_PUBLISHER) if self._prepared else None
        self._diagnostics = qos.publisher(self, DiagnosticArray, "/diagnostics", qos.SENSOR_PUBLISHER)

    def tick(self) -> None:
        """Publish the newest picture if there is a new one."""
        frame = self.capture.newest(self._number)
        now = time.monotonic()
        if frame is not None:
            self._missed += frame.number - self._number - 1
            self._number, self._last = frame.number, now
            self._count += 1
            self._publish(frame)
            self._work.record(time.monotonic() - now)
            self._delay.record(time.monotonic() - frame.stamp)
        elif self.capture.finished and not self.capture.problem:
            self.get_logger().info(f"{self.config.source} has come to its end")
            self.finished = True
        problem = self.capture.problem or (f"no picture for {now - self._last:.1f} s" if self._late(now) else "")
        if now >= self._next_report or bool(problem) != bool(self._summary):
            self._report(problem, now)

    def close(self) -> None:
        """Give the camera back."""
        self.capture.close()

    def _late(self, now: float) -> bool:
        slow = 1.0 / self.config.rate if self.config.rate > 0.0 else 0.0
        return now - self._last > max(_SILENCE, 3.0 * slow)

    def _publish(self, frame: Frame) -> None:
        stamp = self.now() - (0.0 if self.simulated_time else time.monotonic() - frame.stamp)
        name, image = self.config.frame, frame.image
        # The policy's picture first: it is the one that somebody waits for.
        if self._policy is not None and self._prepared is not None and self._policy.get_subscription_count():
            self._policy.publish(image_messages.image_message(self._prepared.apply(image), stamp, name))
        if self.model is not None:
            self._info.publish(image_messages.camera_info_message(self.model, stamp, name))
        if self._raw.get_subscription_count():
            self._raw.publish(image_messages.image_message(image, stamp, name))
        if self._packed.get_subscription_count():
            quality = self.config.jpeg_quality
            self._packed.publish(image_messages.compressed_message(image, stamp, name, quality))

    def _prepare(self) -> Preparation | None:
        """Wait for the first picture and check that it is the calibration's, and what the policy needs."""
        frame = self.capture.wait(timeout=_FIRST)
        if frame is None:
            why = self.capture.problem or f"no picture within {_FIRST:g} s"
            raise StartError(f"{self.config.source}: {why}")
        height, width = frame.image.shape[:2]
        if self.model is not None and (self.model.height, self.model.width) != (height, width):
            raise StartError(
                f"{self.config.source} gives {width} x {height} pixels, but {self.config.calibration} is of a camera "
                f"with {self.model.width} x {self.model.height}: set width and height, or calibrate at this size"
            )
        self.get_logger().info(f"{self.config.source}: {width} x {height} pixels")
        if not self.config.policy:
            return None
        manifest = read_manifest(self.config.policy, None)[1]
        name = self.config.camera or (next(iter(manifest.images)) if len(manifest.images) == 1 else "")
        if name not in manifest.images:
            known = ", ".join(manifest.images) or "none"
            raise StartError(f"parameter camera is {self.config.camera!r}; {self.config.policy} sees {known}")
        return preparation(manifest.images[name], manifest.view(name), self.model or (height, width))

    def _report(self, problem: str, now: float) -> None:
        rate = self._count / max(now - self._since, 1e-6)
        self._count, self._since, self._next_report, self._summary = 0, now, now + 1.0, problem
        values = {
            "source": self.config.source,
            "rate": rate,
            "pictures": self._number,
            "pictures missed": self._missed,
            "calibrated": self.model is not None,
            "timing.camera_latency": self._delay.to_chart(),
            "timing.camera_publish": self._work.to_chart(),
        }
        level = DiagnosticStatus.ERROR if problem else DiagnosticStatus.OK
        name = f"{self.get_fully_qualified_name()}: camera"
        summary = problem or f"{rate:.1f} pictures per second"
        self._diagnostics.publish(
            messages.diagnostics_message(name, self.config.source, level, summary, values, self.now())
        )


def _calibration(config: CameraConfig) -> CameraModel | None:
    if not config.calibration:
        return None
    path = Path(config.calibration).expanduser()
    if not path.is_file():
        raise StartError(f"parameter calibration: there is no file {path}")
    return read_camera_model(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(CameraNode, argv)
