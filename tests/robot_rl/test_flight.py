"""A recorded flight is read, refused or measured correctly."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from flights import ROTORS, write_flight

from hardware.descriptions import load_description
from robot_rl.errors import UserError
from robot_rl.flight import FigureEight, figure_eight_rmse, load_flight, load_timing, measure_phases

RATE = 100.0


def arrays(offset_in_figure=0.05, start=50.0):
    """Hover 3 s, figure-eight 15 s with a constant offset along x, landing 2 s; no set-point for 0.2 s."""
    time = np.arange(0.0, 20.0, 1.0 / RATE)
    phase = np.digitize(time, [3.0, 18.0])
    setpoint = np.stack([np.sin(time), np.cos(time), np.ones_like(time)], axis=-1)
    position = setpoint + np.where(phase == 1, offset_in_figure, 0.01)[:, None] * [1.0, 0.0, 0.0]
    orientation = np.tile([1.0, 0.0, 0.0, 0.0], (len(time), 1))
    data = {
        "time": start + time,
        "position": position,
        "orientation": orientation,
        "linear_velocity": np.gradient(position, time, axis=0),
        "angular_velocity": np.zeros_like(position),
        "setpoint_position": setpoint,
        "setpoint_velocity": np.gradient(setpoint, time, axis=0),
        "motor_commands": np.full((len(time), 4), 1800.0),
        "phase": phase.astype(np.uint8),
        "phase_names": np.array(["hover", "figure_eight", "landing"]),
    }
    data["setpoint_position"][:20] = np.nan
    data["motor_commands"][:20] = np.nan
    return data


def save(folder, data, **options):
    return write_flight(folder, data, **options)


def test_phases_are_measured_by_their_own_errors(tmp_path):
    flight = load_flight(save(tmp_path, arrays(offset_in_figure=0.05)))
    phases = measure_phases(flight)
    assert [phase.name for phase in phases] == ["hover", "figure_eight", "landing"]
    assert [phase.rmse for phase in phases] == pytest.approx([0.01, 0.05, 0.01], rel=1e-6)
    assert [phase.duration for phase in phases] == pytest.approx([3.0, 15.0, 1.99], abs=1e-3)
    assert phases[0].top_speed == pytest.approx(1.0, rel=0.1)


def test_figure_eight_counts_two_periods_after_the_ramp_only(tmp_path):
    data = arrays(offset_in_figure=0.0)
    time = data["time"] - data["time"][0]
    error = np.where((time >= 5.0) & (time < 16.0), 0.03, 0.7)  # 3 s hover, then 2 s ramp, then 2 x 5.5 s
    data["position"] = np.nan_to_num(data["setpoint_position"]) + error[:, None] * [0.0, 0.0, 1.0]
    flight = load_flight(save(tmp_path, data))
    assert figure_eight_rmse(flight) == pytest.approx(0.03, rel=1e-6)
    assert figure_eight_rmse(flight, FigureEight(ramp=0.0)) > 0.1


def test_a_figure_eight_that_was_cut_short_has_no_score(tmp_path):
    data = {key: value if key == "phase_names" else value[:1000] for key, value in arrays().items()}
    assert np.isnan(figure_eight_rmse(load_flight(save(tmp_path, data))))


def test_time_starts_at_zero_and_always_advances(tmp_path):
    data = arrays()
    data["time"][500:510] = data["time"][500]
    data["time"][700] -= 1.0
    flight = load_flight(save(tmp_path, data))
    assert flight.time[0] == 0.0
    assert np.all(np.diff(flight.time) > 0)
    assert len(flight.time) == len(data["time"]) - 9 - 1
    assert len(flight.position) == len(flight.time) == len(flight.phase)


def test_a_flight_comes_back_as_it_was_flown(tmp_path):
    data = {key: value if key == "phase_names" else value[::20] for key, value in arrays().items()}
    angle = 0.3 * np.sin(np.arange(len(data["time"])))
    data["orientation"] = np.stack([np.cos(angle), 0 * angle, np.sin(angle), 0 * angle], -1)
    data["angular_velocity"] = np.random.default_rng(0).normal(size=(len(angle), 3))
    flight = load_flight(save(tmp_path, data, namespace="/cf1"))
    np.testing.assert_allclose(flight.time, data["time"] - data["time"][0], atol=1e-6)
    for key in ("position", "orientation", "linear_velocity", "angular_velocity", "motor_commands"):
        np.testing.assert_allclose(getattr(flight, key), data[key], atol=1e-9, err_msg=key)
    np.testing.assert_allclose(flight.setpoint_position, data["setpoint_position"], atol=1e-9)
    assert [flight.phase_names[number] for number in flight.phase] == [data["phase_names"][n] for n in data["phase"]]
    assert np.isnan(flight.setpoint_position[0]).all(), "made up before the first message"


def test_motors_are_in_the_order_of_the_robot(tmp_path):
    data = {key: value if key == "phase_names" else value[100:110] for key, value in arrays().items()}
    data["motor_commands"] = np.tile([1.0, 2.0, 3.0, 4.0], (10, 1))
    assert load_description("crazyflie").interface.actuators == ROTORS
    flight = load_flight(save(tmp_path / "a", data, robot="crazyflie"))
    assert flight.motor_commands[-1].tolist() == [1.0, 2.0, 3.0, 4.0]
    unknown = load_flight(save(tmp_path / "b", data))
    assert unknown.motor_commands[-1].tolist() == [4.0, 3.0, 2.0, 1.0], "as in the message"


def test_the_last_flight_of_a_folder_or_a_file_of_it(tmp_path):
    for seconds in (3, 5):
        count = int(seconds * RATE)
        save(tmp_path, {key: value if key == "phase_names" else value[:count] for key, value in arrays().items()})
    assert load_flight(tmp_path).time[-1] == pytest.approx(4.99)
    assert load_flight(tmp_path / "episode-000000.mcap").time[-1] == pytest.approx(2.99)


def test_a_flight_that_was_cut_off_is_read_up_to_there(tmp_path):
    save(tmp_path, arrays())
    path = tmp_path / "episode-000000.mcap"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    flight = load_flight(tmp_path)
    assert 3.0 < flight.time[-1] < 15.0


def test_what_is_no_flight_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UserError, match=r"there is no episode-\*\.mcap"):
        load_flight(tmp_path)
    short = {key: value if key == "phase_names" else value[:1] for key, value in arrays().items()}
    with pytest.raises(UserError, match="has 1 samples of odometry"):
        load_flight(save(tmp_path, short))


def test_timing_is_optional_but_must_be_readable(tmp_path):
    data = {key: value if key == "phase_names" else value[:5] for key, value in arrays().items()}
    assert load_timing(save(tmp_path / "a", data)) == {}
    used, unused = {"counts": [1], "edges_us": [0, 10]}, {"counts": [], "edges_us": [0]}
    written = {"topics_lateness": used, "control_work": used, "idle": unused, "policy_step": used, "note": "3"}
    found = load_timing(save(tmp_path / "b", data, timing=written))
    assert list(found) == ["policy_step", "control_work", "topics_lateness"] and found["policy_step"] == used
    with pytest.raises(UserError, match="not JSON"):
        load_timing(save(tmp_path / "c", data, timing={"a": '{"a": '}))
