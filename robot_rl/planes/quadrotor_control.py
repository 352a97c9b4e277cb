"""The control process of a quadrotor: driver, supervisor, driver; it looks 500 times a second.

No ROS, no network of its own, no file and no logging in the loop: what it has to say it writes into shared memory. It
owns the safety state (`hardware.safety.quadrotor`). A command of the policy goes to the vehicle in the tick that finds
it; where none comes, the supervisor's own goes out at the policy's rate.

When it is told to end, or its parent dies, a vehicle with a safety of its own lands by its own means. Another one has
its motors turned off on the ground, and hears nothing more in the air: its watchdog brings it down.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from hardware.controllers.geometric import GeometricConfig
from hardware.descriptions import load_quadrotor
from hardware.drivers.driver import DriverError
from hardware.drivers.quadrotor import QuadrotorDriver, QuadrotorSample
from hardware.drivers.registry import open_driver
from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.scheduling import become_realtime
from hardware.realtime.seqlock import SlotReader, SlotWriter
from hardware.safety.quadrotor import QuadrotorSupervisor
from hardware.safety.quadrotor_config import SupervisorConfig, SupervisorOutput
from hardware.safety.quadrotor_fallback import FallbackConfig
from hardware.safety.rules import read_rule
from policies.types import QuadrotorState
from robot_rl.flight_policy import load_flight_policy
from robot_rl.nodes.process import StopRequest
from robot_rl.planes import quadrotor_records, records
from robot_rl.planes.board import Board
from robot_rl.planes.face_watch import FaceWatch
from robot_rl.planes.quadrotor_settings import QuadrotorControlConfig
from robot_rl.planes.quadrotor_vehicle import Vehicle
from robot_rl.rebuild import from_json

_GROUNDED = ("disarmed", "fault")
_FOLLOW = {"active": "command", "disarmed": "brake", "fault": "brake"}
"""What the motors do in a mode; `hold`, the fallback's, in every other one."""
_LATE = 1.3
"""Periods after a command of the policy in which the next one is waited for before the supervisor looks by itself."""
_VEHICLE_PERIOD = 0.05
"""s between two records of the vehicle; changes are told at once."""


def make_supervisor(config: QuadrotorControlConfig) -> QuadrotorSupervisor:
    """The supervisor that a control process of this config has.

    Raises:
        ValueError: The bundle does not fit the robot, or a rule cannot be read.
    """
    description = load_quadrotor(config.robot)
    manifest = load_flight_policy(config.policy, description.interface, config.robot).manifest
    return QuadrotorSupervisor(
        description,
        manifest.envelope,
        manifest.control_rate_hz,
        SupervisorConfig(
            ground_height=config.ground_height,
            rules=tuple(read_rule(text) for text in config.rules),
            fallback=FallbackConfig(geometric=GeometricConfig() if config.fallback == "geometric" else None),
        ),
    )


