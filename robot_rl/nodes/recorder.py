"""Records any topics as episodes, one MCAP file each, as they come: see `robot_rl.recording`.

The services `record`, `record/success`, `record/failure` and `record/discard` begin and end episodes. What a latched
topic said before an episode began is put at its beginning.
"""

from __future__ import annotations

import fnmatch
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_srvs.srv import SetBool, Trigger

from robot_rl.nodes import messages, parameters, qos
from robot_rl.nodes.definitions import full_definition, has_header
from robot_rl.nodes.parameters import parameter
from robot_rl.nodes.raw_streams import RawMessage, RawStreams
from robot_rl.nodes.running import Face, NodeError, StartError, run
from robot_rl.recording import EpisodeWriter, RecordingError
from robot_rl.recording.types import stamp_of

_OWN = ("/rosout", "/parameter_events")
_LOOK = 0.5
"""s between two looks for new topics."""


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """Parameters of the node."""

    folder: str = parameter("runs/recordings", "Folder of the episodes; made if it does not exist.")
    topics: list = parameter(
        ["*"], "What to record: names, relative or absolute, where * stands for anything. Also what appears later."
    )
    exclude: list = parameter([""], "What not to record, as above.")
    recording: bool = parameter(False, "Record from the start on, until the node ends or is told to stop.")
    robot: str = parameter("", "Name of the robot, to be stored.")
    task: str = parameter("", "Name of the task, to be stored.")


class Recorder(Face):
    """Episodes on request."""

    period = 0.1
    priority = 5
    """Above other programs, or what came is overwritten before it is taken; below all that moves a robot."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.config = config = parameters.read(self, RecorderConfig)
        folder = Path(config.folder).expanduser()
        try:
            self._writer = EpisodeWriter(folder)
        except OSError as error:
            raise StartError(f"cannot write to {folder}: {error.strerror}") from error
        self._wanted = [self.resolve_topic_name(name) if "*" not in name else name for name in config.topics if name]
        self._unwanted = [self.resolve_topic_name(name) if "*" not in name else name for name in config.exclude if name]
        self._lock = threading.Lock()  # messages come in a thread of their own
        self._simulated = self.simulated_time
        self._headers: dict[str, bool] = {}
        self._missed: Counter[str] = Counter()
        self._said: set[str] = set()
        self._look_at = self._report_at = 0.0
        self._diagnostics = qos.publisher(self, DiagnosticArray, "/diagnostics", qos.SENSOR_PUBLISHER)
        self._streams = RawStreams(self.context, self.get_name(), self._on_message)
        self.create_service(SetBool, "record", lambda q, r: _answer(r, self.begin if q.data else self._stop))
        self.create_service(Trigger, "record/success", lambda _, r: _answer(r, lambda: self.end(True, "success")))
        self.create_service(Trigger, "record/failure", lambda _, r: _answer(r, lambda: self.end(False, "failure")))
        self.create_service(Trigger, "record/discard", lambda _, r: _answer(r, self._discard))

    def started(self) -> None:
        """Begin where the parameter says so."""
        if self.config.recording:
            try:
                self.begin()
            except RecordingError as error:
                raise StartError(str(error)) from error

    def begin(self) -> str:
        """Begin an episode. Raises a RecordingError where one is running, or the disk refuses."""
        info = {
            "robot": self.config.robot,
            "task": self.config.task,
            "namespace": self.get_namespace(),
            "simulated_time": self._simulated,
        }
        with self._lock:
            path = self._writer.begin(info)
            self._missed = self._streams.missed.copy()
            for message in list(self._streams.latched.values()):
                self._store(message)
        self.get_logger().info(f"recording {path}")
        return f"recording {path}"

    def end(self, success: bool, cause: str) -> str:
        """End the episode; it is on the disk when this returns. Raises a RecordingError where there is none."""
        with self._lock:
            summary = self._writer.end(success, cause)
        dropped = sum(summary.dropped.values())
        note = f"; {dropped} messages were lost" if dropped else ""
        said = f"{summary.path}: {cause}, {summary.seconds:.1f} s, {sum(summary.counts.values())} messages{note}"
        (self.get_logger().warning if dropped else self.get_logger().info)(said)
        return said

    def tick(self) -> None:
        """Look for new topics, and report."""
        if self._streams.failure is not None:
            raise NodeError(f"messages cannot be taken any more: {self._streams.failure}")
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK
            self._look()
        if now >= self._report_at:
            self._report_at = now + 1.0
            self._check()
            self._report()

    def close(self) -> None:
        """End a running episode."""
        self._streams.close()
        if self._writer.recording:
            try:
                self.end(False, "the recorder ended")
            except RecordingError as error:
                self.get_logger().error(str(error))

    def _stop(self) -> str:
        return self.end(False, "stopped")

    def _discard(self) -> str:
        with self._lock:
            path = self._writer.path
            self._writer.discard()
        self.get_logger().info(f"{path} was discarded")
        return f"{path} was discarded"

    def _look(self) -> None:
        def wanted(topic: str) -> bool:
            names = (*self._unwanted, *_OWN)
            return _matches(topic, self._wanted) and not _matches(topic, names)

        new = self._streams.look_for(wanted)
        if new:
            self.get_logger().info(f"reading {', '.join(new)}")
        for problem in set(self._streams.problems.values()) - self._said:
            self._said.add(problem)
            self.get_logger().error(problem)

    def _on_message(self, message: RawMessage) -> None:
        if self._writer.recording:
            with self._lock:
                if self._writer.recording:
                    self._store(message)

    def _store(self, message: RawMessage) -> None:
        if message.type not in self._headers:
            try:
                text = full_definition(message.type)
            except RecordingError as error:
                if str(error) not in self._said:
                    self._said.add(str(error))
                    self.get_logger().error(f"{message.topic} is not recorded: {error}")
                return
            self._headers[message.type] = has_header(text)
            self._writer.define(message.type, text)
        measured = stamp_of(message.data) if self._headers[message.type] else 0
        if measured <= 0:
            measured = self.get_clock().now().nanoseconds if self._simulated else message.received
        missed = self._streams.missed[message.topic] - self._missed[message.topic]
        if missed:
            self._missed[message.topic] += missed
            self._writer.count_lost(message.topic, missed)
        self._writer.write_raw(message.topic, message.type, message.data, measured, message.received)

    def _check(self) -> None:
        """A disk that failed ends the episode."""
        if self._writer.failure:
            try:
                self.end(False, "the disk failed")
            except RecordingError as error:
                self.get_logger().error(str(error))
                self._said.add(str(error))

    def _report(self) -> None:
        writer = self._writer
        dropped = writer.dropped
        level = DiagnosticStatus.WARN if dropped or self._streams.problems else DiagnosticStatus.OK
        summary = f"recording {writer.path}" if writer.recording else "not recording"
        values: dict[str, Any] = {
            "topics": ", ".join(sorted(self._streams.topics())),
            "lost": dropped,
            "not recorded": "; ".join(self._streams.problems.values()),
        }
        name = f"{self.get_fully_qualified_name()}: recorder"
        self._diagnostics.publish(
            messages.diagnostics_message(name, self.config.robot, level, summary, values, self.now())
        )


def _matches(topic: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(topic, pattern) for pattern in patterns)


def _answer(response: Any, work: Callable[[], str]) -> Any:
    try:
        response.message = work()
        response.success = True
    except RecordingError as error:
        response.success, response.message = False, str(error)
    return response


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run(Recorder, argv)
