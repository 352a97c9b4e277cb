"""A quadrotor's driver as the control process uses it: what it measures, what it is sent, and how it is asked to arm.

A vehicle with a safety of its own arms and refuses in its own time. It is asked only because a person has asked to arm;
the policy flies as soon as the vehicle follows, and stops when it no longer does: a pilot, or its failsafe, has taken
it. A vehicle that is not flown from here is never told to land or to disarm, but for an emergency stop. A vehicle
without such a safety follows whoever speaks to it.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np

from hardware.descriptions import QuadrotorDescription
from hardware.drivers.driver import DriverError
from hardware.drivers.quadrotor import QuadrotorDriver, QuadrotorSample
from hardware.drivers.rate_command import RotorsAsRates
from policies.types import BodyRatesThrust, MotorSpeeds
from robot_rl.planes.quadrotor_settings import RateConfig

_ASKED = ("streaming", "mode", "arming")
"""Phases in which the vehicle is about to be flown from here."""
Progress: TypeAlias = Literal["idle", "waiting", "following", "refused"]


class Vehicle:
    """One vehicle behind its driver, which is connected. Nothing here waits."""

    def __init__(
        self, driver: QuadrotorDriver, description: QuadrotorDescription, rates: RateConfig, arming_timeout: float
    ) -> None:
        """Look at what it can do.

        Raises:
            DriverError: It takes neither rotor speeds nor body rates.
        """
        able = driver.capabilities
        self.driver, self.name = driver, able.name
        self.own_arming = able.own_arming
        """Whether it has a safety of its own."""
        self._takes_rotors = "MotorSpeeds" in able.commands
        if able.kind != "quadrotor" or not (self._takes_rotors or "BodyRatesThrust" in able.commands):
            raise DriverError(
                f"driver {able.name!r} takes {', '.join(able.commands)} with these settings; the control process needs "
                "one that takes BodyRatesThrust or MotorSpeeds"
            )
        self._rotors = RotorsAsRates(description, rates.inner_lag, rates.max_rate, rates.rotor_share)
        self._least_pause = 0.9 / able.rate_hz
        self._patience = arming_timeout
        self._written = -math.inf
        self._give_up = -math.inf
        self.sample: QuadrotorSample | None = None
        """The newest one."""
        self._unread = ""
        self.unwritten = ""
        """Why the newest command did not go out; empty if it did."""
        self.waiting = False
        """Whether a request to arm is under way."""
        self.requests = 0
        """Requests so far."""

    # What it says

    def read(self) -> QuadrotorSample | None:
        """A sample that is newer than the last, or None."""
        try:
            sample = self.driver.read()
        except DriverError as error:
            self._unread = str(error)
            return None
        self._unread = ""
        if sample is None or sample is self.sample:
            return None
        self.sample = sample
        return sample

    @property
    def armed(self) -> bool:
        """Whether its motors may turn, also because a pilot flies it."""
        return self.sample is not None and self.sample.armed

    @property
    def following(self) -> bool:
        """Whether it does what is written, after it was asked to."""
        return self.sample is not None and self.sample.accepting and self.driver.arming == "done" and not self._unread

    @property
    def trouble(self) -> str:
        """Why the driver cannot reach it; empty while it can."""
        return "; ".join(dict.fromkeys(word for word in (self._unread, self.unwritten) if word))

    @property
    def problem(self) -> str:
        """Why it does not follow, or what else is wrong, in words."""
        said, fault = self.driver.arming_problem, "" if self.sample is None else self.sample.fault
        # A driver may have put what it said into the fault as well.
        return "; ".join(word for word in (said if said not in fault else "", fault, self.trouble) if word)

    # What it is told

    def write(self, speeds: np.ndarray, now: float) -> bool:
        """Send rotor speeds (4,) rad/s in what it takes; returns whether, as its link carries only so many."""
        pause, sample = now - self._written, self.sample
        if pause < self._least_pause:
            return False
        command: MotorSpeeds | BodyRatesThrust = MotorSpeeds(speeds)
        if not self._takes_rotors:
            if sample is None or sample.angular_velocity is None:
                return False
            command = self._rotors.convert(MotorSpeeds(speeds), sample.angular_velocity, min(pause, 0.1))
        try:
            self.driver.write(command)
        except DriverError as error:
            self.unwritten = str(error)
            return False
        self._written, self.unwritten = now, ""
        return True

    def ask(self, now: float) -> None:
        """Have it arm and follow; go on writing, and watch `progress`."""
        self.waiting, self._give_up = True, now + self._patience
        self.requests += 1
        self.driver.request_arming()

    def release(self) -> None:
        """End what was asked for: it lands and disarms by itself if it is flown from here, and else is left alone."""
        self.waiting = False
        phase = self.driver.arming
        # A pilot's from the moment on at which it no longer accepts, which its driver may not have noticed yet.
        ours = phase in _ASKED or (phase == "done" and self.sample is not None and self.sample.accepting)
        if self.own_arming and ours:
            self.driver.stop()

    def kill(self) -> None:
        """Motors off now, also in the air."""
        self.waiting = False
        self.driver.kill()

    def progress(self, now: float) -> tuple[Progress, str]:
        """Where the request is, in words; `following` and `refused` are told once."""
        if not self.waiting:
            return "idle", ""
        phase = self.driver.arming
        if self.following:
            self.waiting = False
            return "following", ""
        if phase in ("failed", "idle"):
            self.waiting = False
            return "refused", self.problem or "the vehicle does not arm and does not say why"
        if now > self._give_up:
            self.release()
            return "refused", self.problem or f"the vehicle did not arm within {self._patience:g} s"
        return "waiting", phase