class QuadrotorControl:
    """One quadrotor between its driver and its slots; one `tick` per period of the loop."""

    def __init__(
        self, config: QuadrotorControlConfig, core: QuadrotorSupervisor, vehicle: Vehicle, loop: DeadlineLoop
    ) -> None:
        """Attach to the slots; the driver is connected."""
        self.config, self.core, self.vehicle = config, core, vehicle
        folder = Path(config.folder)
        # As the supervisor was made for: three periods of the policy are its limit.
        self._period = core.command_limit / core.envelope.command_age_periods
        self.face = FaceWatch(folder, config.face_timeout)
        self.board = Board(folder, loop, self._report)
        layouts = quadrotor_records.LAYOUTS
        self._command = SlotReader(folder, "command", layouts["command"])
        self._command.last_sequence = self._command.sequence  # what was said to an earlier one is not said to this one
        self._state, self._motors, self._told = (
            SlotWriter(folder, name, layouts[name]) for name in ("state", "motors", "vehicle")
        )
        self._state_record, self._motors_record, self._vehicle_record = (
            records.new(slot.dtype) for slot in (self._state, self._motors, self._told)
        )
        self._refusals = dict.fromkeys(("odometry", "inertial sensor", "command"), "")
        self._counts = dict.fromkeys(self._refusals, 0)
        self._next_output = -math.inf
        self._next_told = -math.inf
        self._said: tuple[Any, ...] = ()
        self._silent, self._airborne = True, False
        self._words, self._untold, self._ended = "", False, False

    # The loop

    def tick(self, now: float) -> None:
        """Read, decide, write; an error of the driver is the vehicle's trouble, not the end of this process."""
        if (sample := self.vehicle.read()) is not None:
            self._take_sample(sample, now)
        asked = self._take_requests(now)
        fresh = self._take_command(now)
        if self.vehicle.own_arming:
            try:
                self._follow_vehicle(now)
            except DriverError as error:
                self.vehicle.unwritten = str(error)
        if fresh or asked or now >= self._next_output:
            self._output(now, fresh)
        self._tell(now)

    def stop(self, why: str) -> None:
        """The last thing that is done."""
        try:
            # Zeros in the air are a fall, and silence is the vehicle's own failsafe.
            if self.vehicle.own_arming:
                self.vehicle.release()
            elif not self._silent and not (self._is_flying and self._airborne):
                self.vehicle.driver.stop()
        finally:
            self.board.stopped(why)

    def close(self) -> None:
        """Let go of the memory."""
        for slot in (self._command, self._state, self._motors, self._told, self.face, self.board):
            slot.close()

    # In

    def _take_sample(self, sample: QuadrotorSample, now: float) -> None:
        before_state, before_attitude = self._state_record["stamp"], self._state_record["attitude_stamp"]
        if sample.state is not None and sample.stamp != before_state:
            self._note("odometry", self.core.observe_state(sample.state, sample.stamp, now))
        if sample.orientation is not None and sample.attitude_stamp != before_attitude:
            rates = np.zeros(3) if sample.angular_velocity is None else sample.angular_velocity
            refusal = self.core.observe_attitude(sample.orientation, rates, sample.attitude_stamp, now)
            self._note("inertial sensor", refusal)
        if sample.stamp != before_state or sample.attitude_stamp != before_attitude:
            self._state.write(quadrotor_records.fill_state(self._state_record, sample))

    def _take_command(self, now: float) -> bool:
        """Whether the policy has said something new that is believed."""
        dead = self.face.problem(now)
        reading = self._command.read_new()
        if dead:
            self.core.command_input.refusal = f"commands are not taken: {dead}"
            return False
        if reading is None:
            return False
        record = reading.record
        refusal = self.core.observe_command(record["values"], float(record["stamp"]), now, "policy")
        self._note("command", refusal)
        if not refusal:
            self.board.record["command_sequence"] = reading.sequence
            self.board.record["command_source"] = b"policy"
        return not refusal

    def _note(self, what: str, refusal: str) -> None:
        if refusal:
            self._refusals[what] = refusal
            self._counts[what] += 1

    # What people ask

    def _take_requests(self, now: float) -> bool:
        request = self.face.take()
        if request is None:
            return False
        number, name, emergency = request
        try:
            if emergency:
                self._emergency(now)
            granted, why = self._answer(name, now)
        except DriverError as error:
            granted, why = False, str(error)
        self.board.record["driver_fault"] = records.encode(self.vehicle.problem)
        self.board.answer(number, granted, why, now)
        return True

    def _answer(self, name: str, now: float) -> tuple[bool, str]:
        if name == "arm":
            if dead := self.face.problem(now):
                return False, dead
            return self._arm_vehicle(now) if self.vehicle.own_arming else self.core.arm(now)
        if name == "disarm":
            self._silent = False
            granted, why = self.core.disarm(now)
            self.vehicle.release()
            return granted, why
        if name == "recover":
            return self.core.recover(now)
        return name == "estop", "emergency stop: motors off; call recover, then arm"

    def _emergency(self, now: float) -> None:
        self._silent = False
        self.core.estop(now)
        self.vehicle.kill()

    def _arm_vehicle(self, now: float) -> tuple[bool, str]:
        """Ask a vehicle with a safety of its own, which takes seconds; true once it follows and the policy flies it."""
        vehicle = self.vehicle
        later = "it takes some seconds; ask again, or watch supervisor/status"
        if vehicle.waiting:
            return False, f"{self._words}: {later}"
        if self._is_flying and vehicle.following:
            return True, "armed; the vehicle follows"
        if self._untold:
            self._untold = False
            return False, self._words
        if reasons := [*self.core.arming_blockers(now), *filter(None, [vehicle.trouble])]:
            return False, "; ".join(reasons)
        if vehicle.armed and self._airborne:
            self.core.arm(now)  # taken over in the air: it is to be told how to fly from the first moment on
        vehicle.ask(now)
        self._silent = False  # it arms on a stream of set-points, wherever it believes the ground to be
        self._words, self._ended = "the vehicle is asked to arm", False
        return False, f"{self._words}: {later}"

    def _follow_vehicle(self, now: float) -> None:
        vehicle = self.vehicle
        progress, words = vehicle.progress(now)
        if progress == "waiting":
            self._words = f"the vehicle is arming: {words}"
        elif progress == "following":
            granted, text = (True, "") if self._is_flying else self.core.arm(now)
            self._words, self._untold = "" if granted else text, not granted
            if not granted:
                vehicle.release()
        elif progress == "refused":
            self._words, self._untold, self._ended = words, True, True
            self.core.disarm(now)
        elif self._is_flying and not vehicle.following:
            self._words, self._ended = "the vehicle does not follow any more", True
            self.core.disarm(now)
        elif self._ended:
            self._words = vehicle.problem or self._words  # it says why a moment later

    # Out

    @property
    def _is_flying(self) -> bool:
        return self.core.mode not in _GROUNDED

    @property
    def _may_fly(self) -> bool:
        """Whether zeros may be a fall: a vehicle with a safety of its own was handed over, and is not handed back."""
        return self.vehicle.own_arming and self.vehicle.driver.arming == "done"

    def _output(self, now: float, fresh: bool) -> None:
        was_flying = self._was_flying
        output = self.core.tick(now)
        self._next_output = now + (_LATE if fresh else 1.0) * self._period
        grounded = output.mode in _GROUNDED
        self._was_flying, self._airborne = not grounded, not output.landed
        # Nothing is said to motors of which it is not known that they may be off: this process has begun in the air.
        self._silent = self._silent and grounded and not output.landed
        try:
            if grounded and was_flying:
                self.vehicle.release()
            if not (grounded and (self._silent or self._may_fly)):
                self._send(output, now)
        except DriverError as error:
            self.vehicle.unwritten = str(error)
        if output.mode == "active":
            self.board.state_age.record(output.state_age)
            self.board.command_age.record(output.command_age)
        self._newest = output

    _was_flying = False
    _newest: SupervisorOutput | None = None

    def _send(self, output: SupervisorOutput, now: float) -> None:
        if self.vehicle.write(output.motor_speeds, now):
            record = self._motors_record
            record["stamp"], record["values"], record["mode"] = now, output.motor_speeds, output.mode.encode()
            self._motors.write(record)

    def _tell(self, now: float) -> None:
        output = self._newest
        if output is None:
            return
        cause = output.cause
        if output.mode == "disarmed" and self._words:
            cause = f"{cause}; {self._words}"
        record = self.board.record
        record["follow"], record["blend"] = _FOLLOW.get(output.mode, "hold").encode(), float(output.mode == "active")
        record["state_age"], record["command_age"] = output.state_age, output.command_age
        if now >= self._next_told:
            record["driver_fault"] = records.encode(self.vehicle.problem)
        self.board.say(output.mode, cause, output.latched, now)
        self._tell_vehicle(now)

    def _tell_vehicle(self, now: float) -> None:
        vehicle, record = self.vehicle, self._vehicle_record
        said = (vehicle.driver.arming, vehicle.armed, vehicle.following, vehicle.requests, self._airborne)
        if said == self._said and now < self._next_told:
            return
        self._said, self._next_told = said, now + _VEHICLE_PERIOD
        record["arming"], record["armed"], record["following"], record["requests"], record["airborne"] = (
            said[0].encode(), *said[1:]
        )  # fmt: skip
        record["driver"], record["problem"] = vehicle.name.encode(), records.encode(vehicle.problem)
        if (sample := vehicle.sample) is not None:
            details = {"battery voltage": sample.battery_voltage, "battery remaining": sample.battery_remaining}
            text = json.dumps({**details, **sample.details}, default=str).encode()
            record["json"] = text if len(text) <= 2048 else b"{}"
        self._told.write(record)

    def _report(self) -> Mapping[str, Any]:
        """Counters of the safety layer, and why arming would be refused."""
        blockers: list[str] = []
        if self._newest is not None and self._newest.mode == "disarmed":
            blockers = [*self.core.arming_blockers(self.core.time), *filter(None, [self.vehicle.trouble])]
        return {
            "supervisor": dict(self.core.counters),
            "arming": f"refused: {'; '.join(blockers)}" if blockers else "possible",
            **{f"last refused {what}": text for what, text in self._refusals.items()},
            **{f"{what} refused": count for what, count in self._counts.items()},
        }


