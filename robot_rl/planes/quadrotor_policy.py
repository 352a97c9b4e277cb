"""The policy process of a quadrotor: from the newest state to rotor speeds, at the policy's rate.

It may die, hang or be replaced at any time: the control process sees nothing of that but the age of its commands. It
always commands, also before take-off: arming waits for commands, and its memory begins anew when the vehicle is handed
over.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hardware.descriptions import load_quadrotor
from hardware.drivers.memory_quadrotor import state_of
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.scheduling import become_realtime
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies.types import QuadrotorSetpoint, QuadrotorState
from robot_rl.control import FlightPolicy, PolicyRunner, RunnerConfig, RunnerOutput
from robot_rl.flight_policy import load_flight_policy
from robot_rl.nodes.process import StopRequest
from robot_rl.planes import quadrotor_records, records
from robot_rl.planes.quadrotor_settings import QuadrotorPolicyConfig
from robot_rl.rebuild import from_json


class QuadrotorPolicy:
    """A loaded policy between its slots; one `tick` per control period."""

    def __init__(self, policy: FlightPolicy, config: QuadrotorPolicyConfig) -> None:
        """Attach to the slots; nothing is written before the first tick."""
        manifest = policy.manifest
        self.name, self.rate_hz = config.policy, float(manifest.control_rate_hz)
        self.runner = PolicyRunner(
            policy,
            RunnerConfig(
                control_rate_hz=self.rate_hz,
                max_state_age=float(manifest.envelope.state_age[0]),
                max_setpoint_age=config.max_setpoint_age,
            ),
        )
        folder, layouts = Path(config.folder), quadrotor_records.LAYOUTS
        self._state, self._setpoint, self._status = (
            SlotReader(folder, name, layouts[name]) for name in ("state", "setpoint", "status")
        )
        self._command, self._action, self._own = (
            SlotWriter(folder, name, layouts[name]) for name in ("command", "action", "policy")
        )
        self._command_record, self._action_record = (records.new(layouts[name]) for name in ("command", "action"))
        self._mode = ""
        self._refusal = ""
        self._stamp = 0.0
        self.newest: RunnerOutput | None = None
        """What the last tick gave."""
        # What a library does at the first step only is done before the flight.
        still = np.zeros(3)
        level = QuadrotorState(still, np.array([1.0, 0.0, 0.0, 0.0]), still, still)
        policy.step(level, QuadrotorSetpoint(still, still, still, np.asarray(0.0)))
        policy.reset()

    def tick(self, now: float) -> None:
        """One control period."""
        if not self.runner.active:
            self.runner.activate(now)
        self._hand_over(now)
        self._observe(now)
        output = self.newest = self.runner.tick(now)
        if output.command is not None:
            self.send(np.asarray(output.command.values, dtype=np.float64), output.stamp)
        if output.action is not None:
            action = np.asarray(output.action, dtype=np.float32).ravel()[: quadrotor_records.MAX_ACTION]
            self._action_record["size"] = action.size
            self._action_record["values"][: action.size] = action
            self._action.write(self._action_record, output.stamp)

    def send(self, values: np.ndarray, stamp: float) -> None:
        """Give rotor speeds (4,) rad/s to the control process."""
        self._command_record["values"], self._command_record["stamp"] = values, stamp
        self._command.write(self._command_record)

    def publish(self, loop: DeadlineLoop, realtime: str) -> None:
        """Say how it goes."""
        record, counters = records.new(records.POLICY), self.runner.counters
        reason = "" if self.newest is None else self.newest.reason
        record["bundle"], record["rate_hz"] = self.name.encode()[:128], self.rate_hz
        record["ready"], record["active"], record["reason"] = True, True, records.encode(reason or self._refusal)
        record["ticks"], record["commands"], record["resets"] = loop.ticks, counters["commands"], counters["resets"]
        record["lost_periods"], record["realtime"] = loop.lost_periods, records.encode(realtime)
        records.fill_histogram(record, "inference", self.runner.inference)
        self._own.write(record)

    def close(self) -> None:
        """Let go of the memory."""
        for slot in (self._state, self._setpoint, self._status, self._command, self._action, self._own):
            slot.close()

    # Inside

    def _hand_over(self, now: float) -> None:
        """Begin with a fresh memory whenever the vehicle is handed over."""
        reading = self._status.read_new()
        if reading is None:
            return
        mode = records.text(reading.record["mode"])
        if mode == "active" and self._mode != "active":
            self.runner.activate(now)
        self._mode = mode

    def _observe(self, now: float) -> None:
        state, setpoint = self._state.read_new(), self._setpoint.read_new()
        self._refusal = ""
        # A record comes with every sample of the inertial sensor, too.
        if state is not None and state.record["has_state"] and state.record["stamp"] != self._stamp:
            self._stamp = float(state.record["stamp"])
            self._refusal = self.runner.observe_state(state_of(state.record), self._stamp, now)
        if setpoint is not None:
            given = quadrotor_records.to_setpoint(setpoint.record)
            self._refusal = self.runner.observe_setpoint(given, float(setpoint.record["stamp"]), now) or self._refusal


def run_policy(config: QuadrotorPolicyConfig, policy: QuadrotorPolicy, stop: StopRequest) -> None:
    """Command until told to end."""
    try:
        granted = become_realtime(config.realtime)
        loop = DeadlineLoop(policy.rate_hz)
        while True:
            now = loop.wait()
            if stop.requested:  # told to end while it waited: no command more
                break
            policy.tick(now)
            policy.publish(loop, granted.text)
    finally:
        policy.close()


def open_policy(config: QuadrotorPolicyConfig) -> FlightPolicy:
    """The policy of a config, checked against the robot.

    Raises:
        ValueError: It does not fit; the sentence says why.
    """
    interface = load_quadrotor(config.robot).interface
    return load_flight_policy(config.policy, interface, config.robot)


def main(argument: str, stop: StopRequest) -> int:
    """Run the policy until told to end; `argument` is a `QuadrotorPolicyConfig` as JSON."""
    config = from_json(QuadrotorPolicyConfig, argument)
    run_policy(config, QuadrotorPolicy(open_policy(config), config), stop)
    return 0
