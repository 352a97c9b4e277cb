"""The MAVLink driver against a vehicle that speaks real packets over UDP and obeys PX4's or ArduPilot's rules."""

import socket
import struct
import time

import numpy as np
import pytest

pytest.importorskip("pymavlink", reason="MAVLink packets: pip install 'robot_rl[mavlink]'")
from flying_body import GRAVITY
from mavlink_vehicle import GUIDED, LAND, PX4_LAND, PX4_LOITER, PX4_OFFBOARD, MavlinkVehicle
from rate_pilot import RatePilot, fly, hover_error

from hardware.descriptions import load_description
from hardware.drivers.check import check_driver
from hardware.drivers.driver import DriverError
from hardware.drivers.mavlink import MavlinkDriver, open_driver
from hardware.drivers.mavlink_config import MavlinkConfig
from hardware.drivers.mavlink_mixer import mixer_controls
from hardware.drivers.thrust_scale import ThrustScale
from policies import rotation
from policies.types import BodyRatesThrust, JointPositions, MotorSpeeds

DRONE = load_description("crazyflie")
IDLE = BodyRatesThrust(np.zeros(3), np.array(0.0))
PERIOD = 0.01


@pytest.fixture
def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def driver_on(port, **settings):
    return MavlinkDriver(DRONE, MavlinkConfig(connection=f"udp:127.0.0.1:{port}", timeout=3.0, **settings))


