"""Opens the page's server as a config says: address, encryption, and the link that lets in."""

from __future__ import annotations

import ssl
import sys

from robot_rl.cockpit import certificate
from robot_rl.cockpit.access import Access, check_binding, is_loopback, own_addresses
from robot_rl.cockpit.config import CockpitConfig
from robot_rl.cockpit.device import PageDevice
from robot_rl.cockpit.server import CockpitServer
from robot_rl.errors import UserError


def open_server(config: CockpitConfig, device: PageDevice) -> CockpitServer:
    """Begin to serve; states and pictures follow.

    Raises:
        UserError: The address or the certificate can't be used, or other machines would get in unencrypted.
    """
    access = Access(host=config.host, port=config.port, names=tuple(name.lower() for name in config.names))
    return CockpitServer(access, device, tls=_tls(config))


def announce(server: CockpitServer) -> None:
    """Say where the page is. The link lets in: it goes to the terminal and nowhere else."""
    say(f"open {server.link}")
    if server.fingerprint:
        say("the certificate is self-signed unless you gave one; compare its SHA-256 fingerprint in the browser:")
        say(server.fingerprint)


def _tls(config: CockpitConfig) -> tuple[ssl.SSLContext, str] | None:
    if (config.certificate is None) != (config.key is None):
        raise UserError("--certificate and --key go together; give both or neither")
    if config.certificate is not None and config.key is not None:
        return certificate.open_context(config.certificate, config.key)
    check_binding(config.host, secure=config.tls != "off")
    if is_loopback(config.host):
        return None
    literal = () if config.host in ("0.0.0.0", "::") else (config.host,)
    names = dict.fromkeys([*literal, *own_addresses(), "localhost", *config.names])
    return certificate.own_context(certificate.default_folder(), list(names))


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)