def rehearse(core: QuadrotorSupervisor) -> None:
    """Fly on a made-up state, then without commands, then without state.

    What a library does at its first call only is done before the flight.
    """
    level, still = np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3)
    period = core.command_limit / core.envelope.command_age_periods
    middle = np.mean(np.asarray(core.envelope.geofence), axis=1)
    steps = math.ceil(core.envelope.state_age[2] / period) + 10
    for step in range(3 * steps):
        now = step * period
        seen, heard = step < 2 * steps, step < steps
        if seen:
            core.observe_state(QuadrotorState(middle, level, still, still), now, now)
        core.observe_attitude(level, still, now, now)
        if heard:
            core.observe_command(np.zeros(4), now, now, "rehearsal")
        core.tick(now)
        if step == 2:
            core.arm(now)


def main(argument: str, stop: StopRequest) -> int:
    """Fly until told to end; `argument` is a `QuadrotorControlConfig` as JSON."""
    config = from_json(QuadrotorControlConfig, argument)
    core = make_supervisor(config)
    rehearse(make_supervisor(config))
    description = load_quadrotor(config.robot)
    driver = cast(QuadrotorDriver, open_driver(config.driver, description, config.driver_settings))
    driver.connect()
    try:
        vehicle = Vehicle(driver, description, config.rates, config.arming_timeout)
        loop = DeadlineLoop(config.rate_hz)
        control = QuadrotorControl(config, core, vehicle, loop)
        why = "an error inside the control process, see its log"
        try:
            words = become_realtime(config.realtime).text
            blocks = not driver.capabilities.realtime
            control.board.say_realtime(f"{words}; driver {config.driver!r} may block" if blocks else words)
            while not stop.requested:
                control.tick(loop.wait())
            why = f"told to end by {stop.reason}"
        finally:
            control.stop(why)
            control.close()
    finally:
        driver.close()
    return 0
