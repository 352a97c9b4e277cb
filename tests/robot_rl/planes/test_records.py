"""Records carry what the processes tell each other without loss, and refuse what they have no room for."""

import numpy as np
import pytest

from policies.types import ArmSetpoint, CartesianTwist, JointPositions, JointTorques
from robot_rl.planes import records
from robot_rl.planes.settings import ControlConfig, PolicyConfig, SimulationConfig
from robot_rl.planes.wire import Wire
from robot_rl.rebuild import from_json, to_json


def stored(record):
    """As it comes out of shared memory."""
    return np.frombuffer(record.tobytes(), record.dtype)[0]


@pytest.mark.parametrize("command", [
    CartesianTwist(values=np.arange(6.0), frame="tool", gripper=-0.5),
    CartesianTwist(values=np.arange(6.0), frame="base", gripper=1.0),
    JointPositions(values=np.arange(7.0), gripper=0.0),
    JointTorques(values=-np.arange(7.0), gripper=0.25),
])  # fmt: skip
def test_commands_come_back(command):
    record = records.fill_command(records.new(records.command_dtype(7)), command, 12.5, 0.05)
    back = records.to_command(stored(record), 7)
    assert type(back) is type(command) and back.gripper == command.gripper
    assert back.values == pytest.approx(command.values)
    assert getattr(back, "frame", None) == getattr(command, "frame", None)
    assert record["stamp"] == 12.5 and record["period"] == 0.05 and record["held"]


def test_a_shorter_command_leaves_nothing_of_a_longer_one():
    record = records.new(records.command_dtype(7))
    records.fill_command(record, JointPositions(values=np.ones(7), gripper=0.0), 1.0, 0.1)
    records.fill_command(record, CartesianTwist(values=np.zeros(6), frame="base", gripper=0.0), 2.0, 0.1)
    assert records.to_command(stored(record), 7).values == pytest.approx(np.zeros(6))


def test_objects_come_back_by_name():
    poses = {"cube": np.arange(7.0), "peg": np.ones(7)}
    record = records.fill_objects(records.new(records.OBJECTS), poses, {"cube": 1.0, "peg": 2.0})
    found, stamps = records.to_objects(stored(record))
    assert list(found) == ["cube", "peg"] and stamps == {"cube": 1.0, "peg": 2.0}
    assert found["cube"] == pytest.approx(poses["cube"])


def test_what_has_no_room_is_refused():
    many = {f"object{k}": np.zeros(7) for k in range(records.MAX_OBJECTS + 1)}
    with pytest.raises(ValueError, match="room for"):
        records.fill_objects(records.new(records.OBJECTS), many, dict.fromkeys(many, 0.0))
    with pytest.raises(ValueError, match="longer than 48"):
        records.fill_objects(records.new(records.OBJECTS), {"x" * 49: np.zeros(7)}, {"x" * 49: 0.0})
    with pytest.raises(ValueError, match="parameters width"):
        records.fill_setpoint(records.new(records.SETPOINT), ArmSetpoint(parameters={"width": 0.1}))


def test_a_text_is_cut_between_letters():
    assert records.text(stored(np.array(records.encode("ä" * 200), "S240"))) == "ä" * 120
    odd = np.array(records.encode("a" + "ä" * 200), "S240")
    assert records.text(odd.item()) == "a" + "ä" * 119


@pytest.mark.parametrize("config", [
    ControlConfig(robot="ur5e", driver_settings={"host": "1.2.3.4"}, envelope={"blend_time": 0.1}),
    PolicyConfig(bundle="arm-push"),
    SimulationConfig(folder="/x"),
])  # fmt: skip
def test_configs_travel_as_json(config):
    assert from_json(type(config), to_json(config)) == config


def test_a_config_with_a_wrong_field_names_it():
    with pytest.raises(ValueError, match="ControlConfig has no field 'rate'"):
        from_json(ControlConfig, '{"rate": 500}')
    with pytest.raises(ValueError, match=r"ControlConfig\.rate_hz is '500'; expected float"):
        from_json(ControlConfig, '{"rate_hz": "500"}')


def test_a_wire_delays_keeps_the_order_and_loses_its_share():
    wire = Wire(np.random.default_rng(0))
    for k in range(2000):
        wire.send(k, 0.001 * k, latency=0.01, jitter=0.005, loss=0.25)
    assert wire.receive(0.0099) == []
    early = wire.receive(1.0)
    rest = wire.receive(10.0)
    assert early + rest == sorted(early + rest)
    assert len(early + rest) == pytest.approx(1500, abs=80)
    assert max(early) <= 990 and max(early) >= 980
