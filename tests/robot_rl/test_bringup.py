import ast
from pathlib import Path

import pytest
import yaml

from hardware.drivers.quadrotor import QUADROTOR_DRIVERS
from hardware.drivers.registry import DRIVERS
from robot_rl.bringup import (
    EXECUTABLES,
    BringupError,
    load_bringup,
    node_arguments,
    node_parameters,
    parse,
    references,
    selected,
    to_text,
)
from robot_rl.paths import find_shared

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quadrotor():
    return load_bringup("quadrotor")


def test_defaults_survive_the_way_through_text(quadrotor):
    """ros2 launch hands every value over as text."""
    texts = [f"{name}:={to_text(argument.default)}" for name, argument in quadrotor.arguments.items()]
    assert parse(quadrotor, texts) == parse(quadrotor, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("height:=2", 2.0),
        ("auto_arm:=true", True),
        ("seed:=7", 7),
        ("position:=[1, 2, 3]", [1.0, 2.0, 3.0]),
        ("policy:=123", "123"),
        ("overrides:=[mass=0.03]", ["mass=0.03"]),
    ],
)
def test_values_take_the_type_of_the_default(quadrotor, text, value):
    found = parse(quadrotor, [text])[text.partition(":=")[0]]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("polisy:=x", "did you mean 'policy'"),
        ("height:=fast", "expected float"),
        ("auto_arm:=maybe", "expected true or false"),
        ("seed:=1.5", "expected int"),
        ("setpoint:=loop", "choose from hover, figure-eight"),
        ("policy", "name:=value"),
    ],
)
def test_wrong_arguments_are_refused(quadrotor, text, complaint):
    with pytest.raises(BringupError, match=complaint):
        parse(quadrotor, [text])


def test_arguments_choose_the_nodes(quadrotor):
    def names(*texts):
        values = parse(quadrotor, list(texts))
        return [node.name for node in quadrotor.nodes if selected(node, values)]

    assert names() == ["supervisor", "sim", "policy", "setpoint"]
    assert names("driver:=topics", "setpoint:=none") == ["supervisor", "topics", "policy"]
    assert names("driver:=mavlink", "setpoint:=none") == ["supervisor", "policy"]
    assert names("device:=gamepad", "record:=here")[-2:] == ["teleop", "recorder"]


def test_simulated_time_reaches_the_nodes_that_may_follow_it():
    record = load_bringup("record")
    values = parse(record, ["use_sim_time:=true"])
    assert all(node_parameters(node, values)["use_sim_time"] is True for node in record.nodes)
    for name in ("quadrotor", "arm"):  # their control processes run in real time
        with pytest.raises(BringupError, match="use_sim_time"):
            parse(load_bringup(name), ["use_sim_time:=true"])


@pytest.mark.parametrize("name", ["quadrotor", "arm", "teleop"])
def test_every_argument_is_described_and_used(name):
    bringup = load_bringup(name)
    used = {name for node in bringup.nodes for name in (*references(node), *node.when, *node.unless)}
    by_the_launcher = {"namespace", "log_level", "params_file"} | ({"use_sim_time"} & set(bringup.arguments))
    assert set(bringup.arguments) == used | by_the_launcher
    assert all(argument.description.endswith(".") for argument in bringup.arguments.values())


def test_an_arm_comes_up_with_the_nodes_that_its_arguments_ask_for():
    arm = load_bringup("arm")

    def names(*texts):
        values = parse(arm, list(texts))
        return [node.name for node in arm.nodes if selected(node, values)]

    assert names() == ["supervisor", "sim", "policy", "setpoint"]
    assert names("driver:=ur", "policy:=") == ["supervisor", "setpoint"]
    assert "ros2_control" in names("driver:=ros2_control")
    assert names("device:=gamepad", "rviz:=true")[-3:] == ["teleop", "robot_state_publisher", "rviz2"]


def test_an_arm_s_drivers_are_those_of_the_registry():
    assert set(load_bringup("arm").arguments["driver"].choices) <= set(DRIVERS)


def test_a_quadrotor_s_drivers_are_all_that_there_are(quadrotor):
    assert quadrotor.arguments["driver"].choices == QUADROTOR_DRIVERS
    assert set(QUADROTOR_DRIVERS) <= set(DRIVERS)


def test_a_quadrotor_is_shown_in_rviz_where_it_is_asked_for(quadrotor):
    shown = next(node for node in quadrotor.nodes if node.name == "rviz2")
    assert selected(shown, parse(quadrotor, ["rviz:=true"])) and not selected(shown, parse(quadrotor, []))
    view = yaml.safe_load(Path(node_arguments(shown)[1]).read_text())["Visualization Manager"]
    assert view["Global Options"]["Fixed Frame"] == "odom"
    assert [each["Topic"]["Value"] for each in view["Displays"] if "Topic" in each] == ["odom"]


def test_what_is_shown_in_rviz_is_the_arm_s_urdf():
    arm = load_bringup("arm")
    shown = next(node for node in arm.nodes if node.name == "robot_state_publisher")
    urdf = node_parameters(shown, parse(arm, ["robot:=ur5e"]))["robot_description"]
    assert "shoulder_pan_joint" in urdf
    with pytest.raises(BringupError, match="known robots"):
        node_parameters(shown, parse(arm, ["robot:=nobody"]))
    words = node_arguments(next(node for node in arm.nodes if node.name == "rviz2"))
    assert words[0] == "-d" and Path(words[1]).is_file()


def test_every_executable_exists_and_may_be_executed():
    folder = ROOT / "robot_rl" / "nodes" / "bin"
    assert {path.name for path in folder.iterdir() if path.is_file()} == set(EXECUTABLES)
    for name, module in EXECUTABLES.items():
        path = folder / name
        assert path.stat().st_mode & 0o111, f"{path} has no exec bit"
        assert f'start("{module}")' in path.read_text()
        assert (ROOT / "robot_rl" / "nodes" / f"{module}.py").is_file()


def test_mistakes_in_a_configuration_are_named(tmp_path):
    data = yaml.safe_load(find_shared("config/quadrotor.yaml").read_text())
    data["nodes"][0]["parameters"]["seed"] = "$(sead)"
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(BringupError, match="supervisor refers to an argument 'sead'"):
        load_bringup(path)
    data["nodes"][0]["executable"] = "autopilot"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(BringupError, match="no executable 'autopilot'"):
        load_bringup(path)
    with pytest.raises(BringupError, match="called 'quadcopter'; known: arm, quadrotor, record, teleop"):
        load_bringup("quadcopter")


def test_launch_files_only_define():
    """Nothing runs when ROS 2's launch imports the file."""
    for path in sorted((ROOT / "launch").glob("*.launch.py")):
        kinds = {type(statement) for statement in ast.parse(path.read_text()).body}
        assert kinds <= {ast.Expr, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign}, path
        assert "generate_launch_description" in path.read_text()
