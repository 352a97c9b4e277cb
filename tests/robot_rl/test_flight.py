"""A recorded flight is read, refused or measured correctly."""

import json

import numpy as np
import pytest

from robot_rl.errors import UserError
from robot_rl.flight import FigureEight, figure_eight_rmse, load_flight, load_timing, measure_phases

RATE = 100.0


def arrays(offset_in_figure=0.05, start=1.7e9):
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


def save(folder, data):
    np.savez(folder / "flight.npz", **data)
    return folder


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.pop("position"), "'position' is missing"),
        (
            lambda data: data.update(orientation=data["orientation"][:, :3]),
            r"'orientation' has shape \(2000, 3\)",
        ),
        (lambda data: data.update(phase=data["phase"] + 1), "phase 3 has no name"),
        (lambda data: [data.update({k: v[:1]}) for k, v in data.items() if k != "phase_names"], "1 samples"),
    ],
)
def test_a_broken_flight_is_refused_with_the_reason(tmp_path, change, words):
    data = arrays()
    change(data)
    with pytest.raises(UserError, match=words):
        load_flight(save(tmp_path, data))


def test_a_folder_without_a_flight_says_so(tmp_path):
    with pytest.raises(UserError, match=r"flight\.npz is missing"):
        load_flight(tmp_path)


def test_a_flight_with_pickled_objects_is_not_loaded(tmp_path):
    data = arrays() | {"phase_names": np.array([object()], dtype=object)}
    with pytest.raises(ValueError, match="pickle"):
        load_flight(save(tmp_path, data))


def test_timing_is_optional_but_must_be_readable(tmp_path):
    assert load_timing(tmp_path) == {}
    used, unused = {"counts": [1], "edges_us": [0, 10]}, {"counts": [], "edges_us": [0]}
    written = {"simulator_step": used, "idle": unused, "policy_step": used, "note": 3}
    (tmp_path / "timing.json").write_text(json.dumps(written))
    assert list(load_timing(tmp_path)) == ["policy_step", "simulator_step"]
    (tmp_path / "timing.json").write_text('{"a": ')
    with pytest.raises(UserError, match="not JSON"):
        load_timing(tmp_path)
