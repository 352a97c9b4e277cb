"""The actor's end of the link: sends what is in the actor's log until the learner has it, and takes weights."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from robot_rl.hil import messages
from robot_rl.hil.frames import LogError, LogReader
from robot_rl.hil.keys import ActorKeys
from robot_rl.hil.messages import MessageError, Refusals
from robot_rl.hil.schema import Schema
from robot_rl.hil.weights import Inbox

_logger = logging.getLogger(__name__)

TICK = 0.01
"""s between two looks into the log."""
PING_AFTER = 0.5
"""s of silence before a ping."""
FIRST_PATIENCE, LAST_PATIENCE = 0.5, 8.0
"""s that an answer may take: doubled with each connection that ended for lack of one, up to the last."""
_QUESTION = {"welcome": "hello", "ack": "records", "pong": "ping", "chunk": "get"}


@dataclass(frozen=True, kw_only=True)
class SenderStatus:
    """How the link is, seen by the actor."""

    connected: bool
    """Whether the learner answers."""
    acknowledged: int
    """Records that the learner has stored."""
    backlog: int
    """Records of the log that it has not acknowledged yet."""
    latency: float
    """Round trip of the last message with its answer, s; NaN before the first."""
    version: int
    """Version of the last weights that arrived whole; -1 before the first."""
    refused: str
    """Why the learner does not take these records; empty where all is well."""


class Sender:
    """A thread beside the control loop. Every method returns at once, but for `stop`."""

    def __init__(self, log_path: Path, schema: Schema, endpoint: str, keys: ActorKeys) -> None:
        """Send the log at `log_path`, which may still be missing, to the learner at `endpoint`."""
        self._path, self._schema, self._endpoint, self._keys = Path(log_path), schema, endpoint, keys
        self._thread = threading.Thread(target=self._run, name="hil-sender", daemon=True)
        self._stopping = threading.Event()
        self._refusals = Refusals(_logger)
        self._inbox = Inbox()
        self._patience = FIRST_PATIENCE
        # What `status` reads from other threads.
        self._connected, self._known, self._acknowledged = False, 0, 0
        self._latency, self._refused = float("nan"), ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, drain_s: float = 0.0) -> None:
        """End; first wait up to `drain_s` seconds until the learner has everything that is in the log."""
        until = time.monotonic() + drain_s
        while self._thread.is_alive() and time.monotonic() < until and not self._drained():
            time.sleep(TICK)
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _drained(self) -> bool:
        status = self.status
        if not status.connected or status.backlog:
            return False
        with LogReader(self._path) as reader:  # the thread may not have seen the last records yet
            return reader.refresh() == status.acknowledged

    @property
    def status(self) -> SenderStatus:
        """How the link is."""
        acknowledged = self._acknowledged
        return SenderStatus(
            connected=self._connected,
            acknowledged=acknowledged,
            backlog=max(0, self._known - acknowledged),
            latency=self._latency,
            version=self._inbox.version,
            refused=self._refused,
        )

    def weights(self) -> tuple[int, bytes] | None:
        """The newest whole weights, once: version and safetensors bytes; None where nothing new has arrived.

        Versions grow. Only a learner that was restarted from an older checkpoint begins lower again, and is followed.
        """
        return self._inbox.take()

    def _run(self) -> None:
        context = zmq.Context()
        reader: LogReader | None = None
        try:
            while not self._stopping.is_set():
                try:
                    if reader is None and (reader := self._find_log()) is None:
                        self._stopping.wait(0.1)
                        continue
                    self._known = reader.refresh()
                    self._serve(context, reader)
                except Exception as error:  # nothing may end this thread: the robot would learn no more
                    _logger.exception("the link to %s failed: %s", self._endpoint, error)
                    self._stopping.wait(1.0)
        finally:
            context.destroy(linger=0)
            if reader is not None:
                reader.close()

    def _find_log(self) -> LogReader | None:
        if not self._path.exists():
            return None
        reader = LogReader(self._path)
        if reader.schema != self._schema:
            reader.close()
            raise LogError(f"{self._path} has another schema: {self._schema.difference(reader.schema)}")
        return reader

    def _serve(self, context: zmq.Context[zmq.Socket[bytes]], reader: LogReader) -> None:
        # One socket's life. It ends when an answer is overdue: a new socket forgets whatever went wrong.
        socket = _open(context, self._keys)
        try:
            connection = _Connection(self, socket, reader)
            socket.connect(self._endpoint)
            while not self._stopping.is_set() and connection.step(self._patience):
                pass
        finally:
            self._connected = False
            socket.disable_monitor()
            socket.close()
        self._patience = min(2.0 * self._patience, LAST_PATIENCE)

    # What a connection reports.

    def _welcomed(self, learner: bytes, wanted: int) -> None:
        self._inbox.begin(learner)
        self._connected, self._refused, self._acknowledged = True, "", wanted

    def _answered(self, latency: float) -> None:
        self._latency = latency
        # Slow links keep their patience, quick ones get back to little.
        self._patience = min(max(FIRST_PATIENCE, 4.0 * latency, 0.5 * self._patience), LAST_PATIENCE)

    def _give_up(self, reason: str) -> bool:
        if reason != self._refused:
            _logger.error("%s", reason)
        self._connected, self._refused = False, reason
        self._stopping.wait(self._patience)
        return False


def _open(context: zmq.Context[zmq.Socket[bytes]], keys: ActorKeys) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    # Messages wait in the log for a connection, and never in a queue of ZeroMQ.
    socket.immediate = True
    socket.maxmsgsize = messages.CHUNK + messages.OVERHEAD
    socket.heartbeat_ivl, socket.heartbeat_timeout = 500, 3000
    socket.reconnect_ivl, socket.reconnect_ivl_max = 50, 1000
    socket.curve_serverkey = keys.learner
    socket.curve_publickey, socket.curve_secretkey = keys.own.public, keys.own.secret
    return socket


class _Connection:
    """One socket's life: a session begins with hello and welcome; then one question of each kind at a time."""

    def __init__(self, sender: Sender, socket: zmq.Socket[bytes], reader: LogReader) -> None:
        self._sender, self._socket, self._reader = sender, socket, reader
        self._refuse, self._inbox = sender._refusals.add, sender._inbox
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        self._heard = time.monotonic()
        self._pings = 0
        self._new_session()

    def _new_session(self) -> None:
        self._session = secrets.token_bytes(16)
        self._welcomed = False
        self._next = 0
        self._asked: dict[str, float] = {}  # questions without an answer, and when they were asked

    def step(self, patience: float) -> bool:
        """Receive and send once; returns False where the connection shall be given up."""
        if self._socket.poll(int(1000 * TICK)):
            for _ in range(64):
                try:
                    parts = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                if not self._handle(parts):
                    return False
        while self._monitor.poll(0):
            if recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                return self._sender._give_up(
                    f"the learner at {self._sender._endpoint} does not know this actor's key; put its public key into"
                    " the learner's authorised/ folder and start the learner again"
                )
            self._sender._connected = False
            self._new_session()
        now = time.monotonic()
        self._sender._known = self._reader.refresh(most=4096)
        if self._welcomed:
            self._send_records(now)
            wanted = self._inbox.wanted()
            if wanted is not None:
                self._ask("get", now, **wanted)
            if not self._asked and now - self._heard > PING_AFTER:
                self._pings += 1
                self._ask("ping", now, number=self._pings)
        else:
            about = {"log_id": self._reader.log_id, "schema": self._reader.schema.to_dict()}
            self._ask("hello", now, **about, count=len(self._reader))
        overdue = min(self._asked.values(), default=now if self._welcomed else self._heard)
        return now - max(overdue, self._heard) < patience

    def _ask(self, kind: messages.Kind, now: float, **values: Any) -> None:
        if kind in self._asked:
            return
        try:
            self._socket.send(messages.pack(kind, session=self._session, **values), zmq.NOBLOCK)
        except zmq.Again:  # no connection at present
            return
        self._asked[kind] = now

    def _send_records(self, now: float) -> None:
        if "records" in self._asked or self._next >= len(self._reader):
            return
        payloads: list[bytes] = []
        size = 0
        for sequence in range(self._next, min(len(self._reader), self._next + messages.BATCH_RECORDS)):
            payload = self._reader.payload(sequence)
            size += len(payload)
            if payloads and size > messages.BATCH:
                break
            payloads.append(payload)
        # What the learner has must never be lost here, or the two histories would part after a power cut.
        self._reader.sync()
        self._ask("records", now, first=self._next, payloads=payloads)

    def _handle(self, parts: list[bytes]) -> bool:
        try:
            kind, message = messages.unpack(b"".join(parts), messages.FROM_LEARNER)
        except MessageError as error:
            self._refuse("garbage", f"from the learner: {error}")
            return True
        if message["session"] != self._session:
            self._refuse("session", f"{kind} of another session from the learner")
            return True
        now = self._heard = time.monotonic()
        if kind in _QUESTION:
            asked = self._asked.pop(_QUESTION[kind], None)
            if asked is None:
                self._refuse("answer", f"{kind} from the learner without a question")
                return True
            self._sender._answered(now - asked)
        wrong = ""
        if kind == "refused":
            return self._refused(message["code"], message["reason"])
        if kind == "welcome":
            return self._welcome(message["learner"], message["next"], message["checksum"])
        if kind == "ack":
            return self._acknowledge(message["next"])
        if kind == "offer":
            wrong = self._inbox.consider(message)
        elif kind == "chunk":
            wrong = self._inbox.add(message["version"], message["index"], message["data"])
        if wrong:
            self._refuse("weights", wrong)
        return True

    def _refused(self, code: str, reason: str) -> bool:
        if code == "session":  # ZeroMQ renewed the connection underneath: say hello again
            self._new_session()
            return True
        if code == "weights":  # superseded before the first chunk; the offer of the newest follows
            self._asked.pop("get", None)
            self._inbox.forget()
            return True
        return self._sender._give_up(f"the learner at {self._sender._endpoint} refuses: {reason}")

    def _welcome(self, learner: bytes, wanted: int, checksum: int) -> bool:
        path = self._reader.path
        if wanted > len(self._reader):
            return self._sender._give_up(
                f"the learner has {wanted} records of {path}, which holds only {len(self._reader)}: the file was cut"
                " off; restore it from the learner's copy, or begin a new log"
            )
        if self._reader.checksum(wanted) != checksum:
            return self._sender._give_up(
                f"the learner's first {wanted} records differ from those of {path}: one of the two files was changed;"
                " restore it, or begin a new log"
            )
        self._welcomed, self._next = True, wanted
        self._sender._welcomed(learner, wanted)
        return True

    def _acknowledge(self, wanted: int) -> bool:
        if not self._next <= wanted <= len(self._reader):
            self._refuse("ack", f"the learner acknowledged {wanted} records; expected {self._next} or more")
            return False
        self._next = self._sender._acknowledged = wanted
        return True
