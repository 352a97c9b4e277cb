"""The learner's end of the link: stores records before it acknowledges them, and offers weights."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from robot_rl.errors import UserError
from robot_rl.hil import messages
from robot_rl.hil.frames import LogError, read
from robot_rl.hil.keys import Authenticator, LearnerKeys
from robot_rl.hil.log import RecordLog
from robot_rl.hil.messages import MessageError, Refusals
from robot_rl.hil.records import Record, RecordError, decode, record_limit
from robot_rl.hil.schema import Schema
from robot_rl.hil.weights import Weights

_logger = logging.getLogger(__name__)

SESSION_S = 5.0
"""s of silence after which an actor counts as gone."""
WAITING_LIMIT = 1 << 28
"""Most bytes of records that wait for `poll`; beyond, actors keep theirs."""
MAX_LOGS = 1000
"""Most logs of a folder: no client can fill it with empty files."""
_LOOPBACK = re.compile(r"tcp://127\.\d+\.\d+\.\d+:(\d+|\*)|ipc://.+")
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


@dataclass(frozen=True, kw_only=True)
class ReceiverStatus:
    """How the link is, seen by the learner."""

    connected: int
    """Actors that were heard in the last seconds."""
    stored: int
    """Records stored since the start of this process."""
    waiting: int
    """Records that wait for `poll`."""
    refused: int
    """Messages, connections and records that were refused."""
    version: int
    """Version of the newest published weights; -1 before the first."""
    silence: float
    """s since an actor was heard; infinite before the first."""


@dataclass
class _Session:
    """A connected actor."""

    token: bytes
    log: RecordLog
    heard: float
    offered: int = -1
    fetching: Weights | None = None


class Receiver:
    """A thread beside the learner. No method waits for the network, but for `poll` as long as it is told."""

    def __init__(
        self, folder: Path, schema: Schema, endpoint: str, keys: LearnerKeys, *, allow_remote: bool = False
    ) -> None:
        """Open the logs in `folder` and prepare to listen.

        Args:
            folder: Where each actor's log is stored as `<log id>.log`; made if missing.
            schema: What records must look like.
            endpoint: Where to listen, such as tcp://127.0.0.1:5555.
            keys: Own pair, and the actors that may connect.
            allow_remote: Must be set for an endpoint that other machines can reach.

        Raises:
            UserError: The endpoint is open to other machines without `allow_remote`.
            LogError: A log in the folder cannot be used.
        """
        if not allow_remote and not _LOOPBACK.fullmatch(endpoint):
            raise UserError(
                f"{endpoint} can be reached from other machines; listen at tcp://127.0.0.1:PORT,"
                " or allow it explicitly (allow_remote)"
            )
        self._folder, self._schema, self._endpoint, self._keys = Path(folder), schema, endpoint, keys
        self._folder.mkdir(parents=True, exist_ok=True)
        self._logs: dict[str, RecordLog] = {}
        try:
            for path in sorted(self._folder.glob("*.log")):
                self._logs[path.stem] = RecordLog(path, schema, log_id=path.stem)
        except BaseException:
            self._close_logs()
            raise
        self._before = {log_id: log.count for log_id, log in self._logs.items()}
        self._life = secrets.token_bytes(16)
        self._sessions: dict[bytes, _Session] = {}
        self._refusals = Refusals(_logger)
        self._thread = threading.Thread(target=self._run, name="hil-receiver", daemon=True)
        self._stopping = threading.Event()
        # Shared with other threads under this condition.
        self._changed = threading.Condition()
        self._waiting: list[tuple[Record, int]] = []
        self._waiting_bytes = self._stored = 0
        self._newest: Weights | None = None
        self._heard = float("-inf")
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            UserError: The endpoint cannot be bound.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = Authenticator(self._context, self._keys.actors, self._refuse_client)
        router = self._router = self._context.socket(zmq.ROUTER)
        router.linger = 0
        router.router_mandatory = True
        router.maxmsgsize = max(messages.BATCH, record_limit(self._schema)) + messages.OVERHEAD
        router.rcvhwm, router.sndhwm = 64, 64
        router.heartbeat_ivl, router.heartbeat_timeout = 500, 3000
        router.curve_server = True
        router.curve_secretkey, router.curve_publickey = self._keys.own.secret, self._keys.own.public
        router.zap_domain = Authenticator.DOMAIN
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._monitor = router.get_monitor_socket(_FAILURES)
        try:
            router.bind(self._endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise UserError(f"cannot listen at {self._endpoint}: {error.strerror}") from error
        self._endpoint = router.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        if not self._keys.actors:
            _logger.warning("no actor is authorised yet; put its public key into the learner's authorised/ folder")
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return self._endpoint

    def history(self) -> Iterator[Record]:
        """Every record that was in the folder before this process; `poll` gives the others."""
        for log_id, count in self._before.items():
            if count:
                for sequence, payload in read(self._logs[log_id].path):
                    yield decode(payload, self._schema, source=log_id)
                    if sequence + 1 == count:
                        break

    def poll(self, timeout: float = 0.0) -> list[Record]:
        """The records that were stored since the last call, in order; waits up to `timeout` seconds for the first.

        Raises:
            RuntimeError: The thread of the link ended by an error.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._failure, timeout)
            if self._failure is not None:
                raise RuntimeError("the link's thread ended; restart the learner") from self._failure
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return [record for record, _ in waiting]

    def publish(self, version: int, blob: bytes) -> None:
        """Offer weights, safetensors bytes, to every actor, also to those that come later.

        Raises:
            ValueError: The version does not grow, or the weights are empty or too large.
        """
        weights = Weights(version, blob)
        with self._changed:
            if self._newest is not None and version <= self._newest.version:
                raise ValueError(f"weights {version} come after {self._newest.version}; versions must grow")
            self._newest = weights

    @property
    def status(self) -> ReceiverStatus:
        """How the link is."""
        now = time.monotonic()
        with self._changed:
            return ReceiverStatus(
                connected=sum(now - one.heard < SESSION_S for one in list(self._sessions.values())),
                stored=self._stored,
                waiting=len(self._waiting),
                refused=self._refusals.count,
                version=-1 if self._newest is None else self._newest.version,
                silence=now - self._heard,
            )

    def stop(self) -> None:
        """End, and close the logs."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._close_logs()

    def _close_logs(self) -> None:
        for log in self._logs.values():
            log.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._router, self._authenticator.socket, self._monitor):
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(20))
                if self._authenticator.socket in ready:
                    self._authenticator.handle()
                if self._monitor in ready:
                    self._report_handshake()
                for _ in range(64 if self._router in ready else 0):
                    try:
                        identity, *parts = self._router.recv_multipart(zmq.NOBLOCK)
                    except zmq.Again:
                        break
                    self._handle(identity, parts)
                self._look_after_sessions()
        except BaseException as error:
            _logger.exception("the link at %s ended", self._endpoint)
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            self._router.disable_monitor()
            self._context.destroy(linger=0)
            self._close_logs()

    def _refuse_client(self, sentence: str) -> None:
        self._refusals.add("client", sentence)

    def _report_handshake(self) -> None:
        event = recv_monitor_message(self._monitor)
        if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:  # also where a network breaks off
            self._refusals.add("handshake", f"a connection to {self._endpoint} ended before it had shown a key")
        elif event["event"] == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._refusals.add(
                "handshake",
                f"a connection to {self._endpoint} that is no actor's, or has another learner's key"
                f" (handshake error {event['value']:#x})",
            )  # a key that is not authorised is reported by the authenticator

    def _look_after_sessions(self) -> None:
        now, newest = time.monotonic(), self._newest
        for identity, session in list(self._sessions.items()):
            if now - session.heard > SESSION_S:
                del self._sessions[identity]
            elif newest is not None and session.offered < newest.version:
                session.offered = newest.version if self._send(identity, session, "offer", **newest.offer()) else -1

    def _send(self, identity: bytes, session: _Session, kind: messages.Kind, **values: Any) -> bool:
        return self._answer(identity, session.token, kind, **values)

    def _answer(self, identity: bytes, token: bytes, kind: messages.Kind, **values: Any) -> bool:
        try:
            self._router.send_multipart([identity, messages.pack(kind, session=token, **values)], zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or does not read: it will ask again
            return False
        return True

    def _handle(self, identity: bytes, parts: list[bytes]) -> None:
        try:
            if len(parts) != 1:
                raise MessageError(f"a message of {len(parts)} parts; expected 1")
            kind, message = messages.unpack(parts[0], messages.FROM_ACTOR)
        except MessageError as error:
            self._refusals.add("garbage", f"from an actor: {error}")
            return
        token = message["session"]
        if kind == "hello":
            self._hello(identity, token, message)
            return
        session = self._sessions.get(identity)
        if session is None or session.token != token:
            self._refusals.add("session", f"{kind} of an old or unknown session")
            self._answer(identity, token, "refused", code="session", reason="unknown session; begin with hello")
            return
        self._heard = session.heard = time.monotonic()
        if kind == "records":
            self._store(identity, session, message["first"], message["payloads"])
        elif kind == "ping":
            self._send(identity, session, "pong", number=message["number"])
        elif kind == "get":
            self._give_chunk(identity, session, message["version"], message["index"])

    def _hello(self, identity: bytes, token: bytes, message: dict[str, Any]) -> None:
        log_id = message["log_id"]
        try:
            schema = Schema.from_dict(message["schema"])
            if schema != self._schema:
                raise RecordError(f"the records are of another schema: {self._schema.difference(schema)}")
            log = self._logs[log_id] if log_id in self._logs else self._new_log(log_id)
        except (RecordError, LogError) as error:
            self._refusals.add("hello", f"the log {log_id}: {error}")
            self._answer(identity, token, "refused", code="hello", reason=str(error)[:2000])
            return
        if log.count > message["count"]:
            self._refusals.add("hello", f"the log {log_id} was cut off at the actor: {message['count']} of {log.count}")
        # One session a log: an older connection of the same actor ends here, and so does an older session of this one.
        older = {one: session for one, session in self._sessions.items() if session.log is log}
        self._sessions = {one: session for one, session in self._sessions.items() if one not in older}
        self._heard = time.monotonic()
        self._sessions[identity] = _Session(token, log, self._heard)
        # A transfer of weights goes on where it broke off.
        self._sessions[identity].fetching = next((session.fetching for session in older.values()), None)
        self._answer(identity, token, "welcome", learner=self._life, next=log.count, checksum=log.checksum)

    def _new_log(self, log_id: str) -> RecordLog:
        if len(self._logs) >= MAX_LOGS:
            raise LogError(f"{self._folder} holds {len(self._logs)} logs; begin a new folder")
        try:
            log = RecordLog(self._folder / f"{log_id}.log", self._schema, log_id=log_id)
        except OSError as error:
            raise LogError(f"cannot begin {log_id}.log: {error.strerror}") from error
        self._logs[log_id] = log
        return log

    def _store(self, identity: bytes, session: _Session, first: int, payloads: list[bytes]) -> None:
        log = session.log
        if first + len(payloads) <= log.count:
            self._refusals.add(
                "replay", f"records {first} to {first + len(payloads) - 1} of {log.log_id} again; expected {log.count}"
            )
        elif first > log.count:
            self._refusals.add("gap", f"record {first} of {log.log_id}; expected {log.count}")
        elif self._waiting_bytes > WAITING_LIMIT:
            return  # no answer: the actor keeps them and tries again later
        else:
            for payload in payloads[log.count - first :]:
                try:
                    record = log.append_encoded(payload)
                except RecordError as error:
                    self._refusals.add("record", f"record {log.count} of {log.log_id}: {error}")
                    self._send(identity, session, "refused", code="record", reason=str(error)[:2000])
                    return
                except LogError as error:  # the disk: no answer, so the actor keeps them and tries again later
                    _logger.error("not stored, not acknowledged: %s", error)
                    return
                with self._changed:
                    self._waiting.append((record, len(payload)))
                    self._waiting_bytes += len(payload)
                    self._stored += 1
                    self._changed.notify_all()
        self._send(identity, session, "ack", next=log.count)

    def _give_chunk(self, identity: bytes, session: _Session, version: int, index: int) -> None:
        newest = self._newest
        if index == 0 and newest is not None and newest.version == version:
            # The bytes of a transfer stay the same to its end, also if newer ones are published meanwhile.
            session.fetching = newest
        weights = session.fetching
        if weights is None or weights.version != version or not (data := weights.chunk(index)):
            session.offered = -1
            self._send(identity, session, "refused", code="weights", reason=f"weights {version} are not on offer")
            return
        self._send(identity, session, "chunk", version=version, index=index, data=data)
