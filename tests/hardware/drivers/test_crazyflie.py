"""The Crazyflie driver: cflib itself connects by UDP to a stand-in that speaks CRTP, flies it, and is refused by it."""

import math
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("cflib", reason="CRTP packets: pip install 'robot_rl[crazyflie]'")
from crazyflie_vehicle import COMMANDER, GENERIC, HIGH_LEVEL, SUPERVISOR, CrazyflieVehicle, compress
from rate_pilot import RatePilot, fly, hover_error

from hardware.descriptions import load_description
from hardware.drivers import crazyflie_packets as packets
from hardware.drivers.check import check_driver
from hardware.drivers.crazyflie import CrazyflieDriver, open_driver
from hardware.drivers.crazyflie_config import CrazyflieConfig
from hardware.drivers.driver import DriverError
from policies import rotation
from policies.types import BodyRatesThrust, MotorSpeeds, QuadrotorSetpoint

DRONE = load_description("crazyflie")
IDLE = BodyRatesThrust(np.zeros(3), np.array(0.0))
PERIOD = 0.01


def driver_of(vehicle, **settings):
    return CrazyflieDriver(DRONE, CrazyflieConfig(uri=vehicle.uri, timeout=5.0, **settings))


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def arm(driver, command=IDLE):
    driver.request_arming()
    end = time.monotonic() + 4.0
    while driver.arming == "arming" and time.monotonic() < end:
        driver.write(command)
        time.sleep(PERIOD)
    return driver.arming


OLD_FIRMWARE = pytest.mark.filterwarnings("ignore:The supervisor subsystem requires CRTP:UserWarning")


@pytest.mark.parametrize(
    ("protocol", "mode"), [(12, "manual"), pytest.param(8, "rpyt", marks=[OLD_FIRMWARE, pytest.mark.slow])]
)
def test_it_hovers_through_crtp(protocol, mode):
    """Arm, climb, hold; new firmware by manual set-points, old by roll-pitch-yaw-thrust in rate mode."""
    goal = np.array([0.3, -0.2, 0.7])
    with CrazyflieVehicle(protocol) as vehicle, driver_of(vehicle) as driver:
        if protocol < 12:
            vehicle.armed = True  # firmware of that time arms by itself
        assert wait(lambda: driver.read().battery_voltage is not None, 1.0)
        assert driver.read().details["setpoints"] == mode
        assert arm(driver) == "done", driver.arming_problem
        error = hover_error(fly(driver, RatePilot(DRONE, goal), 6.5), goal, 0.03)
        print(f"{mode}: hover error rms {1e3 * error:.1f} mm")
        assert error < 0.03
        sample = driver.read()
        assert sample.fault == ""
        assert sample.armed
        assert sample.battery_voltage == pytest.approx(3.92)
        assert sample.battery_remaining == pytest.approx(0.77)
        assert 0.0 <= time.monotonic() - sample.stamp < 0.1
        driver.stop()
        time.sleep(0.05)
        assert not vehicle.armed or protocol < 12
        assert vehicle.payloads(GENERIC, 0)[-1] == b"\0"


def test_state_blocks_come_at_100_hz_across_the_wrap_of_its_clock():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle) as driver:
        stamps = set()
        begin = time.monotonic()
        while time.monotonic() - begin < 1.5:
            stamps.add(driver.read().stamp)
            time.sleep(0.002)
        assert len(stamps) > 0.7 * 150
        ordered = np.sort(list(stamps))
        assert np.all(np.diff(ordered) > 0.0)
        assert ordered[-1] - ordered[0] == pytest.approx(1.5, abs=0.2)


def test_manual_setpoints_byte_for_byte():
    """Type 11, roll rate, minus pitch rate, yaw rate in deg/s, thrust of 65535, rate mode."""
    with CrazyflieVehicle() as vehicle, driver_of(vehicle, hover_throttle=0.5) as driver:
        assert arm(driver) == "done", driver.arming_problem
        driver.write(BodyRatesThrust(np.array([0.1, 0.2, 0.3]), np.array(9.81)))
        assert wait(lambda: vehicle.payloads(GENERIC, 0)[-1][0] == 11, 1.0)
        payload = vehicle.payloads(GENERIC, 0)[-1]
        assert len(payload) == 16
        roll, pitch, yaw, thrust, rate = struct.unpack("<fffHB", payload[1:])
        np.testing.assert_allclose([roll, pitch, yaw], np.degrees([0.1, -0.2, 0.3]), rtol=1e-6)
        assert abs(thrust - 32767) <= 1
        assert rate == 1
        driver.write(IDLE)
        assert wait(lambda: vehicle.payloads(GENERIC, 0)[-1] == b"\0", 1.0), "no thrust means motors off"


