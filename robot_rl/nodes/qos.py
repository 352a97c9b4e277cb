"""Quality of service of each kind of topic (REP-2003), and a log line where two sides do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_profile_sensor_data,
    qos_profile_system_default,
)
from rclpy.subscription import Subscription

SENSOR_PUBLISHER = qos_profile_system_default
"""Publishers of measurements: readers of either reliability can connect."""
SENSOR_READER = qos_profile_sensor_data
"""Readers of measurements: the newest counts, none is sent again."""
STATUS = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
"""Latched: who comes late still gets the present value."""
STATUS_READER = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=4, reliability=QoSReliabilityPolicy.RELIABLE)
"""Readers of rare requests, latched or not."""
COMMAND_READER = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=4, reliability=QoSReliabilityPolicy.RELIABLE)
"""Readers of commands ask for no deadline, because a publisher that offers none would not connect at
all; they check each stamp instead. Depth 4, so that a second publisher's message cannot push the
first one's out before it is read and the second refused."""


def command_publisher(period: float) -> QoSProfile:
    """Publishers of commands: the newest only, at least one every three periods of `period` s."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=QoSReliabilityPolicy.RELIABLE,
        deadline=Duration(seconds=3.0 * period),
    )


def publisher(node: Node, message_type: type, topic: str, profile: QoSProfile) -> Publisher:
    """A publisher that logs readers whose QoS does not fit."""

    def incompatible(event: Any) -> None:
        node.get_logger().error(_sentence("a subscription to", node.resolve_topic_name(topic), event))

    events = PublisherEventCallbacks(incompatible_qos=incompatible, use_default_callbacks=False)
    return node.create_publisher(message_type, topic, profile, event_callbacks=events)


def subscription(
    node: Node, message_type: type, topic: str, callback: Callable[..., None], profile: QoSProfile
) -> Subscription:
    """A subscription that logs publishers whose QoS does not fit."""

    def incompatible(event: Any) -> None:
        node.get_logger().error(_sentence("a publisher of", node.resolve_topic_name(topic), event))

    events = SubscriptionEventCallbacks(incompatible_qos=incompatible, use_default_callbacks=False)
    return node.create_subscription(message_type, topic, callback, profile, event_callbacks=events)


def _sentence(who: str, topic: str, event: Any) -> str:
    kind = str(event.last_policy_kind).rpartition("_")[2].lower()
    return f"{who} {topic} is not connected: its QoS does not fit ({kind})"
