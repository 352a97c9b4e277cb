"""Serves the page, from a thread of its own.

Whoever simulates or drives a robot hands states and pictures over and goes on at once. A state or a picture is encoded
once for all pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from robot_rl.cockpit import messages
from robot_rl.cockpit.access import Access
from robot_rl.cockpit.device import PageDevice
from robot_rl.cockpit.seat import Seat
from robot_rl.cockpit.viewer import Viewer
from robot_rl.errors import UserError

PAGE = Path(__file__).parent / "page"
MOST_VIEWERS = 16
_PORTS = 20
"""Ports that are tried, from the wanted one on."""
_PING = 1.0
"""s between two looks at a page's clock; the first ones follow each other quickly."""
_QUICK_PINGS = 5
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_logger = logging.getLogger(__name__)


class CockpitServer:
    """A page for many, of whom one drives `device`. Every method may be called from any thread."""

    def __init__(self, access: Access, device: PageDevice, *, tls: tuple[ssl.SSLContext, str] | None = None) -> None:
        """Listen at the port, or at the next one that is free.

        Args:
            access: Address, port, token.
            device: What the driver's commands go to.
            tls: Context and fingerprint of the certificate.

        Raises:
            UserError: No port is free, or the address is not this machine's.
        """
        self._socket = _listen(access.host, access.port)
        self.access = replace(access, port=self._socket.getsockname()[1], secure=tls is not None)
        self.device = device
        self.on_stop: Callable[[], None] = device.stop
        """What a page's stop button does."""
        self.on_shown: Callable[[dict[str, Any], float], None] = lambda message, received: None
        """Told of every picture that a page has shown, and when; for measurements."""
        self.requests: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=64)
        """What the driver asks for beside driving: `{"action": "record", "on": true}`."""
        self.fingerprint = tls[1] if tls else ""
        """Of the certificate, SHA-256; empty without TLS."""
        self._tls = tls[0] if tls else None
        self._viewers: dict[str, Viewer] = {}
        self._pages: set[web.WebSocketResponse] = set()
        self._last: dict[str, str] = {}
        self._seat = Seat()
        self._sequence = 0
        self._count = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="cockpit", daemon=True)
        self._thread.start()
        self._ready.wait(10.0)

    @property
    def link(self) -> str:
        """What a person opens."""
        return self.access.link

    @property
    def watched(self) -> bool:
        """Whether any page is open: without, pictures need not be made."""
        return bool(self._viewers)

    def publish(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Tell every page, also those that open later, a state; it replaces the last one of its kind."""
        self._do(self._spread, kind, messages.text(kind, payload))

    def publish_picture(self, camera: int, at: float, jpeg: bytes) -> None:
        """Show a picture of camera number `camera`, taken at `at` s, monotonic."""
        self._sequence += 1
        self._do(self._show, camera, self._sequence, messages.picture(camera, self._sequence, at, jpeg))

    def publish_poses(self, at: float, poses: bytes) -> None:
        """Show the bodies of the 3-D scene at float32 poses (B, 7)."""
        self._sequence += 1
        self._do(self._show, messages.POSES_SLOT, self._sequence, messages.poses(self._sequence, at, poses))

    def close(self) -> None:
        """Stop to serve; harmless when done twice."""
        if self._thread.is_alive():
            self._do(self._closing.set)
            self._thread.join(5.0)
        self._socket.close()

    def _do(self, function: Callable[..., Any], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody looks on any more
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._index)
        app.router.add_get("/socket", self._connect)
        app.router.add_static("/page/", PAGE)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, self._socket, ssl_context=self._tls).start()
        self._ready.set()
        try:
            while not self._closing.is_set():
                if self._seat.expire():
                    self._seated()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), 0.5)
        finally:
            farewells = [asyncio.ensure_future(page.close(code=WSCloseCode.GOING_AWAY)) for page in self._pages]
            if farewells:
                await asyncio.wait(farewells, timeout=1.0)
            await runner.cleanup()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Nothing is answered before Host and token are right."""
        access = self.access
        if not access.allows_host(request.headers.get("Host")):
            raise web.HTTPForbidden(text="this is not the name of the cockpit's machine; open the printed link\n")
        if not (access.knows(request.cookies.get(access.cookie)) or access.knows(request.query.get("token"))):
            raise web.HTTPForbidden(text="open the link that the cockpit printed when it started: it holds a token\n")
        response: web.StreamResponse = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if "token" not in request.query:
            return web.FileResponse(PAGE / "index.html")
        # Out of the address bar, the history and the log.
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(
            self.access.cookie, self.access.token, httponly=True, samesite="Strict", secure=self.access.secure
        )
        return answer

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        if not self.access.allows_origin(request.headers.get("Origin"), request.headers.get("Host")):
            raise web.HTTPForbidden(text="a page of another site may not drive the robot\n")
        if len(self._viewers) >= MOST_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_VIEWERS} pages are open already; close one\n")
        page = web.WebSocketResponse(heartbeat=5.0, max_msg_size=2 * messages.MAX_TEXT, compress=False)
        await page.prepare(request)
        self._count += 1
        viewer = Viewer(f"page {self._count}")
        self._viewers[viewer.name] = viewer
        self._pages.add(page)
        for kind, said in {"you": messages.text("you", {"name": viewer.name}), **self._last}.items():
            viewer.tell(kind, said)
        self._seated(changed=False)
        tasks = [asyncio.ensure_future(viewer.run(page)), asyncio.ensure_future(self._ping(viewer))]
        try:
            async for message in page:
                if message.type == WSMsgType.TEXT:
                    self._hear(viewer, message.data, time.monotonic())
        except messages.MessageError as error:
            _logger.warning("%s is shut out: %s", viewer.name, error)
            await page.close(code=1008, message=str(error).encode()[:100])
        finally:
            # At once: whoever waits for the tasks to end lets the robot go on meanwhile.
            del self._viewers[viewer.name]
            self._pages.discard(page)
            if self._seat.leave(viewer.name):
                self.device.occupy(False)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._seated(changed=False)
        return page

    async def _ping(self, viewer: Viewer) -> None:
        asked = 0
        while True:
            viewer.tell("ping", messages.text("ping", {"asked": time.monotonic()}))
            asked += 1
            await asyncio.sleep(0.1 if asked < _QUICK_PINGS else _PING)

    def _hear(self, viewer: Viewer, text: str, received: float) -> None:
        message = messages.parse(text)
        kind = message["type"]
        if kind == "command":
            if self._seat.hear(viewer.name):
                self.device.feed(message["command"], received, viewer.offset)
        elif kind == "shown":
            viewer.shown(message["camera"], message["sequence"])
            self.on_shown(message, received)
        elif kind == "pong":
            viewer.offset.answer(message["asked"], message["at"], received)
        elif kind == "take":
            refused = self._seat.take(viewer.name)
            if refused:
                viewer.tell("refused", messages.text("refused", {"why": refused}))
            else:
                self._seated()
        elif kind == "leave":
            if self._seat.leave(viewer.name):
                self._seated()
        elif message["action"] == "stop":
            self.on_stop()
        elif self._seat.hear(viewer.name):
            with contextlib.suppress(queue.Full):
                self.requests.put_nowait(message)

    def _seated(self, changed: bool = True) -> None:
        """Tell who drives."""
        if changed:
            self.device.occupy(bool(self._seat.driver))
        payload = {"driver": self._seat.driver, "pages": len(self._viewers)}
        self._spread("seat", messages.text("seat", payload))

    def _spread(self, kind: str, text: str) -> None:
        self._last[kind] = text
        for viewer in self._viewers.values():
            viewer.tell(kind, text)

    def _show(self, slot: int, sequence: int, data: bytes) -> None:
        for viewer in self._viewers.values():
            viewer.show(slot, sequence, data)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem = ""
    for wanted in range(port, min(port + _PORTS, 65536)) if port else (0,):
        try:
            return socket.create_server((host, wanted), family=family)
        except OSError as error:
            problem = str(error)
    raise UserError(f"the cockpit can't listen at {host} port {port}: {problem}; give another --host or --port")
