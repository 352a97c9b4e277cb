"""Who may open the page: a token in the printed link, then a cookie; and only under names that are this machine's.

The checks of Host and Origin keep out pages of other sites that the same browser has open: neither a foreign script
nor a DNS name that was pointed at this machine gets in, even where the browser would send the cookie along.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from robot_rl.errors import UserError

TOKEN_BYTES = 24
"""Of randomness: nobody guesses it."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What lets a browser in."""

    host: str = "127.0.0.1"
    """Address that is listened at."""
    port: int = 8765
    """Port that is listened at."""
    secure: bool = False
    """Whether it is https."""
    names: tuple[str, ...] = ()
    """Further names of this machine under which the page may be opened."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=False)
    """What the printed link holds."""

    @property
    def scheme(self) -> str:
        """Of the link: http or https."""
        return "https" if self.secure else "http"

    @property
    def cookie(self) -> str:
        """Name of the cookie: browsers send cookies to every port of a machine."""
        return f"robot_rl_cockpit_{self.port}"

    @property
    def link(self) -> str:
        """What a person opens."""
        shown = self.host
        if shown in ("0.0.0.0", "::", ""):
            shown = own_addresses()[0]
        if ":" in shown:
            shown = f"[{shown}]"
        return f"{self.scheme}://{shown}:{self.port}/?token={self.token}"

    def knows(self, token: str | None) -> bool:
        """Whether this is the token; takes equally long for every wrong one."""
        return token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def allows_host(self, host: str | None) -> bool:
        """Whether a request's `Host` names this machine."""
        if not host:
            return False
        split = urlsplit(f"//{host}")
        try:
            name, port = (split.hostname or "").rstrip("."), split.port
        except ValueError:
            return False
        if port not in (self.port, None):
            return False
        if is_loopback(self.host):
            return is_loopback(name)
        # A literal address is no name that somebody else could point here.
        return _is_address(name) or name in {"localhost", socket.gethostname().lower(), *self.names}

    def allows_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a WebSocket was opened by this very page."""
        return origin is not None and origin == f"{self.scheme}://{host}"


def is_loopback(name: str) -> bool:
    """Whether only this machine can reach it under this name."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_binding(host: str, secure: bool) -> None:
    """Refuse to serve unencrypted to other machines.

    Raises:
        UserError: It would.
    """
    if not secure and not is_loopback(host):
        raise UserError(
            f"--host {host} with --tls off would send token and commands in the clear; leave --tls auto, or tunnel "
            "a loopback port instead: ssh -L 8765:127.0.0.1:8765 HOST"
        )


def own_addresses() -> list[str]:
    """Addresses of this machine, the one towards other networks first; loopback last."""
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only a route is looked up
            found.append(probe.getsockname()[0])
        except OSError:  # no network at all
            found.clear()
    return list(dict.fromkeys([*found, "127.0.0.1"]))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
