"""Descriptions of quadrotors: complete, sourced, physical, and wrong ones say what is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from hardware.descriptions import list_descriptions, load_description, load_quadrotor, quadrotor
from policies.actions import ACTIONS
from policies.types import QuadrotorState

FOLDER = Path(quadrotor.__file__).parent
each_robot = pytest.mark.parametrize(
    "name", [name for name in list_descriptions() if load_description(name).interface.kind == "quadrotor"]
)


def read(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


@pytest.fixture
def write(tmp_path):
    """Write a changed crazyflie to a file and give its path."""

    def change_and_write(change):
        data = read("crazyflie")
        change(data)
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return change_and_write


def test_the_crazyflie_is_what_it_is():
    robot = load_description("crazyflie")
    assert "crazyflie" in list_descriptions()
    assert robot.interface.kind == "quadrotor"
    # M1 to M4 of the vehicle and of CONTRACT.md.
    assert robot.interface.actuators == ("front_right", "back_right", "back_left", "front_left")
    # Yaw signs and arm of references/quadrotor.md, "Conventions".
    np.testing.assert_array_equal(robot.parameters["rotor_yaw_signs"], [-1, 1, -1, 1])
    np.testing.assert_allclose(np.hypot(*robot.parameters["rotor_positions"][:, :2].T), 0.0397, rtol=0.01)
    assert 0.025 <= robot.parameters["mass"] <= 0.045


@each_robot
def test_rotor_positions_match_their_names(name):
    robot = load_description(name)
    for motor, (x, y, _) in zip(robot.interface.actuators, robot.parameters["rotor_positions"], strict=True):
        end, side = motor.split("_")
        assert (x > 0) == (end == "front")
        assert (y > 0) == (side == "left")


@each_robot
def test_every_parameter_has_value_unit_and_source(name):
    for key, entry in read(name)["parameters"].items():
        assert set(entry) == {"value", "unit", "source"}, key
        units = entry["unit"] if isinstance(entry["unit"], list) else [entry["unit"]]
        assert all(isinstance(unit, str) and unit for unit in units), key
        assert len(entry["source"]) > 10, key
    assert load_description(name).sources == {k: v["source"] for k, v in read(name)["parameters"].items()}


@each_robot
def test_values_are_physical(name):
    p = load_description(name).parameters
    assert all(value.dtype == np.float64 for value in p.values())
    for key in ("mass", "inertia", "yaw_torque_ratio", "rise_time", "fall_time", "max_speed"):
        assert (p[key] > 0).all(), key
    # The triangle inequality of principal moments.
    assert p["inertia"].max() <= p["inertia"].sum() - p["inertia"].max()
    assert sorted(p["rotor_yaw_signs"]) == [-1, -1, 1, 1]
    thrust = np.polyval(p["thrust_coefficients"][::-1], p["max_speed"])
    assert 4 * thrust > 1.2 * 9.81 * p["mass"], "it cannot fly"
    assert 0 <= p["battery_sag"] < 1
    np.testing.assert_allclose(p["rotor_positions"].mean(0), 0.0, atol=1e-9)


@each_robot
def test_the_interface_gives_limits_rates_signals_and_commands(name):
    robot = load_description(name)
    interface = robot.interface
    assert interface.name == name
    assert interface.limits == {"speed": ((0.0, float(robot.parameters["max_speed"])),) * 4}
    assert min(interface.state_rate_hz, interface.command_rate_hz) > 0
    assert set(interface.signals) <= set(QuadrotorState.__dataclass_fields__)
    assert set(interface.commands) <= set(ACTIONS)
    assert isinstance(interface.actuators, tuple) and isinstance(interface.signals, tuple)


def test_who_needs_a_quadrotor_gets_one_or_is_told():
    assert load_quadrotor("crazyflie").interface == load_description("crazyflie").interface
    with pytest.raises(ValueError, match="panda is an arm; a quadrotor is needed"):
        load_quadrotor("panda")


def test_a_description_is_loaded_from_a_path_of_either_kind(write):
    path = write(lambda data: data.update(name="mine"))
    assert load_description(path).interface.name == "mine"
    assert load_description(str(path)).interface.name == "mine"


def test_an_unknown_robot_lists_those_that_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="no robot description 'crazyfly'.*crazyflie.*path of a .yaml"):
        load_description("crazyfly")
    with pytest.raises(FileNotFoundError):
        load_description(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("key", quadrotor.SHAPES)
def test_a_missing_parameter_and_a_wrong_shape_are_named(write, key):
    with pytest.raises(ValueError, match=f"changed.yaml: parameter '{key}' is missing"):
        load_description(write(lambda data: data["parameters"].pop(key)))
    with pytest.raises(ValueError, match=f"changed.yaml: parameter '{key}' has shape"):
        load_description(write(lambda data: data["parameters"][key].update(value=[[1.0, 2.0]])))
    with pytest.raises(ValueError, match=f"parameter '{key}' has shape.*not finite"):
        load_description(
            write(
                lambda data: data["parameters"][key].update(
                    value=np.full(np.shape(data["parameters"][key]["value"]), np.nan).tolist()
                )
            )
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["parameters"].update(mas=d["parameters"].pop("mass")), "'mas'; did you mean 'mass'?"),
        (lambda d: d["parameters"].update(zzz={}), "unknown parameter 'zzz'"),
        (lambda d: d["parameters"]["mass"].pop("unit"), "mass field 'unit' is missing"),
        (lambda d: d["parameters"]["mass"].pop("source"), "mass field 'source' is missing"),
        (lambda d: d["parameters"]["mass"].update(sourc="x"), "mass field 'sourc'; did you mean 'source'?"),
        (lambda d: d["parameters"].update(mass=0.03), "mass fields are 0.03; expected a mapping"),
        (lambda d: d["parameters"]["mass"].update(value="heavy"), "could not convert string to float"),
        (lambda d: d.pop("parameters"), "field 'parameters' is missing"),
        (lambda d: d.pop("motors"), "field 'motors' is missing"),
        (lambda d: d.update(signal=[]), "unknown field 'signal'; did you mean 'signals'?"),
        (lambda d: d.update(kind="boat"), "kind is 'boat'; supported: 'quadrotor', 'arm'"),
        (lambda d: d.pop("kind"), "kind is None"),
        (lambda d: d.update(motors=["a", "b"]), "motors are ['a', 'b']; a quadrotor has 4"),
        (lambda d: d.update(state_rate_hz="often"), "could not convert string to float: 'often'"),
    ],
)  # fmt: skip
def test_wrong_files_name_the_file_and_what_is_wrong(write, change, message):
    with pytest.raises(ValueError, match=r"changed\.yaml: .*" + re.escape(message)):
        load_description(write(change))


@pytest.mark.parametrize("text", ["", "- a\n- b", "just text", "a: [", "kind: !!python/object/apply:os.getcwd []"])
def test_files_that_are_no_mapping_are_refused_and_nothing_in_them_runs(tmp_path, text):
    path = tmp_path / "junk.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"junk\.yaml: "):
        load_description(path)


def test_a_simulation_takes_what_is_described_in_still_air():
    robot = load_quadrotor("crazyflie")
    values = quadrotor.simulated_parameters(robot)
    for name, value in robot.parameters.items():
        np.testing.assert_array_equal(values[name], np.broadcast_to(value, values[name].shape))
    assert values["thrust_coefficients"].shape == (4, 3)
    assert float(values["gravity"]) == 9.81 and float(values["supply"]) == 1.0
    assert not any(np.any(values[name]) for name in ("wind", "external_force", "external_torque"))


def test_a_simulation_may_differ_from_its_description():
    robot = load_quadrotor("crazyflie")
    curve = np.arange(12.0).reshape(4, 3)
    given = {"mass": 0.05, "wind": [1, 0, 0], "thrust_coefficients": curve, "battery_sag": 0.1}
    values = quadrotor.simulated_parameters(robot, given)
    assert {name: values[name].tolist() for name in given} == {**given, "thrust_coefficients": curve.tolist()}
    same = quadrotor.simulated_parameters(robot, {"thrust_coefficients": [0, 1, 2]})["thrust_coefficients"]
    np.testing.assert_array_equal(same, [[0, 1, 2]] * 4)
    assert float(robot.parameters["mass"]) != 0.05  # the description stays


@pytest.mark.parametrize(("overrides", "words"), [
    ({"weight": 1.0}, "unknown parameter 'weight'; known: .*mass"),
    ({"mass": np.nan}, "'mass' is nan; expected finite values"),
    ({"drag": 1.0}, r"'drag' is 1.0; expected finite values of shape \(3,\)"),
    ({"mass": "heavy"}, "'mass' is 'heavy'; expected numbers"),
    ({"wind": [1, [2]]}, "expected numbers"),
    ({"mass": None}, "'mass' is "),
    ({"battery_sag": 1.0}, "expected a fraction from 0 to below 1"),
    ({"battery_sag": -0.1}, "expected a fraction from 0 to below 1"),
])  # fmt: skip
def test_a_wrong_difference_is_named(overrides, words):
    with pytest.raises(ValueError, match=words):
        quadrotor.simulated_parameters(load_quadrotor("crazyflie"), overrides)
