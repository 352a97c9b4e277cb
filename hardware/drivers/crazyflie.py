"""Crazyflie by cflib: body rates and thrust, or full states, over Crazyradio, USB or a simulator's UDP.

What the link honestly carries: one state block of 22 bytes at 100 Hz (the firmware's log periods are multiples of
10 ms) and 100 set-points per second. For more put the policy into the firmware (docs/drivers_quadrotors.md).

The firmware watches the set-points by itself: 500 ms without one it levels, after 2 s its motors stop until it is
armed again. Here too nothing arms without `request_arming`, `write` is the stream, and what tumbles or locks is not
talked to until somebody asks again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers import crazyflie_packets as packets
from hardware.drivers.crazyflie_config import CrazyflieConfig
from hardware.drivers.driver import Capabilities, DriverError
from hardware.drivers.quadrotor import ArmingPhase, QuadrotorSample
from hardware.drivers.support import (
    ContextManager,
    RobotClock,
    command_values,
    import_sdk,
    read_settings,
)
from hardware.drivers.thrust_scale import ThrustScale, described_hover
from policies import rotation
from policies.types import BodyRatesThrust, QuadrotorSetpoint, QuadrotorState

_log = logging.getLogger(__name__)
_MANUAL_PROTOCOL = 10
"""CRTP version from which manual set-points are surely known; they came during version 9."""


class CrazyflieDriver(ContextManager):
    """One vehicle."""

    def __init__(self, description: QuadrotorDescription, config: CrazyflieConfig | None = None) -> None:
        """Check the library and the calibration; nothing is opened yet."""
        self.config = config or CrazyflieConfig()
        self._description = description
        self._crtp, self._crazyflie, self._log = (
            import_sdk(name, driver="crazyflie", package="cflib", extra="crazyflie")
            for name in ("cflib.crtp", "cflib.crazyflie", "cflib.crazyflie.log")
        )
        try:
            self._scale = ThrustScale(hover=self.config.hover_throttle or described_hover(description))
        except ValueError as error:
            raise DriverError(f"driver 'crazyflie': {error}; give the setting hover_throttle") from error
        self._cf: Any = None
        self._forget()

    def _forget(self) -> None:
        self._state: tuple[float, QuadrotorState] | None = None
        self._clock = RobotClock()
        self._ticks, self._unwrapped = -1, 0
        self._battery: tuple[float | None, float | None] = (None, None)
        self._info = 0
        self._lost = ""
        self._problem = ""
        self._phase: ArmingPhase = "idle"
        self._asked = self._fed = 0.0
        self._mode = "manual"
        self._blocks: list[Any] = []
        self._landing_end = 0.0

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; complete after `connect`."""
        takes = "QuadrotorSetpoint" if self._mode == "full_state" else "BodyRatesThrust"
        return Capabilities(
            name="crazyflie",
            kind="quadrotor",
            actuators=self._description.interface.actuators,
            commands=(takes,),
            signals=("position", "orientation", "linear_velocity", "angular_velocity"),
            rate_hz=self.config.rate_hz,
            realtime=False,  # the radio's queue may make a sender wait
            simulated=False,
            own_arming=True,
            watchdog_s=1.0 if self.config.link_watchdog else 2.0,
        )

    # Life

    def connect(self) -> None:
        """Open the link, fetch its tables, start the log blocks, wait for a first state. Nothing moves."""
        if self._cf is not None:
            raise DriverError("driver 'crazyflie' is connected already")
        if not self._crtp.CLASSES:
            self._crtp.init_drivers()
        self._forget()
        self._cf = cf = self._crazyflie.Crazyflie()
        tables, parameters, failure = threading.Event(), threading.Event(), [""]

        def failed(uri: str, why: str) -> None:
            failure[0] = why.strip().splitlines()[-1] if why.strip() else "no reason given"
            tables.set()

        cf.connected.add_callback(lambda uri: tables.set())
        cf.fully_connected.add_callback(lambda uri: parameters.set())
        cf.connection_failed.add_callback(failed)
        cf.connection_lost.add_callback(self._on_lost)
        try:
            cf.open_link(self.config.uri)
            self._await(tables, "does not answer")
            if failure[0]:
                raise DriverError(f"Crazyflie at {self.config.uri}: {failure[0]}")
            cf.link_statistics.stop()  # its pings take air time, and its thread would outlive a crash of this process
            self._choose_setpoints(cf, parameters)
            self._start_log(cf)
            end = time.monotonic() + 3.0
            while self._state is None:
                if time.monotonic() > end:
                    raise DriverError(f"Crazyflie at {self.config.uri} sends no state estimate")
                time.sleep(0.01)
        except BaseException:
            self._cf = None
            cf.close_link()
            raise

    def close(self) -> None:
        """Stop; where it lands by itself wait until it has; free the link, which also cuts the motors."""
        cf = self._cf
        if cf is None:
            return
        self._phase = "idle"
        try:
            while time.monotonic() < self._landing_end and self._info & packets.FLYING and not self._lost:
                time.sleep(0.05)
            if not self._lost:
                self._turn_off(cf)
        finally:
            self._cf = None
            cf.close_link()

    def _await(self, event: threading.Event, what: str) -> None:
        if not event.wait(self.config.timeout):
            raise DriverError(f"Crazyflie at {self.config.uri} {what} within {self.config.timeout:g} s")

    def _choose_setpoints(self, cf: Any, parameters: threading.Event) -> None:
        self._mode = self.config.setpoints
        version = cf.platform.get_protocol_version()
        if self._mode == "auto":
            self._mode = "manual" if version >= _MANUAL_PROTOCOL else "rpyt"
        if self._mode == "rpyt":
            self._await(parameters, "does not send its parameters")
            for axis in ("Roll", "Pitch", "Yaw"):
                cf.param.set_value(f"flightmode.stabMode{axis}", 0)  # rates, not angles

    def _start_log(self, cf: Any) -> None:
        period = 10 * max(1, round(100.0 / self.config.rate_hz))
        known = [cf.log.toc.get_element_by_complete_name(name) is not None for name, _ in packets.STATE_VARIABLES]
        if not all(known):
            raise DriverError("this firmware has no stateEstimateZ group: update it")
        wanted = ((packets.STATE_VARIABLES, period, self._on_state), (packets.STATUS_VARIABLES, 100, self._on_status))
        for variables, block_period, callback in wanted:
            block = self._log.LogConfig(callback.__name__, block_period)
            for name, kind in variables:
                if cf.log.toc.get_element_by_complete_name(name) is not None:
                    block.add_variable(name, kind)
            cf.log.add_config(block)
            block.data_received_cb.add_callback(callback)
            block.start()
            self._blocks.append(block)

    # Samples and commands

    def read(self) -> QuadrotorSample | None:
        """The newest sample; never waits."""
        self._connected()
        known, info = self._state, self._info
        if known is None:
            return None
        stamp, state = known
        age = time.monotonic() - stamp
        silent = f"no state for {age:.1f} s: check the radio" if age > self.config.status_timeout else ""
        words = (self._lost, silent, self._problem, packets.fault_of(info))
        return QuadrotorSample(
            stamp=stamp,
            state=state,
            attitude_stamp=stamp,
            orientation=state.orientation,
            angular_velocity=state.angular_velocity,
            battery_voltage=self._battery[0],
            battery_remaining=self._battery[1],
            armed=bool(info & packets.ARMED),
            accepting=self._phase == "done",
            fault="; ".join(word for word in words if word),
            details={"supervisor": info, "setpoints": self._mode, "clock": "receipt"},
        )

    def write(self, command: BodyRatesThrust | QuadrotorSetpoint) -> None:
        """Send one set-point if it is wanted to follow; zero thrust while it is not armed."""
        cf = self._connected()
        if self._lost:
            raise DriverError(self._lost)
        send = self._prepared(cf, command)
        self._watch(time.monotonic())
        if self._phase not in ("arming", "done"):
            return
        if self.config.link_watchdog and time.monotonic() - self._fed > 0.25:
            self._fed = time.monotonic()
            cf.supervisor.send_emergency_stop_watchdog()
        if self._phase == "done":
            send()
        else:
            self._send_idle(cf)

    def _send_idle(self, cf: Any) -> None:
        if self._mode == "rpyt":
            cf.commander.send_setpoint(0.0, 0.0, 0.0, 0)  # zero thrust also unlocks the old commander
        else:
            cf.commander.send_stop_setpoint()

    def _prepared(self, cf: Any, command: BodyRatesThrust | QuadrotorSetpoint) -> Any:
        """A function that sends this command; the command is checked now."""
        if isinstance(command, QuadrotorSetpoint) and self._mode == "full_state":
            parts = [
                command_values("crazyflie", value, 3)
                for value in (command.position, command.velocity, command.acceleration)
            ]
            if max(float(np.max(np.abs(part))) for part in parts) > 32.7:
                raise DriverError(f"set-point {command} is beyond 32.7 m, m/s or m/s², the packet's range")
            w, x, y, z = rotation.from_yaw(np.asarray(command.yaw, dtype=np.float64))
            return lambda: cf.commander.send_full_state_setpoint(*parts, [x, y, z, w], 0.0, 0.0, 0.0)
        if not isinstance(command, BodyRatesThrust) or self._mode == "full_state":
            raise DriverError(f"driver 'crazyflie' takes {self.capabilities.commands}, not {type(command).__name__}")
        roll, pitch, yaw = (math.degrees(rate) for rate in command_values("crazyflie", command.rates, 3))
        thrust = float(command_values("crazyflie", np.reshape(command.thrust, (1,)), 1)[0])
        throttle = self._scale.throttle(thrust)
        if thrust <= 0.0:  # motors off is meant; the least that a manual set-point can say is 15 % of full thrust
            return lambda: self._send_idle(cf)
        if self._mode == "rpyt":
            raw = min(int(throttle * packets.FULL_THRUST), packets.HIGHEST_THRUST)
            return lambda: cf.commander.send_setpoint(roll, pitch, -yaw, raw)
        return lambda: cf.commander.send_setpoint_manual(roll, pitch, yaw, packets.thrust_percentage(throttle), True)

    # What a person asks

    def request_arming(self) -> None:
        """Ask it to arm. Go on calling `write`; watch `arming` and `arming_problem`."""
        cf = self._connected()
        self._problem, self._landing_end = "", 0.0
        self._phase, self._asked = "arming", time.monotonic()
        if not self._info & packets.ARMED:
            cf.supervisor.send_arming_request(True)

    @property
    def arming(self) -> ArmingPhase:
        """Where the request is; `done`: it follows."""
        return self._phase

    @property
    def arming_problem(self) -> str:
        """Why it failed or ended, in words."""
        return self._problem

    def stop(self) -> None:
        """Motors off, or the firmware's landing (`on_stop`); disarm."""
        cf, flying = self._cf, bool(self._info & packets.FLYING)
        self._phase = "idle"
        if cf is None or self._lost or self._landing_end > time.monotonic():
            return
        if self.config.on_stop == "land" and flying and self._state is not None:
            duration = max(1.0, float(self._state[1].position[2]) / self.config.landing_speed)
            cf.commander.send_notify_setpoint_stop()
            cf.high_level_commander.land(0.0, duration)
            self._landing_end = time.monotonic() + duration + 2.0
        else:
            self._turn_off(cf)

    def kill(self) -> None:
        """Motors off now and locked until it is restarted."""
        cf = self._connected()
        self._phase = "idle"
        for _ in range(3):  # one of three arrives
            cf.supervisor.send_emergency_stop()

    def _turn_off(self, cf: Any) -> None:
        for _ in range(3):
            cf.commander.send_stop_setpoint()
        if self._info & packets.ARMED:
            cf.supervisor.send_arming_request(False)

    def _watch(self, now: float) -> None:
        """Go on with a request, or end it."""
        info, fault = self._info, packets.fault_of(self._info)
        if self._phase == "arming":
            if fault:
                self._phase, self._problem = "failed", f"arming: {fault}"
            elif info & packets.ARMED and now - self._asked > 0.3:  # idle long enough to unlock and spin up
                self._phase = "done"
            elif now - self._asked > 3.0:
                why = "it says that it cannot be armed" if not info & packets.ARMABLE else "no effect within 3 s"
                self._phase, self._problem = "failed", f"arming: {why}"
        elif self._phase == "done" and (fault or not info & packets.ARMED):
            self._phase = "idle"
            self._problem = f"{fault or 'it disarmed by itself'}: nothing is sent until arming is requested again"

    # In cflib's thread

    def _on_state(self, ticks: int, values: Mapping[str, float], block: Any) -> None:
        received = time.monotonic()
        step = ticks - self._ticks & 0xFFFFFF if self._ticks >= 0 else 0
        if step >= 1 << 23:
            return  # overtaken by a newer one
        self._ticks, self._unwrapped = ticks, self._unwrapped + step
        self._state = (self._clock.stamp(1e-3 * self._unwrapped, received), packets.read_state(values))

    def _on_status(self, ticks: int, values: Mapping[str, float], block: Any) -> None:
        level = values.get("pm.batteryLevel")
        self._battery = (values.get("pm.vbat"), None if level is None else 0.01 * level)
        self._info = int(values.get("supervisor.info", 0))

    def _on_lost(self, uri: str, why: str) -> None:
        self._lost = f"the link to {uri} is lost: {why.strip().splitlines()[0] if why.strip() else 'no reason given'}"
        _log.warning(self._lost)

    def _connected(self) -> Any:
        if self._cf is None:
            raise DriverError("driver 'crazyflie' is not connected: call connect() first")
        return self._cf


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> CrazyflieDriver:
    """A driver of a Crazyflie, not yet connected.

    Raises:
        DriverError: The description is an arm's, a setting is wrong, or cflib is missing.
    """
    if not isinstance(description, QuadrotorDescription):
        raise DriverError("driver 'crazyflie' drives quadrotors; the description is an arm's")
    return CrazyflieDriver(description, read_settings("crazyflie", CrazyflieConfig, settings))
