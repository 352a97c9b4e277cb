"""Messages of any topics as bytes, with the middleware's time of receipt: nothing is decoded, nothing waits.

Topics are found by name as publishers appear. A thread takes what has come, past the executor, which would need a
call into Python, and a look at every other topic, for each message.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription

_DEPTH = 1000
"""Messages of a topic that may wait: 2 s of a fast one."""
_POLL = 0.004
"""s between two looks."""
_SUFFIX = "_streams"
"""How the names of the nodes end that read for others."""


@dataclass(frozen=True)
class RawMessage:
    """A message as it came."""

    topic: str
    """Full name of its topic."""
    type: str
    """Such as sensor_msgs/msg/JointState."""
    data: bytes
    """Serialized, CDR."""
    received: int
    """ns, Unix, when the middleware had it."""
    sent: int
    """ns, Unix, when it was published."""


@dataclass
class _Source:
    subscription: Subscription
    type: str
    profile: tuple[bool, bool]
    sequences: dict[bytes, int] = field(default_factory=dict)
    """Last number that came of each publisher."""


class RawStreams:
    """Subscriptions to topics by name, and a thread that hands over what comes.

    Attributes:
        latched: The last message of each topic whose publishers keep one for those who come late.
        missed: Messages of each topic that were published and never came.
        problems: Why a topic is not read, by topic.
    """

    def __init__(self, context: Context, name: str, take: Callable[[RawMessage], None]) -> None:
        """Begin; `take` is called in a thread of its own.

        Args:
            context: Of the process.
            name: Of the node it is for: the ROS node that subscribes is in no executor, and has a name of its own.
            take: Gets every message.
        """
        self._node = Node(name + _SUFFIX, context=context, use_global_arguments=False, start_parameter_services=False)
        self._take = take
        self._sources: dict[str, _Source] = {}
        self.latched: dict[str, RawMessage] = {}
        self.missed: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self.failure: Exception | None = None
        """What ended the thread, if anything did."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="raw-streams", daemon=True)
        self._thread.start()

    def look_for(self, wanted: Callable[[str], bool]) -> list[str]:
        """Subscribe to topics that have publishers by now; returns the new ones."""
        new = []
        for topic, types in self._node.get_topic_names_and_types():
            if not wanted(topic):
                continue
            publishers = self._node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            if len(types) > 1:
                self.problems[topic] = f"{topic} has messages of several types: {', '.join(types)}"
                continue
            # What suits every publisher: to ask for more than one offers is to get nothing of it.
            reliable = all(one.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE for one in publishers)
            latched = all(one.qos_profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for one in publishers)
            source = self._sources.get(topic)
            if source is not None and source.profile == (reliable, latched):
                continue
            if self._subscribe(topic, types[0], reliable, latched) and source is None:
                new.append(topic)
        return new

    def topics(self) -> dict[str, str]:
        """Topics that are read, with their types."""
        with self._lock:
            return {topic: source.type for topic, source in self._sources.items()}

    def close(self) -> None:
        """Take what has come and end."""
        self._stop.set()
        self._thread.join()
        self._node.destroy_node()

    def _subscribe(self, topic: str, type_name: str, reliable: bool, latched: bool) -> bool:
        try:
            message_type = _find(type_name)
        except (ImportError, AttributeError, ValueError):
            self.problems[topic] = f"{topic} is not recorded: its type {type_name} is not installed here"
            return False
        profile = QoSProfile(
            history=QoSHistoryPolicy.KEEP_LAST,
            depth=_DEPTH,
            reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
        )
        made = self._node.create_subscription(message_type, topic, lambda message: None, profile, raw=True)
        with self._lock:
            old = self._sources.get(topic)
            self._sources[topic] = _Source(made, type_name, (reliable, latched))
            if old is not None:
                self._node.destroy_subscription(old.subscription)
        self.problems.pop(topic, None)
        return True

    def _run(self) -> None:
        try:
            while not self._stop.wait(_POLL):
                self._take_all()
            self._take_all()
        except Exception as error:  # the node ends with it
            self.failure = error

    def _take_all(self) -> None:
        with self._lock:
            for topic, source in self._sources.items():
                handle = source.subscription.handle
                with handle:
                    for _ in range(_DEPTH):  # then the others have their turn
                        found = handle.take_message(source.subscription.msg_type, True)
                        if found is None:
                            break
                        self._hand_over(topic, source, *found)

    def _hand_over(self, topic: str, source: _Source, data: bytes, info: dict[str, Any]) -> None:
        received = info.get("received_timestamp") or time.time_ns()
        message = RawMessage(topic, source.type, data, received, info.get("source_timestamp") or 0)
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if number is not None and publisher is not None:
            key = bytes(publisher["data"])
            last = source.sequences.get(key)
            if last is not None and number > last + 1:
                self.missed[topic] += number - last - 1
            source.sequences[key] = number
        if source.profile[1]:
            self.latched[topic] = message
        self._take(message)


def unrecorded(node: Node, topics: Sequence[str]) -> list[str]:
    """Those of `topics` that someone publishes and no `RawStreams` reads yet, as far as `node` knows by now."""

    def read(topic: str) -> bool:
        return any(one.node_name.endswith(_SUFFIX) for one in node.get_subscriptions_info_by_topic(topic))

    return [topic for topic in map(node.resolve_topic_name, topics) if node.count_publishers(topic) and not read(topic)]


def _find(type_name: str) -> type:
    package, kind, name = type_name.split("/")
    if kind != "msg":
        raise ValueError(type_name)
    found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    return found
