"""Keys of the link between actor and learner: CURVE pairs of ZeroMQ, made on first use, private to their owner.

A folder holds `learner.secret`, `learner.public`, `actor.secret`, `actor.public`, and in `authorised/` the public keys
of the actors that the learner lets in. With two machines, each makes its own pair; copy `learner.public` to the actor
and `actor.public` into the learner's `authorised/`. Public keys are no secrets, but whoever can exchange one can
take part, so copy them over a channel that you trust, such as ssh.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from robot_rl.errors import UserError


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair in the Z85 text form, 40 characters each."""

    public: bytes
    """What others may know."""
    secret: bytes = field(repr=False)
    """What nobody else may know."""


@dataclass(frozen=True, kw_only=True)
class ActorKeys:
    """What an actor needs for the link."""

    own: KeyPair
    """Its own pair."""
    learner: bytes
    """The learner's public key: nobody else can pose as the learner."""


@dataclass(frozen=True, kw_only=True)
class LearnerKeys:
    """What a learner needs for the link."""

    own: KeyPair
    """Its own pair."""
    actors: frozenset[bytes]
    """Public keys of the actors that may connect."""


def load_pair(folder: Path, name: str) -> KeyPair:
    """The pair `name` of a folder, made on first use.

    Raises:
        UserError: Others can read the secret key, or a file holds no key.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.secret"
    if not path.exists():
        _write_once(path, zmq.curve_keypair()[1])
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UserError(f"{path} is open to other users (mode {mode:o}); run: chmod 600 {path}")
    secret = _read_key(path)
    pair = KeyPair(public=zmq.curve_public(secret), secret=secret)
    shown = folder / f"{name}.public"
    if not shown.exists() or _read_key(shown) != pair.public:
        _replace(shown, pair.public)
    return pair


def actor_keys(folder: Path, name: str = "actor") -> ActorKeys:
    """The keys of an actor: its own pair, made on first use, and `learner.public`, which must be there."""
    own = load_pair(folder, name)
    learner = Path(folder) / "learner.public"
    if not learner.exists():
        raise UserError(f"{learner} is missing: copy it from the learner's key folder (the learner makes it)")
    return ActorKeys(own=own, learner=_read_key(learner))


def learner_keys(folder: Path) -> LearnerKeys:
    """The keys of a learner: its own pair, made on first use, and the actors in `authorised/`."""
    own = load_pair(folder, "learner")
    authorised = Path(folder) / "authorised"
    return LearnerKeys(own=own, actors=frozenset(_read_key(path) for path in sorted(authorised.glob("*.public"))))


def local_keys(folder: Path) -> tuple[ActorKeys, LearnerKeys]:
    """Both ends' keys for one machine: the pairs are made on first use, and the actor is authorised."""
    load_pair(folder, "learner")
    actor = actor_keys(folder)
    authorise(folder, "actor", actor.own.public)
    return actor, learner_keys(folder)


def authorise(folder: Path, name: str, public: bytes) -> None:
    """Let the actor with this public key in, from the learner's next start on."""
    authorised = Path(folder) / "authorised"
    authorised.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = authorised / f"{name}.public"
    if not path.exists() or _read_key(path) != public:
        _replace(path, public)


def _read_key(path: Path) -> bytes:
    with open(path, "rb") as file:
        text = file.read(200).strip()
    try:
        if len(text) != 40 or len(z85.decode(text)) != 32:
            raise ValueError
    except Exception as error:  # whatever is wrong with the text
        raise UserError(
            f"{path} holds no key of 40 characters; copy it again, or delete it to make a new one"
        ) from error
    return text


def _temporary(path: Path, text: bytes) -> Path:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    # Never readable by others, not even for a moment.
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(text + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    return fresh


def _write_once(path: Path, text: bytes) -> None:
    fresh = _temporary(path, text)
    try:
        # Where two processes make a key at once, one wins and both use it.
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()


def _replace(path: Path, text: bytes) -> None:
    os.replace(_temporary(path, text), path)


class Authenticator:
    """Answers ZeroMQ's question who may connect (ZAP, RFC 27): only known CURVE keys.

    `socket` must be polled, and `handle` called when something is there. Bind it before the socket that it guards.
    """

    DOMAIN = b"robot_rl"

    def __init__(self, context: zmq.Context, actors: frozenset[bytes], refuse: Callable[[str], None]) -> None:
        self._actors = {z85.decode(key) for key in actors}
        self._refuse = refuse
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")

    def handle(self) -> None:
        """Answer one request."""
        version, request, domain, address, _, mechanism, *credentials = self.socket.recv_multipart()
        known = len(credentials) == 1 and credentials[0] in self._actors
        allowed = domain == self.DOMAIN and mechanism == b"CURVE" and known
        if not allowed:
            key = z85.encode(credentials[0]).decode() if credentials and len(credentials[0]) == 32 else "none"
            self._refuse(
                f"the client at {address.decode(errors='replace')!r:.60} with the public key {key} is not authorised;"
                " put its key into the learner's authorised/ folder to let it in"
            )
        status, text = (b"200", b"OK") if allowed else (b"400", b"not authorised")
        self.socket.send_multipart([version, request, status, text, b"actor" if allowed else b"", b""])
