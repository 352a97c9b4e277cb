"""What the stand-ins of robots share: each is a program that speaks a robot's own protocol on a loopback address.

A test asks one over its standard input, a JSON object a line: `{"set": {…}}` changes the robot's state, `{"get": […]}`
answers with attributes. It is a process of its own, as a vendor's library may hold Python's lock while it waits.
"""

import json
import os
import select
import socket
import sys
import time


class StandIn:
    """Sockets and a clock in one loop; a robot adds `listen`ers, and what happens in a `tick`."""

    period = 0.002

    def __init__(self, host):
        self.host = host
        self.listeners = {}
        self.clients = {}
        self.datagrams = {}
        self.unread = b""
        self.time = 0.0
        """s since the robot was switched on."""

    def listen(self, port, connected, received):
        """`connected(socket)` and `received(socket, bytes)`; b"" when the other end has gone."""
        server = socket.create_server((self.host, port), backlog=8)
        server.setblocking(False)
        self.listeners[server] = (connected, received)

    def listen_udp(self, received):
        """A datagram socket at some port; `received(bytes)`."""
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((self.host, 0))
        self.datagrams[server] = received
        return server

    def send(self, client, data):
        try:
            client.sendall(data)
        except OSError:
            self.drop(client)

    def drop(self, client):
        received = self.clients.pop(client, None)
        if received is not None:
            received(client, b"")
            client.close()

    def tick(self):
        raise NotImplementedError

    def run(self):
        print(json.dumps({"ready": True}), flush=True)
        start = time.monotonic()
        while True:
            self._serve(start)
            self.time = time.monotonic() - start
            self.tick()

    def _serve(self, start):
        """Answer until the next tick is due."""
        due = start + self.time + self.period
        while True:
            wait = due - time.monotonic()
            ready, _, _ = select.select(
                [*self.listeners, *self.clients, *self.datagrams, sys.stdin], [], [], max(0.0, wait)
            )
            for source in ready:
                if source is sys.stdin:
                    self._order()
                elif source in self.datagrams:
                    self.datagrams[source](source.recv(65536))
                elif source in self.listeners:
                    client, _ = source.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connected, self.clients[client] = self.listeners[source]
                    connected(client)
                elif source in self.clients:
                    self._receive(source)
            if time.monotonic() >= due:
                return

    def _receive(self, client):
        try:
            data = client.recv(65536)
        except OSError:
            data = b""
        if data:
            self.clients[client](client, data)
        else:
            self.drop(client)

    def _order(self):
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            sys.exit(0)  # the test has gone
        self.unread += data
        while b"\n" in self.unread:
            line, self.unread = self.unread.split(b"\n", 1)
            order = json.loads(line)
            for name, value in order.get("set", {}).items():
                if not hasattr(self, name):
                    raise AttributeError(name)
                setattr(self, name, value)
            print(json.dumps({name: getattr(self, name) for name in order.get("get", [])}), flush=True)