@OLD_FIRMWARE
def test_old_setpoints_byte_for_byte():
    """Roll rate, minus pitch rate, minus yaw rate in deg/s, thrust; after the three axes were put into rate mode."""
    with CrazyflieVehicle(protocol=8) as vehicle, driver_of(vehicle, hover_throttle=0.5) as driver:
        vehicle.armed = True
        assert wait(lambda: driver.read().armed, 1.0)
        assert wait(lambda: vehicle.params == [0, 0, 0], 1.0)
        assert arm(driver) == "done"
        assert vehicle.payloads(COMMANDER)[0] == struct.pack("<fffH", 0.0, -0.0, 0.0, 0)
        driver.write(BodyRatesThrust(np.array([0.1, 0.2, 0.3]), np.array(9.81)))
        assert wait(lambda: struct.unpack("<fffH", vehicle.payloads(COMMANDER)[-1])[3] > 0, 1.0)
        roll, pitch, yaw, thrust = struct.unpack("<fffH", vehicle.payloads(COMMANDER)[-1])
        np.testing.assert_allclose([roll, pitch, yaw], np.degrees([0.1, -0.2, -0.3]), rtol=1e-6)
        assert abs(thrust - 32767) <= 1


def test_full_states_byte_for_byte():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle, setpoints="full_state") as driver:
        point = QuadrotorSetpoint(np.array([1.0, -2.0, 0.5]), np.array([0.1, 0.2, 0.3]), np.zeros(3), np.array(0.8))
        assert driver.capabilities.commands == ("QuadrotorSetpoint",)
        assert arm(driver, point) == "done"
        driver.write(point)
        assert wait(lambda: vehicle.payloads(GENERIC, 0)[-1][0] == 6, 1.0)
        values = struct.unpack("<BhhhhhhhhhIhhh", vehicle.payloads(GENERIC, 0)[-1])
        assert values[1:10] == (1000, -2000, 500, 100, 200, 300, 0, 0, 0)
        assert rotation.yaw_of(packets.decompress_quaternion(values[10])) == pytest.approx(0.8, abs=3e-3)
        assert values[11:] == (0, 0, 0)
        with pytest.raises(DriverError, match="32.7"):
            driver.write(QuadrotorSetpoint(np.array([40.0, 0, 0]), np.zeros(3), np.zeros(3), np.array(0.0)))


@settings(deadline=None)
@given(arrays(np.float64, (4,), elements=st.floats(-1.0, 1.0)).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_compressed_quaternions(q):
    """Ours against the firmware's packing, and against cflib's own unpacking."""
    from cflib.utils.encoding import decompress_quaternion

    q = q / np.linalg.norm(q)
    packed = compress((q[1], q[2], q[3], q[0]))
    ours = packets.decompress_quaternion(packed)
    # Half a step in each of three components, and in the fourth, when all are alike, as much as in the three together.
    assert abs(np.dot(ours, q)) > math.cos(math.sqrt(12.0) * 0.5 * math.sqrt(0.5) / 511 + 1e-6)
    theirs = decompress_quaternion(packed)
    np.testing.assert_allclose(ours, theirs[[3, 0, 1, 2]], atol=1e-12)


def test_nothing_is_sent_without_a_request():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle) as driver:
        before = len(vehicle.payloads(GENERIC))
        for _ in range(10):
            driver.write(BodyRatesThrust(np.zeros(3), np.array(15.0)))
        time.sleep(0.1)
        assert len(vehicle.payloads(GENERIC)) == before
        assert vehicle.payloads(COMMANDER) == []
        assert not vehicle.armed


def test_a_refused_arming_says_why():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle) as driver:
        vehicle.can_be_armed = False
        time.sleep(0.3)
        assert arm(driver, BodyRatesThrust(np.ones(3), np.array(15.0))) == "failed"
        assert "cannot be armed" in driver.arming_problem
        assert all(payload == b"\0" for payload in vehicle.payloads(GENERIC, 0)), "thrust before it is armed"
        vehicle.tumbled = True
        assert wait(lambda: "tumbled" in driver.read().fault, 1.0)
        assert arm(driver) == "failed"
        assert "tumbled" in driver.arming_problem


