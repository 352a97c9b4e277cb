"""A ROS node in a thread of the test: what every probe of these tests builds on."""

import threading
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import SetBool, Trigger

from robot_rl.nodes.transport import without_shared_memory


class ListeningNode:
    """Make topics on `node`, then `start`; `statuses` is filled by whoever listens to a supervisor."""

    answer_within = 5.0
    """s that a service may take."""
    armed_within = 15.0
    """s that arming may take."""
    ask_again = 0.1
    """s between two requests to arm."""
    poll = 0.05
    """s that the executor waits for messages at a time."""

    def __init__(self, name, domain, namespace=None):
        without_shared_memory()
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node(name, context=self.context, namespace=namespace)
        self.statuses = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._spin, daemon=True)

    def start(self):
        self.thread.start()

    def _spin(self):
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self.node)
        while not self.stop.is_set():
            executor.spin_once(timeout_sec=self.poll)
        executor.shutdown()

    def wait(self, condition, timeout, what):
        """Wait until `condition()` is truthy and return it; fail with what was expected instead."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < deadline, f"no {what} within {timeout:g} s; {self.known()}"
            time.sleep(0.005)
        return found

    def known(self):
        """What a failed `wait` tells."""
        return f"last status: {self.statuses[-1] if self.statuses else 'none'}"

    def wait_mode(self, mode, timeout, since=0.0):
        """The first status with `mode` that began after `since` s."""
        return self.wait(
            lambda: next((s for s in self.statuses if s.mode == mode and s.stamp >= since), None), timeout, mode
        )

    def modes(self, since=0.0):
        """Modes in order since `since` s."""
        found = [status.mode for status in list(self.statuses) if status.stamp >= since]
        return [mode for index, mode in enumerate(found) if index == 0 or found[index - 1] != mode]

    def call(self, service_type, name, timeout=None, **request):
        """The response of a service, asked again after 2 s: one that was killed seems ready until its lease ends."""
        client = self.node.create_client(service_type, name)
        try:
            deadline = time.monotonic() + (self.answer_within if timeout is None else timeout)
            while not client.service_is_ready():
                assert time.monotonic() < deadline, f"no service {name}"
                time.sleep(0.02)
            futures, asked = [], 0.0
            while not (done := [future for future in futures if future.done()]):
                now = time.monotonic()
                assert now < deadline, f"service {name} does not answer"
                if now > asked + 2.0:
                    futures.append(client.call_async(service_type.Request(**request)))
                    asked = now
                time.sleep(0.01)
            return done[0].result()
        finally:
            self.node.destroy_client(client)

    def trigger(self, name):
        return self.call(Trigger, name)

    def arm(self, timeout=None):
        """Arm as soon as the supervisor agrees."""
        deadline = time.monotonic() + (self.armed_within if timeout is None else timeout)
        while not (answer := self.call(SetBool, "arm", data=True)).success:
            assert time.monotonic() < deadline, f"not armed: {answer.message}"
            time.sleep(self.ask_again)

    def close(self):
        self.stop.set()
        self.thread.join(5.0)
        self.node.destroy_node()
        self.context.try_shutdown()