def keep_writing(driver, command, seconds, until=lambda: False):
    """Write at 100 Hz; returns whether `until` came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        driver.write(command)
        if until():
            return True
        time.sleep(PERIOD)
    return until()


def arm(driver):
    driver.request_arming()
    keep_writing(driver, IDLE, 6.0, lambda: driver.arming in ("done", "failed"))
    return driver.arming


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize(
    ("firmware", "state"),
    [
        ("px4", "local"),
        pytest.param("px4", "odometry", marks=pytest.mark.slow),
        pytest.param("ardupilot", "local", marks=pytest.mark.slow),
    ],
)
def test_it_hovers_through_the_wire(port, firmware, state):
    """Arm, climb to 1 m north-east, hold, with a hover throttle that is 5 % wrong; land by `stop`."""
    goal = np.array([0.4, 0.8, 1.0])
    with MavlinkVehicle(port, firmware) as vehicle, driver_on(port, state=state) as driver:
        assert arm(driver) == "done", driver.arming_problem
        assert vehicle.armed
        assert vehicle.offboard
        error = hover_error(fly(driver, RatePilot(DRONE, goal), 6.5), goal, 0.03)
        true = np.array([vehicle.body.position[1], vehicle.body.position[0], -vehicle.body.position[2]])
        print(f"{firmware} {state}: hover error rms {1e3 * error:.1f} mm")
        assert error < 0.03
        assert np.linalg.norm(true - goal) < 0.04
        sample = driver.read()
        assert sample.accepting
        assert sample.armed
        assert sample.fault == ""
        assert sample.battery_voltage == pytest.approx(15.2)
        assert sample.battery_remaining == pytest.approx(0.83)
        driver.stop()
        assert wait(lambda: not vehicle.armed, 6.0), "it does not land"
        assert vehicle.mode == (PX4_LAND if firmware == "px4" else LAND)
        assert vehicle.body.on_ground


def test_stamps_are_measurement_times_on_our_clock(port):
    """The vehicle's clock is far off and its link takes 2 ms and more: stamps are right within the link's delay."""
    with MavlinkVehicle(port, delay=0.005, jitter=0.01, clock_offset=-5000.0) as vehicle, driver_on(port) as driver:
        assert wait(lambda: driver.read().details["clock"] == "timesync", 2.0)
        time.sleep(1.0)
        ages, heard = [], 0.0
        for _ in range(200):
            sample = driver.read()
            if sample.attitude_stamp != heard:
                heard = sample.attitude_stamp
                ages.append(time.monotonic() - heard)
            time.sleep(0.003)
        assert driver.read().details["clock_uncertainty"] < 0.012
        assert wait(lambda: vehicle.heartbeats >= 2, 3.0)  # one a second
        # 5 ms and an exponential of 10 ms in the mean, and up to 3 ms until we looked.
        assert 0.003 < np.mean(ages) < 0.03


def test_without_timesync_stamps_are_receipt_times(port):
    with MavlinkVehicle(port) as vehicle:
        vehicle.deaf_to_timesync = True
        with driver_on(port) as driver:
            sample = driver.read()
            assert sample.details["clock"] == "receipt"
            assert abs(time.monotonic() - sample.attitude_stamp) < 0.1


def test_nothing_is_sent_and_nothing_arms_without_a_request(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        keep_writing(driver, BodyRatesThrust(np.zeros(3), np.array(15.0)), 0.5)
        assert vehicle.setpoints == []
        assert not vehicle.armed
        assert vehicle.modes_seen == [PX4_LOITER]


def test_before_it_is_armed_only_idle_setpoints_leave(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        vehicle.preflight_problem = "compass not calibrated"
        driver.request_arming()
        loud = BodyRatesThrust(np.array([1.0, 2.0, 3.0]), np.array(15.0))
        assert keep_writing(driver, loud, 5.0, lambda: driver.arming == "failed")
        assert wait(lambda: "compass not calibrated" in driver.arming_problem, 0.5), driver.arming_problem
        assert "denied" in driver.arming_problem
        assert vehicle.mode == PX4_OFFBOARD
        assert len(vehicle.setpoints) > 50
        for _, message in vehicle.setpoints:
            assert message.thrust == 0.0
            assert (message.body_roll_rate, message.body_pitch_rate, message.body_yaw_rate) == (0.0, 0.0, 0.0)
        sent = len(vehicle.setpoints)
        keep_writing(driver, loud, 0.2)
        assert len(vehicle.setpoints) <= sent + 1, "it goes on sending after the refusal"


@pytest.mark.slow
def test_arming_without_a_stream_fails_and_says_so(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        driver.request_arming()
        assert wait(lambda: driver.arming == "failed", 5.0)
        assert "keep writing" in driver.arming_problem
        assert vehicle.modes_seen == [PX4_LOITER]


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_stop_that_cannot_be_sent_is_an_error_of_the_driver(port, way):
    with MavlinkVehicle(port), driver_on(port) as driver:
        assert arm(driver) == "done"

        def broken(data):
            raise OSError("no route")

        whole, driver._link._wire.write = driver._link._wire.write, broken
        with pytest.raises(DriverError, match="the link broke: no route"):
            getattr(driver, way)()
        driver._link._wire.write = whole


def test_when_writing_stops_the_autopilots_own_failsafe_lands(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        assert driver.capabilities.watchdog_s == pytest.approx(1.0)
        assert arm(driver) == "done"
        pilot = RatePilot(DRONE, [0.0, 0.0, 0.6])
        fly(driver, pilot, 2.5)
        silent = time.monotonic()
        assert wait(lambda: vehicle.mode == PX4_LAND, 2.0)
        assert 0.9 < time.monotonic() - silent < 1.4
        assert wait(lambda: driver.arming == "idle", 1.0)
        assert "AUTO.LAND by itself" in driver.read().fault
        before = len(vehicle.setpoints)
        keep_writing(driver, IDLE, 0.3)
        assert len(vehicle.setpoints) == before, "it fights the failsafe"
        assert wait(lambda: not vehicle.armed, 4.0)


@pytest.mark.slow
def test_a_pilot_who_takes_over_keeps_the_vehicle(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        assert arm(driver) == "done"
        pilot = RatePilot(DRONE, [0.0, 0.0, 0.6])
        fly(driver, pilot, 1.5)
        vehicle.set_mode(PX4_LOITER)
        fly(driver, pilot, 0.8)
        before = len(vehicle.setpoints)
        fly(driver, pilot, 0.3)
        assert len(vehicle.setpoints) == before
        assert not driver.read().accepting
        # An explicit request in the air streams what is written, not idle set-points: it is flying.
        driver.request_arming()
        end = time.monotonic() + 5.0
        while driver.arming != "done" and time.monotonic() < end:
            fly(driver, pilot, 0.1)
        assert driver.arming == "done", driver.arming_problem
        assert min(message.thrust for _, message in vehicle.setpoints[before:]) > 0.2
        fly(driver, pilot, 1.0)
        assert vehicle.body.height > 0.3


@pytest.mark.slow
def test_kill_turns_the_motors_off_in_the_air(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        assert arm(driver) == "done"
        fly(driver, RatePilot(DRONE, [0.0, 0.0, 0.8]), 2.0)
        assert not vehicle.body.on_ground
        driver.kill()
        assert wait(lambda: not vehicle.armed, 0.3)


@pytest.mark.slow
def test_a_lost_link_is_a_fault_and_ages_the_state(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        stamp = driver.read().attitude_stamp
        assert wait(lambda: driver.read().attitude_stamp > stamp, 1.0)
        vehicle.mute = True
        time.sleep(2.9)
        sample = driver.read()
        assert "no heartbeat" in sample.fault
        assert time.monotonic() - sample.stamp > 2.5


def test_corrupt_and_non_finite_packets_leave_no_trace(port):
    with MavlinkVehicle(port) as vehicle, driver_on(port) as driver:
        vehicle.nan = True
        time.sleep(0.3)
        sample = driver.read()
        assert np.all(np.isfinite(sample.orientation))
        assert sample.details["refused"] > 5
        vehicle.nan, vehicle.corrupt = False, True
        time.sleep(0.1)
        stamp = driver.read().attitude_stamp
        time.sleep(0.3)
        assert driver.read().attitude_stamp == stamp
        vehicle.corrupt = False
        assert wait(lambda: driver.read().attitude_stamp > stamp, 1.0)


def test_a_position_that_never_comes_leaves_the_attitude(port):
    with MavlinkVehicle(port) as vehicle:
        vehicle.no_position = True
        with driver_on(port) as driver:
            time.sleep(0.2)
            sample = driver.read()
            assert sample.state is None
            assert sample.stamp == -np.inf
            np.testing.assert_allclose(rotation.yaw_of(sample.orientation), 0.5 * np.pi, atol=1e-6)


def test_ardupilot_without_thrust_as_thrust_is_refused(port):
    """Otherwise 0.4 of thrust would be a climb rate."""
    with MavlinkVehicle(port, "ardupilot") as vehicle:
        vehicle.parameters["GUID_OPTIONS"] = 0.0
        with pytest.raises(DriverError, match=r"GUID_OPTIONS.*needs 8.*climb rate"):
            driver_on(port).connect()


@pytest.mark.slow
def test_ardupilot_levels_when_the_stream_stops(port):
    with MavlinkVehicle(port, "ardupilot") as vehicle, driver_on(port) as driver:
        assert arm(driver) == "done"
        assert vehicle.modes_seen[-1] == GUIDED
        fly(driver, RatePilot(DRONE, [0.0, 0.0, 0.8]), 2.5)
        keep_writing(driver, BodyRatesThrust(np.array([0.3, 0.0, 0.0]), np.array(GRAVITY)), 0.2)
        assert wait(lambda: rotation.tilt_of(driver.read().orientation) > 0.15, 1.0), (
            "the last rates hold until the timeout"
        )
        time.sleep(1.5)
        assert driver.capabilities.watchdog_s == pytest.approx(1.0)
        assert rotation.tilt_of(driver.read().orientation) < 0.05
        assert vehicle.body.height > 0.2


def test_it_keeps_the_drivers_contract(port):
    with MavlinkVehicle(port):
        assert check_driver(driver_on(port), DRONE, write=False, min_rate=0.1) == []


def test_nobody_there_is_one_sentence(port):
    with pytest.raises(DriverError, match=f"no heartbeat of an autopilot on udp:127.0.0.1:{port}"):
        MavlinkDriver(DRONE, MavlinkConfig(connection=f"udp:127.0.0.1:{port}", timeout=0.3)).connect()


def test_settings_and_commands_are_checked(port):
    with pytest.raises(DriverError, match="no setting 'speed'"):
        open_driver(DRONE, {"speed": "3"})
    with pytest.raises(DriverError, match="drives quadrotors"):
        open_driver(load_description("panda"), {})
    with pytest.raises(DriverError, match=r"serial:DEVICE:BAUD"):
        open_driver(DRONE, {"connection": "bluetooth"}).connect()
    with MavlinkVehicle(port), driver_on(port) as driver:
        with pytest.raises(DriverError, match="not finite"):
            driver.write(BodyRatesThrust(np.array([np.nan, 0, 0]), np.array(9.0)))
        with pytest.raises(DriverError, match="JointPositions"):
            driver.write(JointPositions(np.zeros(3), np.zeros(())))
        with pytest.raises(DriverError, match="MotorSpeeds"):
            driver.write(MotorSpeeds(np.zeros(4)))


def test_a_setpoint_byte_for_byte(port):
    """SET_ATTITUDE_TARGET in the order of its definition: 39 bytes, id 82; time, q, rates in FRD, thrust, ids, mask."""
    driver = driver_on(port)
    with MavlinkVehicle(port) as vehicle, driver:
        assert arm(driver) == "done"
        driver.write(BodyRatesThrust(np.array([0.1, 0.2, 0.3]), np.array(GRAVITY)))
        assert wait(lambda: vehicle.setpoints[-1][1].thrust > 0.0, 1.0)
        raw = bytes(vehicle.setpoints[-1][1].get_msgbuf())
        assert raw[0] == 0xFD
        assert raw[5:7] == bytes([1, 191])
        assert int.from_bytes(raw[7:10], "little") == 82
        payload = raw[10:-2].ljust(39, b"\0")
        _, *q = struct.unpack_from("<I4f", payload)
        assert q == [1.0, 0.0, 0.0, 0.0]
        np.testing.assert_allclose(struct.unpack_from("<4f", payload, 20), [0.1, -0.2, -0.3, 0.4], rtol=1e-6)
        assert tuple(payload[36:39]) == (1, 1, 128)


def test_actuator_setpoints_invert_the_mixer(port):
    """Rotor speeds → controls → PX4's quad-x mixer → the same rotor thrusts."""
    with MavlinkVehicle(port) as vehicle, driver_on(port, output="mixer") as driver:
        assert driver.capabilities.commands == ("BodyRatesThrust", "MotorSpeeds")
        assert arm(driver) == "done"
        hover = np.sqrt(0.25 * DRONE.parameters["mass"] * GRAVITY / DRONE.parameters["thrust_coefficients"][2])
        speeds = hover * np.array([1.0, 1.02, 0.98, 1.01])
        driver.write(MotorSpeeds(speeds))
        assert wait(lambda: vehicle.setpoints[-1][1].get_type() == "SET_ACTUATOR_CONTROL_TARGET", 1.0)
        roll, pitch, yaw, throttle = vehicle.setpoints[-1][1].controls[:4]
        # Front-right, back-right, back-left, front-left; right roll, nose up, clockwise are positive.
        half = np.sqrt(0.5)
        mixed = throttle + half * roll * np.array([-1, -1, 1, 1]) + half * pitch * np.array([1, -1, -1, 1])
        mixed = mixed + yaw * np.array([1, -1, 1, -1])
        np.testing.assert_allclose(mixed, 0.4 * (speeds / hover) ** 2, rtol=1e-5)
    equal = mixer_controls(DRONE, ThrustScale(hover=0.4), np.full(4, hover))
    np.testing.assert_allclose(equal, [0, 0, 0, 0.4], atol=1e-9)


@pytest.mark.slow
def test_a_pilot_may_fly_on_after_a_stop(port):
    """Who takes it out of our landing is not fought, nor who arms it afterwards, and closing leaves both alone."""
    with MavlinkVehicle(port) as vehicle:
        with driver_on(port) as driver:
            assert arm(driver) == "done", driver.arming_problem
            fly(driver, RatePilot(DRONE, [0.0, 0.0, 0.8]), 2.0)
            driver.stop()
            assert wait(lambda: vehicle.mode == PX4_LAND, 1.0)
            time.sleep(0.4)
            vehicle.set_mode(PX4_LOITER)
            time.sleep(1.5)
            assert vehicle.mode == PX4_LOITER and vehicle.armed
            driver.close()
            assert vehicle.mode == PX4_LOITER and vehicle.armed
            vehicle.set_mode(PX4_LAND)
            assert wait(lambda: not vehicle.armed, 6.0)
        with driver_on(port) as driver:
            driver.stop()
            time.sleep(3.3)  # so long it waits for a late arming
            vehicle.set_mode(PX4_LOITER)
            vehicle.armed = True
            time.sleep(1.0)
            assert vehicle.armed
            driver.close()
            assert vehicle.armed
