"""PX4 and ArduPilot by MAVLink: body rates and thrust from a companion computer.

Rules that make it safe:

- Nothing here arms by itself: `request_arming` does, and it takes a stream of set-points, the mode and the arming one
  after the other. Until the vehicle says that it is armed, zero rates and zero thrust are sent, whatever is written.
- The stream of set-points is `write` itself: no thread repeats the last one. Who stops writing lets the autopilot's
  own failsafe act (`Capabilities.watchdog_s`; docs/drivers_quadrotors.md names its parameters).
- When the vehicle leaves the mode by itself (pilot, failsafe) nothing is sent any more until the next request: taking
  it back is a decision of a person.
- `stop` lands and disarms; `kill` turns the motors off in the air.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hardware.descriptions import ArmDescription, QuadrotorDescription
from hardware.drivers import frames
from hardware.drivers.driver import Capabilities, DriverError
from hardware.drivers.mavlink_arming import ARM, SET_MODE, Arming, ArmingConfig
from hardware.drivers.mavlink_config import MavlinkConfig
from hardware.drivers.mavlink_link import MavlinkLink
from hardware.drivers.mavlink_mixer import mixer_controls
from hardware.drivers.mavlink_state import VehicleState, text_of
from hardware.drivers.mavlink_wire import open_wire
from hardware.drivers.quadrotor import ArmingPhase, QuadrotorSample
from hardware.drivers.support import ContextManager, command_values, import_sdk, read_settings
from hardware.drivers.thrust_scale import ThrustScale
from policies.types import BodyRatesThrust, MotorSpeeds

_SET_MESSAGE_INTERVAL, _FORCE = 511, 21196.0
_MESSAGES = {
    "LOCAL_POSITION_NED": 32,
    "ATTITUDE_QUATERNION": 31,
    "ODOMETRY": 331,
    "SYS_STATUS": 1,
    "EXTENDED_SYS_STATE": 245,
}
_LATE_ARMING = 3.0
"""s after `stop` in which a vehicle that arms is still stopped: the request may have been on its way."""
_IGNORE_ATTITUDE = 128
"""ATTITUDE_TARGET_TYPEMASK: body rates and thrust count."""


class MavlinkDriver(ContextManager):
    """One vehicle."""

    def __init__(self, description: QuadrotorDescription, config: MavlinkConfig | None = None) -> None:
        """Check the library; nothing is opened yet."""
        self.config = config or MavlinkConfig()
        self._description = description
        self._dialect = import_sdk(
            "pymavlink.dialects.v20.ardupilotmega", driver="mavlink", package="pymavlink", extra="mavlink"
        )
        self._link: MavlinkLink | None = None
        self._arming = Arming(ArmingConfig())
        self._scale: ThrustScale | None = None
        self._modes: tuple[str, ...] = ()
        self._watchdog = 1.0
        self._realtime = False
        self._problem = ""
        self._stopping = self._landing_seen = False
        self._stopped_at = self._asked_to_stop = 0.0
        self._deciding = threading.Lock()
        """Held while requests are made and unmade, so that no late one follows a `stop` or `kill`."""

    @property
    def capabilities(self) -> Capabilities:
        """What the vehicle can do; complete after `connect`."""
        mixer = ("MotorSpeeds",) if self.config.output == "mixer" else ()
        return Capabilities(
            name="mavlink",
            kind="quadrotor",
            actuators=self._description.interface.actuators,
            commands=("BodyRatesThrust", *mixer),
            signals=("position", "orientation", "linear_velocity", "angular_velocity"),
            rate_hz=self.config.rate_hz,
            realtime=self._realtime,
            simulated=False,
            own_arming=True,
            watchdog_s=self._watchdog,
        )

    @property
    def thrust_scale(self) -> ThrustScale:
        """m/s² ↔ throttle, as calibrated in `connect`."""
        if self._scale is None:
            raise DriverError("driver 'mavlink' is not connected: call connect() first")
        return self._scale

    # Life

    def connect(self) -> None:
        """Hear the vehicle, ask for its messages and parameters, wait for a first attitude. Nothing moves."""
        if self._link is not None:
            raise DriverError("driver 'mavlink' is connected already")
        wire = open_wire(self.config.connection)
        self._realtime = wire.realtime
        source = (self.config.source_system, self.config.source_component)
        self._arming, self._problem, self._stopping = Arming(ArmingConfig()), "", False
        self._link = MavlinkLink(self._dialect, wire, source, self.config.system, self._tick, self._heard)
        try:
            self._get_ready(self._link)
        except BaseException:
            self._link.close()
            self._link = None
            raise

    def close(self) -> None:
        """Stop; wait up to 2 s until the vehicle has confirmed; free the link."""
        link, self._link = self._link, None
        if link is None:
            return
        ours = self._stopping or self._arming.phase not in ("idle", "failed")  # not a pilot's
        self._arming.cancel()
        state = link.state
        try:
            end = time.monotonic() + 2.0
            while ours and state is not None and state.armed and not link.error and time.monotonic() < end:
                if state.in_mode((state.autopilot.land,)):
                    break
                with self._deciding:
                    self._ask_to_stop(link, time.monotonic())
                time.sleep(0.02)
        finally:
            link.close()

    def _get_ready(self, link: MavlinkLink) -> None:
        config = self.config
        self._wait(link, lambda: link.state is not None, f"no heartbeat of an autopilot on {config.connection}")
        assert link.state is not None
        autopilot = link.state.autopilot
        self._modes = (config.mode,) if config.mode else autopilot.offboard
        if config.mode and config.mode not in autopilot.offboard:
            raise DriverError(f"mode {config.mode!r} follows no set-points on {autopilot.name}: {autopilot.offboard}")
        if config.output == "mixer" and not autopilot.actuators:
            raise DriverError(f"{autopilot.name} takes no actuator set-points from outside: output=rates")
        wanted = {"SYS_STATUS": 2.0, "EXTENDED_SYS_STATE": 5.0}
        state = ("ODOMETRY",) if config.state == "odometry" else ("LOCAL_POSITION_NED", "ATTITUDE_QUATERNION")
        wanted.update(dict.fromkeys(state, config.rate_hz))
        hover = config.hover_throttle or self._parameter(link, autopilot.hover_parameter, config.timeout)
        if hover is None:
            raise DriverError(f"{autopilot.hover_parameter} cannot be read: give the setting hover_throttle")
        for name, (bit, why) in autopilot.required_bits.items():
            value = self._parameter(link, name, config.timeout)
            if value is None or not int(value) & bit:
                raise DriverError(f"parameter {name} of the vehicle is {value}; it needs {bit}: {why}")
        loss = self._parameter(link, autopilot.loss_parameter, 1.0)
        self._watchdog = autopilot.loss_default if loss is None else loss
        try:
            self._scale = ThrustScale(hover=hover, square=config.thrust_square, upper=config.max_throttle)
        except ValueError as error:
            raise DriverError(f"{autopilot.hover_parameter}: {error}") from error

        def started() -> bool:
            for name, rate in wanted.items():
                link.command(_SET_MESSAGE_INTERVAL, _MESSAGES[name], 1e6 / rate)
            return self.read() is not None

        self._wait(link, started, f"no {state[-1]} came though it was asked for", period=0.25)

    def _wait(self, link: MavlinkLink, done: Callable[[], bool], what: str, period: float = 0.02) -> None:
        end = time.monotonic() + self.config.timeout
        while not done():
            if link.error:
                raise DriverError(link.error)
            if time.monotonic() > end:
                raise DriverError(f"{what} within {self.config.timeout:g} s")
            time.sleep(period)

    def _parameter(self, link: MavlinkLink, name: str, timeout: float) -> float | None:
        """A parameter of the vehicle, asked for until it comes; None if it does not."""
        end, asked = time.monotonic() + timeout, 0.0
        while name not in link.parameters and time.monotonic() < end:
            if time.monotonic() - asked > 0.5:
                asked = time.monotonic()
                link.send(link.encode.param_request_read_encode(*link.target, name.encode(), -1))
            time.sleep(0.01)
        return link.parameters.get(name)

    # Samples and commands

    def read(self) -> QuadrotorSample | None:
        """The newest sample; never waits."""
        link = self._connected()
        if link.state is None:
            return None
        with link.lock:
            return link.state.sample(time.monotonic(), self._accepting(link), link.error or self._problem)

    def write(self, command: BodyRatesThrust | MotorSpeeds) -> None:
        """Send one set-point if the vehicle is wanted to follow; idle while it is not armed."""
        link = self._connected()
        if link.error:
            raise DriverError(link.error)
        now = time.monotonic()
        message = self._message(link, command)
        if self._arming.phase in ("idle", "failed"):
            return
        try:
            link.send(message)
        except OSError as error:
            raise DriverError(f"the link broke: {error}") from error
        self._arming.observe_setpoint(now)

    def _message(self, link: MavlinkLink, command: BodyRatesThrust | MotorSpeeds) -> Any:
        armed = link.state is not None and link.state.armed
        if isinstance(command, BodyRatesThrust):
            rates = command_values("mavlink", command.rates, 3)
            thrust = float(command_values("mavlink", np.reshape(command.thrust, (1,)), 1)[0])
            throttle = self.thrust_scale.throttle(thrust) if armed else 0.0
            roll, pitch, yaw = frames.swap_body(rates) if armed else np.zeros(3)
            return link.encode.set_attitude_target_encode(
                link.boot_ms(), *link.target, _IGNORE_ATTITUDE, [1.0, 0.0, 0.0, 0.0], roll, pitch, yaw, throttle
            )
        if isinstance(command, MotorSpeeds) and self.config.output == "mixer":
            speeds = command_values("mavlink", command.values, 4) if armed else np.zeros(4)
            controls = [*mixer_controls(self._description, self.thrust_scale, speeds), 0.0, 0.0, 0.0, 0.0]
            return link.encode.set_actuator_control_target_encode(link.boot_ms() * 1000, 0, *link.target, controls)
        raise DriverError(f"driver 'mavlink' takes {self.capabilities.commands}, not {type(command).__name__}")

    # What a person asks

    def request_arming(self) -> None:
        """Begin: stream, mode, arming. Go on calling `write`; watch `arming` and `arming_problem`."""
        self._connected()
        with self._deciding:
            self._stopping, self._problem = False, ""
            self._arming.request(time.monotonic())

    @property
    def arming(self) -> ArmingPhase:
        """Where the request is; `done`: the vehicle follows."""
        return self._arming.phase

    @property
    def arming_problem(self) -> str:
        """Why it failed, with the autopilot's own words."""
        return self._arming.reason

    def stop(self) -> None:
        """End the stream and have the autopilot land and disarm; it goes on by itself. Repeated until confirmed."""
        with self._deciding:
            self._arming.cancel()
            self._stopping, self._landing_seen = True, False
            self._stopped_at, self._asked_to_stop = time.monotonic(), 0.0
            if self._link is not None and not self._link.error:
                try:
                    self._ask_to_stop(self._link, time.monotonic())
                except OSError as error:
                    raise DriverError(f"the link broke: {error}") from error

    def kill(self) -> None:
        """Motors off now, also in the air: it falls."""
        link = self._connected()
        with self._deciding:
            self._arming.cancel()
            try:
                for _ in range(3):  # one of three arrives
                    link.command(ARM, 0.0, _FORCE)
            except OSError as error:
                raise DriverError(f"the link broke: {error}") from error

    # In the link's thread

    def _tick(self, now: float) -> None:
        link = self._link
        if link is None or link.state is None:
            return
        with self._deciding:
            self._decide(link, link.state, now)

    def _decide(self, link: MavlinkLink, state: VehicleState, now: float) -> None:
        asked = self._arming.tick(now, state.in_mode(self._modes), state.armed)
        if asked == "mode":
            link.command(SET_MODE, 1.0, *state.autopilot.mode_parameters(self._modes[0]))
        elif asked == "arm":
            link.command(ARM, 1.0)
        elif self._arming.phase == "done" and not self._accepting(link):
            left = "disarmed" if not state.armed else f"changed to {state.mode}"
            self._arming.cancel()
            self._problem = f"the vehicle {left} by itself: nothing is sent until arming is requested again"
        elif self._stopping:
            landing = state.in_mode((state.autopilot.land,))
            # What a pilot does afterwards is the pilot's: flying on, or arming anew once a late arming was waited for.
            taken = self._landing_seen and not landing
            self._landing_seen |= landing
            self._stopping = not taken and (state.armed or now - self._stopped_at < _LATE_ARMING)
            if self._stopping:
                self._ask_to_stop(link, now)

    def _heard(self, message: Any, received: float) -> None:
        if message.get_type() == "COMMAND_ACK":
            self._arming.observe_ack(message.command, message.result, received)
        elif message.get_type() == "STATUSTEXT":
            self._arming.observe_text(text_of(message), received)

    def _ask_to_stop(self, link: MavlinkLink, now: float) -> None:
        state = link.state
        if state is None or not state.armed or now - self._asked_to_stop < 0.5:
            return
        self._asked_to_stop = now
        if state.on_ground:
            link.command(ARM, 0.0)
        elif not state.in_mode((state.autopilot.land,)):
            link.command(SET_MODE, 1.0, *state.autopilot.mode_parameters(state.autopilot.land))

    def _accepting(self, link: MavlinkLink) -> bool:
        state = link.state
        return state is not None and state.armed and state.in_mode(self._modes)

    def _connected(self) -> MavlinkLink:
        if self._link is None:
            raise DriverError("driver 'mavlink' is not connected: call connect() first")
        return self._link


def open_driver(description: ArmDescription | QuadrotorDescription, settings: Mapping[str, str]) -> MavlinkDriver:
    """A driver of a PX4 or ArduPilot quadrotor, not yet connected.

    Raises:
        DriverError: The description is an arm's, a setting is wrong, or pymavlink is missing.
    """
    if not isinstance(description, QuadrotorDescription):
        raise DriverError("driver 'mavlink' drives quadrotors; the description is an arm's")
    return MavlinkDriver(description, read_settings("mavlink", MavlinkConfig, settings))