@pytest.mark.slow
def test_what_locks_itself_is_left_alone():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle) as driver:
        assert arm(driver) == "done"
        fly(driver, RatePilot(DRONE, [0.0, 0.0, 0.5]), 1.5)
        driver.kill()
        assert wait(lambda: vehicle.locked, 0.5)
        assert not vehicle.armed
        assert vehicle.payloads(SUPERVISOR, 1)[-3:] == [b"\x03"] * 3
        assert wait(lambda: "emergency stop" in driver.read().fault, 1.0)
        before = len(vehicle.payloads(GENERIC))
        for _ in range(10):
            driver.write(BodyRatesThrust(np.zeros(3), np.array(9.81)))
        assert len(vehicle.payloads(GENERIC)) == before


def test_when_writing_stops_the_firmware_levels_and_then_stops_the_motors():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle) as driver:
        assert driver.capabilities.watchdog_s == 2.0
        assert arm(driver) == "done"
        fly(driver, RatePilot(DRONE, [0.0, 0.0, 1.0]), 2.5)
        driver.write(BodyRatesThrust(np.zeros(3), np.array(9.9)))
        assert wait(lambda: not vehicle.armed, 3.0)
        assert vehicle.warnings == ["watchdog: motors off"]
        driver.write(IDLE)
        assert wait(lambda: not driver.read().armed, 1.0)
        driver.write(IDLE)
        assert driver.arming == "idle"
        assert "disarmed by itself" in driver.read().fault


@pytest.mark.slow
def test_the_emergency_watchdog_is_fed_by_writing_only():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle, link_watchdog=True) as driver:
        assert driver.capabilities.watchdog_s == 1.0
        assert arm(driver) == "done"
        fly(driver, RatePilot(DRONE, [0.0, 0.0, 0.5]), 2.0)
        assert vehicle.armed
        assert b"\x04" in vehicle.payloads(SUPERVISOR, 1)
        assert wait(lambda: vehicle.locked, 1.8)


@pytest.mark.slow
def test_stop_can_hand_over_to_the_firmwares_landing():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle, on_stop="land") as driver:
        assert arm(driver) == "done"
        fly(driver, RatePilot(DRONE, [0.0, 0.0, 0.6]), 2.5)
        assert vehicle.body.height > 0.3
        driver.stop()
        assert wait(lambda: vehicle.landing, 0.5)
        assert vehicle.payloads(GENERIC, 1)[-1][0] == 0  # notify-setpoint-stop
        assert vehicle.payloads(HIGH_LEVEL)
        driver.close()
        assert vehicle.body.on_ground
        assert not vehicle.armed


def test_it_keeps_the_drivers_contract():
    with CrazyflieVehicle() as vehicle:
        assert check_driver(driver_of(vehicle), DRONE, write=False, min_rate=0.1) == []


def test_a_silent_link_is_a_fault_and_ages_the_state():
    with CrazyflieVehicle() as vehicle, driver_of(vehicle) as driver:
        vehicle.mute = True
        time.sleep(1.3)
        sample = driver.read()
        assert "no state for 1." in sample.fault
        assert time.monotonic() - sample.stamp > 1.0


def test_nobody_there_is_one_sentence():
    driver = CrazyflieDriver(DRONE, CrazyflieConfig(uri="udp://127.0.0.1:9", timeout=0.5))
    with pytest.raises(DriverError, match=r"udp://127\.0\.0\.1:9"):
        driver.connect()
    with pytest.raises(DriverError, match="carrier-pigeon"):
        CrazyflieDriver(DRONE, CrazyflieConfig(uri="carrier-pigeon://", timeout=0.5)).connect()


def test_settings_and_commands_are_checked():
    with pytest.raises(DriverError, match="no setting 'colour'"):
        open_driver(DRONE, {"colour": "red"})
    with pytest.raises(DriverError, match="drives quadrotors"):
        open_driver(load_description("panda"), {})
    with CrazyflieVehicle() as vehicle, driver_of(vehicle) as driver:
        with pytest.raises(DriverError, match="not finite"):
            driver.write(BodyRatesThrust(np.array([np.nan, 0, 0]), np.array(9.0)))
        with pytest.raises(DriverError, match="MotorSpeeds"):
            driver.write(MotorSpeeds(np.zeros(4)))
