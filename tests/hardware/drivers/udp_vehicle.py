"""What the stand-ins of quadrotors share: a loopback UDP socket and a thread that speaks through it."""

import socket
import threading


class UdpVehicle:
    """`with vehicle:` runs `_run` in a thread until `_end` is set; what it noted in `errors` fails the test."""

    def __init__(self):
        self.errors = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join(2.0)
        self._socket.close()
        assert not self.errors, self.errors
