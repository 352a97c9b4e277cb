"""Who gets in: the token, and the names under which the page may be opened."""

from __future__ import annotations

import ssl
import stat

import pytest

from robot_rl.cockpit import certificate
from robot_rl.cockpit.access import Access, check_binding, is_loopback
from robot_rl.errors import UserError


def test_every_start_has_another_token_and_only_that_one_opens():
    one, other = Access(), Access()
    assert one.token != other.token and len(one.token) >= 32
    assert one.knows(one.token)
    for wrong in (None, "", other.token, one.token[:-1], one.token + "x", "é"):
        assert not one.knows(wrong)


def test_the_token_is_in_the_link_and_not_in_what_python_prints():
    access = Access(port=4321)
    assert access.link == f"http://127.0.0.1:4321/?token={access.token}"
    assert access.token not in repr(access)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "localhost", "127.0.0.1"])
def test_a_loopback_page_is_opened_under_loopback_names(host):
    assert Access(port=8765).allows_host(host)


@pytest.mark.parametrize(
    "host", [None, "", "evil.example:8765", "localhost.evil.example:8765", "192.168.1.4:8765", "127.0.0.1:80", "a:b:c"]
)
def test_other_names_are_refused_though_dns_may_point_them_here(host):
    assert not Access(port=8765).allows_host(host)


def test_bound_elsewhere_addresses_and_given_names_are_allowed():
    access = Access(host="0.0.0.0", port=1, secure=True, names=("robot.lab",))
    assert access.allows_host("192.168.1.4:1") and access.allows_host("robot.lab:1")
    assert not access.allows_host("evil.example:1")


def test_a_socket_is_opened_by_the_page_itself_only():
    access = Access(port=8765)
    assert access.allows_origin("http://localhost:8765", "localhost:8765")
    for origin in (None, "null", "http://evil.example", "https://localhost:8765", "http://localhost:8766"):
        assert not access.allows_origin(origin, "localhost:8765")


def test_nothing_goes_to_other_machines_in_the_clear():
    assert is_loopback("127.0.0.1") and is_loopback("::1") and not is_loopback("0.0.0.0")
    check_binding("127.0.0.1", secure=False)
    check_binding("0.0.0.0", secure=True)
    with pytest.raises(UserError, match="in the clear"):
        check_binding("0.0.0.0", secure=False)


def test_the_certificate_is_kept_and_made_anew_for_new_names(tmp_path):
    pytest.importorskip("cryptography")
    context, first = certificate.own_context(tmp_path, ["127.0.0.1", "localhost"])
    assert isinstance(context, ssl.SSLContext) and len(first.split(":")) == 32
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert certificate.own_context(tmp_path, ["localhost"])[1] == first
    assert certificate.own_context(tmp_path, ["robot.lab"])[1] != first


def test_an_unusable_certificate_is_a_sentence(tmp_path):
    pytest.importorskip("cryptography")
    (tmp_path / "c.pem").write_text("no certificate")
    with pytest.raises(UserError, match="can't be used"):
        certificate.open_context(tmp_path / "c.pem", tmp_path / "c.pem")
