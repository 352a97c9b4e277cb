"""A self-signed certificate for the page, made on first use and kept, so that a browser is asked about it once."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from robot_rl.errors import UserError, require_packages

_DAYS = 397
"""Most days that browsers accept."""
_RENEW = 14
"""Days before its end from which on a new one is made."""


def default_folder() -> Path:
    """Where certificate and key are kept."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "robot_rl" / "cockpit"


def own_context(folder: Path, names: Sequence[str]) -> tuple[ssl.SSLContext, str]:
    """TLS with the certificate in `folder`, made anew where there is none for these names, and its fingerprint."""
    require_packages("TLS of the cockpit", "cockpit", ("cryptography",))
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not _fits(certificate, key, names):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(certificate, key, names)
    return open_context(certificate, key)


def open_context(certificate: Path, key: Path) -> tuple[ssl.SSLContext, str]:
    """TLS with these files, and the SHA-256 fingerprint of the certificate.

    Raises:
        UserError: They can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        found = _load(certificate)
    except (OSError, ValueError) as error:
        raise UserError(f"the certificate {certificate} with the key {key} can't be used: {error}") from error
    from cryptography.hazmat.primitives import hashes

    return context, found.fingerprint(hashes.SHA256()).hex(":").upper()


def _load(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202  (its type is of an optional package)
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes())


def _fits(certificate: Path, key: Path, names: Sequence[str]) -> bool:
    from cryptography import x509

    if not (certificate.is_file() and key.is_file()):
        return False
    try:
        found = _load(certificate)
        held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    until = found.not_valid_after_utc - datetime.timedelta(days=_RENEW)
    own = {*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))}
    return set(names) <= own and until > datetime.datetime.now(datetime.timezone.utc)


def _make(certificate: Path, key: Path, names: Sequence[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"robot_rl cockpit {socket.gethostname()}"[:64])])
    now = datetime.datetime.now(datetime.timezone.utc)
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, pem, 0o600)
    _write(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole, and never readable by others before its mode is set."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)
