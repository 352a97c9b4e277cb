"""One way to run every node: start-up, a spin loop with absolute deadlines, a clean end.

The executor is polled with `spin_once`, because in rclpy 9 `EventsExecutor.spin()` never returns on
a signal and `MultiThreadedExecutor` loses messages; signals only set a flag, because rclpy's own
handlers invalidate the context before a last stop command can be sent.

Exit status: 0 ended as asked; 1 refused to start, said in one sentence; 3 failed later.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from robot_rl.nodes.process import REFUSED, StopRequest, ask_for_priority, stop_request
from robot_rl.nodes.schedule import Schedule
from robot_rl.nodes.transport import without_shared_memory

FAILED = 3
"""Exit status of a node that failed after it had started."""
_POLL = 0.05
"""s, longest wait of the spin loop: how fast a signal is seen."""


class StartError(ValueError):
    """Why a node cannot start, in one sentence."""


class NodeError(Exception):
    """Why a node ends with status `FAILED`, in one sentence; anything else shows a traceback."""


class Face(Node):
    """A node with a period. Subclasses read parameters and make their topics in `__init__`."""

    period: float = 0.1
    """s between ticks, on the node's clock under `use_sim_time`, else on the steady clock."""
    needs_message_info: bool = False
    """Callbacks that ask who published: the EventsExecutor of rclpy 9.1 cannot serve them."""
    priority: int = 0
    """Real-time priority to ask for, 1 to 99; 0 for none."""
    finished: bool = False
    """Set by a node that has done what it was started for."""
    schedule: Schedule

    def __init__(self, name: str) -> None:
        # Overrides are declared first and taken over by `parameters.read`, which refuses unknown ones.
        super().__init__(name, automatically_declare_parameters_from_overrides=True)

    def now(self) -> float:
        """s, the node's clock: what stamps are measured with."""
        return 1e-9 * self.get_clock().now().nanoseconds

    @property
    def simulated_time(self) -> bool:
        """Whether `/clock` drives this node."""
        return bool(self.get_parameter("use_sim_time").value)

    def set_period(self, period: float) -> None:
        """Tick every `period` s from now on; also while the node runs."""
        self.period = period
        if hasattr(self, "schedule"):
            self.schedule = Schedule(period, self.now() if self.simulated_time else time.monotonic())

    def started(self) -> None:
        """Called once, before the first tick; what it raises is a refusal to start, as from `__init__`."""

    def tick(self) -> None:
        """Called every period."""

    def close(self) -> None:
        """Called once before the end, the context still valid: send the last stop here."""


def run(node_type: type[Face], argv: Sequence[str] | None) -> int:
    """Run one node until it finishes, fails, or SIGINT, SIGTERM or SIGHUP asks it to end."""
    stop = stop_request()
    arguments = sys.argv[1:] if argv is None else list(argv)
    context_made = False
    node: Face | None = None
    try:
        rest = remove_ros_args([sys.argv[0], *arguments])[1:]
        if rest:
            raise StartError(f"unknown arguments {' '.join(rest)}; parameters are set as --ros-args -p name:=value")
        without_shared_memory()
        scheduling = ask_for_priority(node_type.priority)
        rclpy.init(args=[sys.argv[0], *arguments], signal_handler_options=SignalHandlerOptions.NO)
        context_made = True
        node = node_type()  # type: ignore[call-arg]
        node.started()
        node.get_logger().info(f"ready, {scheduling}")
    except (ValueError, OSError, ParameterException, rclpy_implementation.RCLError) as error:
        if not stop.requested:
            sys.stderr.write(f"[FATAL] cannot start: {' '.join(str(error).split())}\n")
        if node is not None:
            _end(node, stop)
        elif context_made:
            rclpy.shutdown()
        return 0 if stop.requested else REFUSED
    try:
        _spin(node, stop)
        status = 0
    except NodeError as error:
        node.get_logger().fatal(str(error))
        status = FAILED
    except Exception:
        node.get_logger().fatal(f"failed: {traceback.format_exc()}")
        status = FAILED
    finally:
        _end(node, stop)
    return status


def _spin(node: Face, stop: StopRequest) -> None:
    executor = _executor(node)
    executor.add_node(node)
    simulated = node.simulated_time
    clock = node.now if simulated else time.monotonic
    node.schedule = Schedule(node.period, clock())
    while not (stop.requested or node.finished) and rclpy.ok():
        # Simulated time only moves by a message, so any message may end the wait.
        executor.spin_once(timeout_sec=_POLL if simulated else min(_POLL, node.schedule.wait(clock())))
        now = clock()
        if simulated and now == 0.0:  # nobody has published /clock yet
            node.schedule = Schedule(node.period, 0.0)
        elif node.schedule.due(now):
            node.tick()


def _executor(node: Face) -> Executor:
    if not node.needs_message_info:
        try:
            from rclpy.experimental.events_executor import EventsExecutor
        except ImportError:  # before ROS 2 Kilted
            return SingleThreadedExecutor()
        return EventsExecutor()
    return SingleThreadedExecutor()


def _end(node: Face, stop: StopRequest) -> None:
    try:
        node.close()
        if stop.requested:
            node.get_logger().info(f"ended on {stop.reason}")
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
