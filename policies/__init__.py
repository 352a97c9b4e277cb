"""What a policy is: its states and commands, its observation, its exported form, its runtime.

Needs numpy, array-api-compat, jsonschema and onnxruntime; neither torch nor a simulator nor ROS.
"""

from policies.bundle import BundleError, check_bundle, list_zoo, write_bundle
from policies.manifest import Envelope, Manifest, RobotRequirement
from policies.runtime import Policy, load
from policies.types import (
    ArmSetpoint,
    ArmState,
    BodyRatesThrust,
    CartesianTwist,
    Command,
    JointPositions,
    JointTorques,
    MotorSpeeds,
    QuadrotorSetpoint,
    QuadrotorState,
    RobotInterface,
)

__all__ = [
    "ArmSetpoint",
    "ArmState",
    "BodyRatesThrust",
    "BundleError",
    "CartesianTwist",
    "Command",
    "Envelope",
    "JointPositions",
    "JointTorques",
    "Manifest",
    "MotorSpeeds",
    "Policy",
    "QuadrotorSetpoint",
    "QuadrotorState",
    "RobotInterface",
    "RobotRequirement",
    "check_bundle",
    "list_zoo",
    "load",
    "write_bundle",
]
