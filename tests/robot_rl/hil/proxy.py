"""A bad network in user space: a TCP proxy that delays, breaks connections and goes silent."""

import contextlib
import random
import select
import socket
import threading
import time


class Proxy:
    """Forwards `port` (its own) to `target`; each connection has two threads.

    drop: probability that a chunk is lost and its connection breaks with it.
    delay: s by which each chunk is late.
    outages: (seconds between outages, seconds of an outage), during which nothing passes in either direction.
    """

    def __init__(self, target, seed=0, drop=0.0, delay=0.0, outages=None):
        self.target, self.drop, self.delay, self.outages = target, drop, delay, outages
        self.random = random.Random(seed)
        self.began = time.monotonic()
        self.broken = self.outage_waits = self.bytes = 0
        self.stopping = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.1)
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while not self.stopping.is_set():
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=1.0)
            except OSError:
                client.close()
                continue
            pair = Pair(client, server)
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self.forward, args=(source, sink, pair), daemon=True)
                thread.start()
                self.threads.append(thread)

    def in_outage(self):
        if self.outages is None:
            return False
        between, length = self.outages
        return (time.monotonic() - self.began) % (between + length) > between

    def forward(self, source, sink, pair):
        with contextlib.suppress(OSError, ValueError):
            while not self.stopping.is_set() and not pair.closed:
                if not select.select([source], [], [], 0.1)[0]:
                    continue
                chunk = source.recv(1 << 16)
                if not chunk:
                    break
                if self.random.random() < self.drop:
                    self.broken += 1
                    break
                if self.in_outage():
                    self.outage_waits += 1
                    while self.in_outage():
                        time.sleep(0.01)
                time.sleep(self.delay)
                sink.sendall(chunk)
                self.bytes += len(chunk)
        pair.close()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(2.0)
        self.listener.close()


class Pair:
    """Both sockets of a connection, closed together."""

    def __init__(self, *sockets):
        self.sockets, self.closed = sockets, False

    def close(self):
        self.closed = True
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
