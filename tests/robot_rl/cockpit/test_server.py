"""The server on a real socket: who is let in, who drives, and that a lost driver is noticed at once."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

aiohttp = pytest.importorskip("aiohttp")

from robot_rl.cockpit import certificate  # noqa: E402
from robot_rl.cockpit.access import Access  # noqa: E402
from robot_rl.cockpit.device import PageDevice  # noqa: E402
from robot_rl.cockpit.server import CockpitServer  # noqa: E402
from robot_rl.errors import UserError  # noqa: E402


@pytest.fixture
def server():
    opened = CockpitServer(Access(port=0), PageDevice())
    yield opened
    opened.close()


def base(server):
    return f"{server.access.scheme}://127.0.0.1:{server.access.port}"


def run(server, script, headers=None):
    async def whole():
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of addresses
        async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as browser:
            return await script(browser)

    return asyncio.run(whole())


async def open_page(browser, server):
    async with browser.get(server.link) as answer:
        assert answer.status == 200
    return await browser.ws_connect(f"{base(server)}/socket", origin=base(server))


async def hear(socket, kind, timeout=5.0):
    """The next message of a kind; pings are answered on the way."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        message = await socket.receive(timeout=timeout)
        if message.type != aiohttp.WSMsgType.TEXT:
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                return None
            continue
        data = json.loads(message.data)
        if data["type"] == "ping":
            await socket.send_json({"type": "pong", "asked": data["asked"], "at": time.monotonic()})
        if data["type"] == kind:
            return data
    raise AssertionError(f"nothing of the type {kind!r} came")


def a_command(sequence, **changes):
    fields = {"motion": [1, 0, 0, 0, 0, 0], "dead_man": True, "clutch": True, "held": [], "pressed": []}
    return {"type": "command", "sequence": sequence, "at": time.monotonic(), **fields, **changes}


def wait_for(condition, timeout=5.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("path", ["/", "/page/style.css", "/socket", "/?token=wrong", "/page/../device.py"])
def test_without_the_token_nothing_is_served(server, path):
    async def script(browser):
        async with browser.get(base(server) + path) as answer:
            return answer.status, await answer.text()

    status, text = run(server, script)
    assert status == 403 and "<html" not in text


def test_the_link_sets_a_cookie_that_scripts_cannot_read_and_leaves_the_address_bar(server):
    async def script(browser):
        async with browser.get(server.link, allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"]
            assert answer.status == 303 and answer.headers["Location"] == "/"
        async with browser.get(base(server) + "/") as answer:
            return cookie, answer.status, dict(answer.headers)

    cookie, status, headers = run(server, script)
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert status == 200 and "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", ["/page/../device.py", "/page/%2e%2e/device.py", "/page//etc/passwd", "/device.py"])
def test_only_the_page_is_served(server, path):
    async def script(browser):
        async with browser.get(server.link):
            pass
        async with browser.get(base(server) + path) as answer:
            return answer.status

    assert run(server, script) in (403, 404)


def test_another_name_of_this_machine_is_refused(server):
    async def script(browser):
        async with browser.get(server.link, headers={"Host": "evil.example"}) as answer:
            return answer.status

    assert run(server, script) == 403


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null"])
def test_a_page_of_another_site_gets_no_socket(server, origin):
    async def script(browser):
        async with browser.get(server.link):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(f"{base(server)}/socket", origin=origin)
        return refused.value.status

    assert run(server, script) == 403


def test_one_drives_and_the_other_watches(server):
    async def script(browser):
        first, second = await open_page(browser, server), await open_page(browser, server)
        me = (await hear(first, "you"))["name"]
        await first.send_json({"type": "take"})
        while (await hear(first, "seat"))["driver"] != me:
            pass
        await second.send_json({"type": "take"})
        refused = await hear(second, "refused")
        await second.send_json(a_command(1))
        await second.send_json({"type": "do", "action": "record", "on": True})
        await asyncio.sleep(0.1)
        assert not server.device.read().twist.any() and server.requests.empty()
        for sequence in range(1, 40):  # the clocks are known after the first ping
            await first.send_json(a_command(sequence))
            if server.device.read().twist.any():
                break
            await asyncio.sleep(0.02)
        moved = server.device.read().twist[0]
        await first.send_json({"type": "leave"})
        while (await hear(second, "seat"))["driver"]:
            pass
        return me, refused["why"], moved, server.device.read().connected

    me, why, moved, connected = run(server, script)
    assert me in why and moved > 0.0 and not connected


def test_a_page_that_is_gone_lets_go_at_once(server):
    async def script(browser):
        page = await open_page(browser, server)
        await hear(page, "ping")
        await page.send_json({"type": "take"})
        await page.send_json(a_command(1))
        await asyncio.sleep(0.1)
        assert server.device.read().connected
        page._writer.transport.abort()  # no farewell: the plug is pulled
        began = time.monotonic()
        while server.device.read().connected:
            assert time.monotonic() - began < 2.0
            await asyncio.sleep(0.002)
        return time.monotonic() - began

    assert run(server, script) < 0.15


def test_a_page_that_talks_nonsense_is_shut_out_and_the_server_goes_on(server):
    async def script(browser):
        page = await open_page(browser, server)
        await page.send_str("{")
        assert await hear(page, "never") is None
        other = await open_page(browser, server)
        return (await hear(other, "you"))["name"]

    assert run(server, script) == "page 2"


def test_states_reach_those_who_open_later(server):
    server.publish("setup", {"task": "arm-reach"})
    server.publish_picture(0, 1.0, b"jpeg")  # nobody looks on: it goes nowhere

    async def script(browser):
        return await hear(await open_page(browser, server), "setup")

    assert run(server, script)["task"] == "arm-reach"


def test_whoever_watches_may_stop_the_robot(server):
    async def script(browser):
        page = await open_page(browser, server)
        await page.send_json({"type": "do", "action": "stop"})
        await asyncio.sleep(0.1)
        return server.device.read().pressed

    assert run(server, script) == {"pause"}


def test_tls_speaks_to_those_who_know_the_certificate(tmp_path):
    pytest.importorskip("cryptography")
    import ssl

    context, fingerprint = certificate.own_context(tmp_path, ["127.0.0.1"])
    server = CockpitServer(Access(port=0), PageDevice(), tls=(context, fingerprint))
    try:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))

        async def script(browser):
            async with browser.get(server.link, ssl=trusted, allow_redirects=False) as answer:
                return answer.status, answer.headers["Set-Cookie"]

        status, cookie = run(server, script)
        assert status == 303 and "Secure" in cookie and server.link.startswith("https:")
    finally:
        server.close()


def test_a_port_in_use_is_left_to_its_owner(server):
    other = CockpitServer(Access(port=server.access.port), PageDevice())
    assert other.access.port != server.access.port
    other.close()
    with pytest.raises(UserError, match="can't listen at 203"):
        CockpitServer(Access(host="203.0.113.7", port=8765), PageDevice())
