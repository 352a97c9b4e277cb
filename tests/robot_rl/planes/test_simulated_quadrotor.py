"""The process of a simulated quadrotor from inside: its clock, its wire, its faults."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from hardware.drivers.bridged_quadrotor import MOTORS, MOTORS_RECORD, SENSORS, SENSORS_RECORD
from hardware.realtime.seqlock import SlotFolder, SlotReader, SlotWriter
from robot_rl.planes import quadrotor_records, records
from robot_rl.planes.quadrotor_client import QuadrotorClient
from robot_rl.planes.quadrotor_settings import QuadrotorSimulationConfig, QuadrotorWireConfig
from robot_rl.planes.simulated_quadrotor import SimulatedVehicle
from robot_rl.rebuild import from_json, to_json

DT = 0.005
CLIMB = np.full(4, 2100.0)


class Stage:
    """The simulated vehicle between its slots; `run` makes time go by."""

    def __init__(self, folder, **config):
        self.begin, self.ticks = 1000.0, 0
        self.robot = SimulatedVehicle(QuadrotorSimulationConfig(folder=str(folder), **config), self.begin)
        self.sensors = SlotReader(folder, SENSORS, SENSORS_RECORD)
        self.motors = SlotWriter(folder, MOTORS, MOTORS_RECORD)
        self.requests = SlotWriter(folder, "simulation_request", records.SIMULATION_REQUEST)
        self.client = QuadrotorClient(folder)
        self.robot.tick(self.begin)

    @property
    def now(self):
        return self.begin + DT * self.ticks

    def run(self, seconds, values=None):
        """Its samples (time of arrival, record) meanwhile; `values` go out every 10 ms."""
        found = []
        for _ in range(round(seconds / DT)):
            if values is not None and self.ticks % 2 == 0:
                self.order(values)
            self.ticks += 1
            self.robot.tick(self.now)
            if (reading := self.sensors.read_new()) is not None:
                found.append((self.now, reading.record))
        return found

    def order(self, values, stamp=None):
        record = np.zeros((), MOTORS_RECORD)
        record["values"], record["stamp"] = values, self.now if stamp is None else stamp
        self.motors.write(record)

    def set_wire(self, **changes):
        self.client.set_wire(QuadrotorWireConfig(**changes))

    @property
    def told(self):
        self.robot.publish(0)
        return self.client.simulation()

    def close(self):
        for each in (self.robot, self.sensors, self.motors, self.requests, self.client):
            each.close()


@pytest.fixture
def make_stage(tmp_path):
    made = []

    def make(**config):
        made.append(Stage(tmp_path, **config))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


@pytest.fixture
def stage(make_stage):
    return make_stage()


@pytest.fixture
def airborne(stage):
    """Climbing."""
    stage.run(0.5, CLIMB)
    assert not stage.robot.vehicle.on_ground
    return stage


# Its clock


def test_whole_steps_follow_the_clock_and_never_run_ahead(stage):
    rng, now = np.random.default_rng(0), stage.begin
    for pause in rng.uniform(0.0, 0.04, 500):
        now += pause
        stage.robot.tick(now)
        assert 0.0 <= now - stage.robot.vehicle.time + 1e-6 < DT + 2e-6
    assert stage.told["left_out"] == 0.0


def test_a_sample_comes_every_10_ms_with_the_time_of_its_measurement(stage):
    found = stage.run(1.0)
    stamps = np.array([record["state_stamp"] for _, record in found])
    assert len(found) == 100 and np.diff(stamps) == pytest.approx(np.full(99, 0.01))
    assert all(moment - DT < record["state_stamp"] <= moment + 1e-9 for moment, record in found)
    assert all(record["attitude_stamp"] == record["state_stamp"] for _, record in found)


def test_samples_stay_regular_when_ticks_are_not(stage):
    """A tick without a step between two with two must not lose a sample."""
    found, rng = 0, np.random.default_rng(1)
    for step in range(1, 400):
        stage.robot.tick(stage.begin + DT * step + 0.9999 * DT + rng.uniform(0.0, 2e-3))
        found += stage.sensors.read_new() is not None
    assert found >= 199


def test_what_it_is_held_up_for_longer_than_it_may_catch_up_is_left_out_and_counted(stage):
    stage.robot.tick(stage.begin + 0.05)
    assert stage.robot.vehicle.time == pytest.approx(stage.begin + 0.05) and stage.told["left_out"] == 0.0
    stage.robot.tick(stage.begin + 1.05)
    assert stage.robot.vehicle.time == pytest.approx(stage.begin + 0.1)
    assert stage.told["left_out"] == pytest.approx(0.95)
    record = stage.sensors.read().record
    assert record["state_stamp"] == pytest.approx(stage.begin + 1.05)  # its clock is that of the others all the same
    stage.robot.tick(stage.begin + 1.06)
    assert stage.sensors.read().record["state_stamp"] == pytest.approx(stage.begin + 1.06)


@pytest.mark.parametrize("pause", [0.04, 0.5])
def test_an_order_that_came_while_it_was_held_up_is_taken(airborne, pause):
    airborne.order(CLIMB, airborne.now + pause - 0.004)
    airborne.robot.tick(airborne.now + pause)
    assert airborne.told["refused"] == 0 and airborne.told["watchdog"] == "ok"


# Orders


def test_an_order_acts_on_the_step_in_which_it_came(stage):
    stage.run(0.1)
    stage.order(CLIMB)
    stage.run(DT)
    assert stage.robot.vehicle.truth().motor_speeds.min() > 0.0


def test_orders_of_before_it_was_there_count_for_nothing(tmp_path, make_stage):
    with SlotWriter(tmp_path, MOTORS, MOTORS_RECORD) as motors:
        record = np.zeros((), MOTORS_RECORD)
        record["values"], record["stamp"] = CLIMB, 1000.0
        motors.write(record)
    stage = make_stage()
    stage.run(0.1)
    assert stage.told["watchdog"] == "off" and stage.told["on_ground"]


@pytest.mark.parametrize(("values", "offset", "counter"), [
    ([math.nan, 0.0, 0.0, 0.0], 0.0, "not_finite"), (CLIMB, -0.2, "stale"), (CLIMB, 0.2, "future"),
])  # fmt: skip
def test_refused_orders_are_counted_and_told(airborne, values, offset, counter):
    airborne.order(values, airborne.now + offset)
    airborne.run(DT)
    told = airborne.told
    assert told["refused"] == 1 and told["counters"][counter] == 1 and "motor command" in told["refusal"]


def test_its_watchdog_levels_sinks_and_stops_without_orders(airborne):
    airborne.run(0.2)
    assert airborne.told["watchdog"] == "level"
    airborne.run(0.5)
    assert airborne.told["watchdog"] == "descending"
    airborne.run(4.0)
    assert airborne.told["on_ground"] and airborne.told["watchdog"] in ("off", "locked")


def test_a_crash_is_its_fault(airborne):
    airborne.run(1.0, CLIMB)
    airborne.run(3.0, np.zeros(4))
    assert airborne.told["crashed"] and airborne.sensors.read().record["fault"] == b"crashed into the ground"


# Its wire


def test_latencies_are_on_both_ways(make_stage):
    wire = QuadrotorWireConfig(state_latency=0.03, command_latency=0.05)
    stage = make_stage(wire=wire)
    found = stage.run(0.5)
    assert all(moment - record["state_stamp"] == pytest.approx(0.03, abs=DT + 1e-6) for moment, record in found)
    stage.order(CLIMB)
    stage.run(0.05)
    assert not np.any(stage.robot.vehicle.truth().motor_speeds)
    stage.run(DT)
    assert np.any(stage.robot.vehicle.truth().motor_speeds)


def test_jitter_keeps_the_order(make_stage):
    stage = make_stage(wire=QuadrotorWireConfig(state_latency=0.01, jitter=0.05))
    found = stage.run(2.0)
    stamps = [record["state_stamp"] for _, record in found]
    ages = [moment - record["state_stamp"] for moment, record in found]
    assert stamps == sorted(stamps) and max(ages) > 0.03 and min(ages) >= 0.01 - 1e-6


def test_a_share_of_samples_and_orders_is_lost(make_stage):
    stage = make_stage(wire=QuadrotorWireConfig(state_loss=0.5))
    assert len(stage.run(4.0)) == pytest.approx(200, abs=40)
    stage.set_wire(command_loss=1.0)
    stage.run(0.5, CLIMB)
    assert stage.told["on_ground"] and stage.told["watchdog"] == "off"
    stage.set_wire()
    assert len(stage.run(1.0)) == 100


def newest(stage, **changes):
    stage.set_wire(**changes)
    return stage.run(0.1)[-1][1]


@pytest.mark.parametrize(("changes", "field", "index", "expected"), [
    ({"nan_state": True}, "position", 0, math.nan), ({"inf_state": True}, "linear_velocity", 0, math.inf),
    ({"state_jump": 2.0}, "position", 0, 2.0),
])  # fmt: skip
def test_a_measurement_is_spoiled_until_the_wire_is_whole_again(stage, changes, field, index, expected):
    spoiled = newest(stage, **changes)
    assert spoiled[field][index] == pytest.approx(expected, nan_ok=True)
    assert np.isfinite(spoiled["attitude"]).all() and spoiled["position"][1:].tolist() == [0.0, 0.0]
    whole = newest(stage)
    assert whole[field].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("offset", [-0.3, 0.3])
def test_the_odometrys_stamps_are_wrong_and_the_inertial_sensors_are_not(stage, offset):
    record = newest(stage, stamp_offset=offset)
    assert record["state_stamp"] == pytest.approx(stage.now + offset)
    assert record["attitude_stamp"] == pytest.approx(stage.now)


@pytest.mark.parametrize(("frozen", "other"), [("state", "attitude"), ("attitude", "state")])
@pytest.mark.parametrize("seconds", [0.3, math.inf])
def test_a_sensor_falls_silent_for_a_while_and_the_other_goes_on(airborne, frozen, other, seconds):
    before = airborne.sensors.read().record[f"{frozen}_stamp"]
    airborne.set_wire(**{f"freeze_{frozen}": seconds})
    record = airborne.run(0.29, CLIMB)[-1][1]
    assert record[f"{frozen}_stamp"] == before and record[f"{other}_stamp"] == pytest.approx(
        airborne.now, abs=DT + 1e-6
    )
    record = airborne.run(0.1, CLIMB)[-1][1]
    assert (record[f"{frozen}_stamp"] == before) == math.isinf(seconds)
    airborne.set_wire()
    assert airborne.run(0.1, CLIMB)[-1][1][f"{frozen}_stamp"] > before + 0.4


def test_a_wire_with_an_endless_fault_travels_as_json():
    wire = QuadrotorWireConfig(freeze_state=math.inf, stamp_offset=-0.3, nan_state=True)
    assert from_json(QuadrotorWireConfig, to_json(wire)) == wire


# Its start


def test_it_stands_at_its_start_again_when_it_is_asked_to(make_stage):
    stage = make_stage(position=(1.0, -1.0, 0.0), yaw=0.5)
    stage.run(1.0, CLIMB)
    assert stage.sensors.read().record["position"][2] > 0.1
    record = records.new(records.SIMULATION_REQUEST)
    record["id"] = 7
    stage.requests.write(record)
    stage.run(DT)
    assert stage.client.simulation()["request_id"] == 7  # told at once
    found = stage.run(0.2)[-1][1]
    assert found["position"].tolist() == [1.0, -1.0, 0.0] and found["orientation"][3] == pytest.approx(np.sin(0.25))
    assert stage.told["watchdog"] == "off" and stage.told["on_ground"] and not stage.told["crashed"]


def test_a_vehicle_may_differ_from_its_description(tmp_path):
    config = QuadrotorSimulationConfig(folder=str(tmp_path), overrides={"mass": "0.05", "wind": "[1, 0, 0]"})
    assert config.numbers == {"mass": 0.05, "wind": [1, 0, 0]}
    assert from_json(QuadrotorSimulationConfig, to_json(config)) == config
    robot = SimulatedVehicle(config, 0.0)
    assert float(robot.vehicle.parameters.mass) == 0.05
    robot.close()


@pytest.mark.parametrize("changes", [{"overrides": {"mas": "1"}}, {"position": (0.0, 0.0, -1.0)}])
def test_what_cannot_be_simulated_is_refused(tmp_path, changes):
    with pytest.raises(ValueError, match="unknown parameter 'mas'|z at or above 0"):
        SimulatedVehicle(replace(QuadrotorSimulationConfig(folder=str(tmp_path)), **changes), 0.0)


def test_what_it_says_of_itself_fits_its_record(airborne):
    airborne.robot.vehicle._counters |= {f"counter{k}": 2**31 for k in range(20)}
    assert len(json.dumps(airborne.told["counters"])) < quadrotor_records.SIMULATION["json"].itemsize


def test_it_flies_on_when_its_memory_goes_and_speaks_to_the_next_one(tmp_path):
    folder = SlotFolder("robot", tmp_path)
    with folder:
        robot = SimulatedVehicle(QuadrotorSimulationConfig(folder=str(folder.path)), 0.0)
        robot.follow_memory()
        robot.tick(0.0)
    robot.follow_memory()
    robot.tick(0.02)
    with folder, SlotReader(folder.path, SENSORS, SENSORS_RECORD) as sensors:
        robot.follow_memory()
        robot.tick(0.04)
        assert sensors.read().record["state_stamp"] == pytest.approx(0.04)
        robot.close()
