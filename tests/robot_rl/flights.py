"""Writes recorded flights as the recorder does, from arrays."""

import json

import numpy as np

from policies.rotation import rotate_inverse
from robot_rl.recording import EpisodeWriter
from robot_rl.recording.messages import diagnostics, header, joint_state, text
from robot_rl.recording.types import standard_types

ROTORS = ("front_right", "back_right", "back_left", "front_left")
"""Of a crazyflie, in its order. Messages have them in the opposite one."""


def make(name, **fields):
    return standard_types().types[name](**fields)


def vector(values, kind="Vector3"):
    x, y, z = (float(value) for value in values)
    return make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)


def quaternion(values):
    w, x, y, z = (float(value) for value in values)
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def odometry(position, orientation, velocity, rates):
    """Velocity is in the world's frame; the message has it in the body's."""
    pose = make("geometry_msgs/msg/Pose", position=vector(position, "Point"), orientation=quaternion(orientation))
    twist = make("geometry_msgs/msg/Twist", linear=vector(rotate_inverse(orientation, velocity)), angular=vector(rates))
    return make(
        "nav_msgs/msg/Odometry",
        header=header("odom"),
        child_frame_id="base_link",
        pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )


def setpoint(position, velocity):
    transform = make(
        "geometry_msgs/msg/Transform", translation=vector(position), rotation=quaternion([1.0, 0.0, 0.0, 0.0])
    )
    twist = make("geometry_msgs/msg/Twist", linear=vector(velocity), angular=vector(np.zeros(3)))
    point = make(
        "trajectory_msgs/msg/MultiDOFJointTrajectoryPoint",
        transforms=[transform],
        velocities=[twist],
        accelerations=[],
        time_from_start=make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
    )
    return make(
        "trajectory_msgs/msg/MultiDOFJointTrajectory", header=header("odom"), joint_names=["base_link"], points=[point]
    )


def write_flight(folder, data, timing=None, namespace="/", robot=""):
    """Write one; what is nan in the set-point or the commands was not there yet. Returns the folder."""
    prefix = namespace.rstrip("/")
    names = list(data["phase_names"])
    said = None
    with EpisodeWriter(folder) as writer:
        writer.begin({"namespace": namespace, "robot": robot})
        for row, time in enumerate(np.asarray(data["time"], float)):
            came = 100.0 + row * 0.001  # in this order, whatever the stamps say
            phase = names[int(data["phase"][row])]
            if phase != said:
                said = phase
                writer.write(f"{prefix}/setpoint/phase", text(str(phase)), came - 4e-4, came - 4e-4)
            target = (data["setpoint_position"][row], data["setpoint_velocity"][row])
            if np.isfinite(target[0]).all():
                writer.write(f"{prefix}/setpoint", setpoint(*target), time, came - 3e-4)
            if np.isfinite(data["motor_commands"][row]).all():
                motors = joint_state(ROTORS[::-1], (), data["motor_commands"][row][::-1])
                writer.write(f"{prefix}/motor_commands", motors, time, came - 2e-4)
            keys = ("position", "orientation", "linear_velocity", "angular_velocity")
            writer.write(f"{prefix}/odom", odometry(*(data[key][row] for key in keys)), time, came)
        for name, histogram in (timing or {}).items():
            content = {f"timing.{name}": histogram if isinstance(histogram, str) else json.dumps(histogram)}
            writer.write("/diagnostics", diagnostics("node", 0, "ok", {"rate": 1, **content}), came, came)
        writer.end(True, "landed")
    return folder
