"""Pictures, calibrations and uncertain poses as ROS 2 messages, and back; `messages` does it for states."""

from __future__ import annotations

import array

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from hardware.perception import poses
from policies.camera import CameraModel, opencv
from robot_rl.nodes.messages import MessageError, to_stamp

_ENCODINGS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC3": 3, "8UC1": 1}
"""Channels of the encodings that can be read."""
_LARGEST = 16384
"""Pixels along a side that a picture may have."""


def header(stamp: float, frame: str) -> Header:
    """A header from float seconds of the ROS clock."""
    return Header(stamp=to_stamp(stamp), frame_id=frame)


def image_message(image: np.ndarray, stamp: float, frame: str) -> Image:
    """A picture (H, W, 3) uint8, red-green-blue."""
    height, width = image.shape[:2]
    # An array is taken over as it is; bytes would be checked one by one.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).tobytes())
    return Image(header=header(stamp, frame), height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def compressed_message(image: np.ndarray, stamp: float, frame: str, quality: int) -> CompressedImage:
    """The picture as JPEG, as image_transport names it."""
    cv2 = opencv()
    good, packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise MessageError(f"a picture of shape {image.shape} cannot be packed as JPEG")
    data = array.array("B")
    data.frombytes(packed.tobytes())
    return CompressedImage(header=header(stamp, frame), format="rgb8; jpeg compressed bgr8", data=data)


def picture_from_image(message: Image) -> np.ndarray:
    """Picture (H, W, 3) uint8 red-green-blue, or (H, W) where it is grey.

    Raises:
        MessageError: Its encoding is another one, or its data do not fit its size.
    """
    channels = _ENCODINGS.get(message.encoding)
    if channels is None:
        raise MessageError(f"image encoding {message.encoding!r} is not one of {', '.join(_ENCODINGS)}")
    height, width, step = message.height, message.width, message.step
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise MessageError(f"image is {width} x {height} pixels; expected 1 to {_LARGEST} each way")
    if step < width * channels or len(message.data) != step * height:
        raise MessageError(
            f"image of {width} x {height} {message.encoding} has step {step} and {len(message.data)} bytes; expected "
            f"{width * channels} and {width * channels * height}"
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, : width * channels]
    image = rows.reshape(height, width, channels)
    if channels == 1:
        return np.ascontiguousarray(image[..., 0])
    order = [2, 1, 0] if message.encoding.startswith(("bgr", "8UC3")) else [0, 1, 2]
    return np.ascontiguousarray(image[..., order])


def picture_from_compressed(message: CompressedImage) -> np.ndarray:
    """Picture (H, W, 3) uint8, red-green-blue.

    Raises:
        MessageError: It cannot be unpacked.
    """
    cv2 = opencv()
    image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR) if len(message.data) else None
    if image is None:
        raise MessageError(f"compressed image of {len(message.data)} bytes ({message.format!r}) cannot be unpacked")
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def camera_info_message(camera: CameraModel, stamp: float, frame: str) -> CameraInfo:
    """A calibration; P is K, as for a single camera that nobody has rectified."""
    matrix = camera.matrix
    return CameraInfo(
        header=header(stamp, frame),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=list(camera.distortion),
        k=matrix.ravel().tolist(),
        r=np.eye(3).ravel().tolist(),
        p=np.hstack([matrix, np.zeros((3, 1))]).ravel().tolist(),
    )


def camera_from_info(message: CameraInfo) -> CameraModel:
    """A calibration, without a pose.

    Raises:
        MessageError: The camera is not calibrated, or its distortion is of another model.
    """
    k, bent = np.array(message.k, dtype=float), [float(value) for value in message.d]
    if not (np.all(np.isfinite(k)) and k[0] > 0.0 and k[4] > 0.0):
        raise MessageError(
            "camera_info has no focal length: the camera is not calibrated (robot-rl calibrate intrinsics)"
        )
    if any(bent) and (message.distortion_model != "plumb_bob" or len(bent) not in (4, 5)):
        raise MessageError(
            f"camera_info has the distortion model {message.distortion_model!r} with {len(bent)} numbers; expected "
            "plumb_bob with 4 or 5"
        )
    k1, k2, p1, p2, k3 = [*bent, 0.0, 0.0, 0.0, 0.0, 0.0][:5] if any(bent) else [0.0] * 5
    return CameraModel(
        name=message.header.frame_id,
        width=message.width,
        height=message.height,
        fx=k[0],
        fy=k[4],
        cx=k[2],
        cy=k[5],
        distortion=(k1, k2, p1, p2, k3),
    )


def pose_message(matrix: np.ndarray, covariance: np.ndarray, stamp: float, frame: str) -> PoseWithCovarianceStamped:
    """A pose (4, 4) in `frame` with the covariance (6, 6) of a small change of it."""
    message = PoseWithCovarianceStamped(header=header(stamp, frame))
    x, y, z, qw, qx, qy, qz = (float(value) for value in poses.to_pose(matrix))
    pose = message.pose.pose
    pose.position.x, pose.position.y, pose.position.z = x, y, z
    pose.orientation.w, pose.orientation.x, pose.orientation.y, pose.orientation.z = qw, qx, qy, qz
    message.pose.covariance = np.asarray(covariance, dtype=float).ravel()
    return message


def matrix_from_pose(message: PoseStamped) -> np.ndarray:
    """Matrix (4, 4) of a pose.

    Raises:
        MessageError: It is not finite, or its quaternion is no unit one.
    """
    p, q = message.pose.position, message.pose.orientation
    pose = np.array([p.x, p.y, p.z, q.w, q.x, q.y, q.z])
    length = float(np.linalg.norm(pose[3:]))
    if not (np.all(np.isfinite(pose)) and abs(length - 1.0) < 1e-2):
        raise MessageError(f"pose {pose.tolist()} is no finite position and unit quaternion")
    return poses.to_matrix(pose)
