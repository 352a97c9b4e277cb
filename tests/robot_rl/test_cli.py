"""The command line: fast, lazy, and plain about what is wrong."""

import json
import os
import subprocess
import sys
import time

import pytest

from robot_rl import cli, listing
from robot_rl.errors import UserError, require_packages, unknown_name


def run(*arguments, code=None, env=None):
    """Run the command line in a clean interpreter."""
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "robot_rl.cli"]
    environment = os.environ | (env or {})
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, env=environment)


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from robot_rl.cli import main; status = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'rclpy', 'mujoco', 'matplotlib', 'tyro'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else status)"
    )
    result = run(code=code)
    assert result.returncode == 0, result.stderr
    for name in cli.COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("command", ["list", "up"])
def test_commands_of_a_robot_need_no_torch(command):
    if command == "up":
        pytest.importorskip("rclpy")
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'gymnasium', 'mujoco', 'matplotlib', 'onnx'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from robot_rl.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = {"list": ["list"], "up": ["up", "quadrotor", "--list"]}[command]
    result = run(*arguments, code=code)
    assert result.returncode == 0, result.stderr
    assert "quadrotor" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "did you mean 'train'?"),
        (["fly-to-the-moon"], "commands: train, eval"),
        (["report", "/nonexistent"], "there is no episode-*.mcap"),
    ],
)
def test_user_errors_are_one_sentence_and_status_2(arguments, words, capfd):
    assert cli.main(arguments) == 2
    out, err = capfd.readouterr()
    assert words in err and err.startswith("robot-rl: error: ") and err.count("\n") == 1
    assert "Traceback" not in err and out == ""


@pytest.mark.parametrize("arguments", [["list", "--jsn"], ["report"], ["report", "x", "--animation.width", "wide"]])
def test_arguments_that_do_not_parse_end_with_status_2(arguments, capfd):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "Traceback" not in capfd.readouterr().err


def test_without_arguments_the_help_is_shown_as_a_usage_error(capsys):
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: robot-rl COMMAND")


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("robot_rl ")


def test_list_as_json_names_what_exists(capsys):
    assert cli.main(["list", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"quadrotor-hover", "quadrotor-track"} <= {entry["name"] for entry in data["tasks"]}
    assert "crazyflie" in {entry["name"] for entry in data["robots"]}
    learned = {"apg", "ppo", "ppo-lagrangian"}
    imitated = {"bc", "bc-rnn", "act", "diffusion", "consistency"}
    assert {entry["name"] for entry in data["algorithms"]} == learned | imitated
    for entries in data.values():
        assert all(entry["summary"] and entry["path"] for entry in entries)


def test_list_finds_bundles_of_runs(tmp_path, capsys):
    bundle = tmp_path / "a" / "bundle"
    bundle.mkdir(parents=True)
    manifest = {"task": "quadrotor-hover", "control_rate_hz": 100.0, "evaluation": {"crash_rate": 0.001}}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    assert cli.main(["list", "--runs", str(tmp_path), "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["bundles"]}
    assert entries[str(bundle)]["summary"] == "quadrotor-hover at 100 Hz, crashes 0.1%"
    assert entries[str(broken)]["summary"] == "manifest.json cannot be read"


def test_listed_tasks_are_those_that_the_simulator_makes():
    pytest.importorskip("torch")
    import sim

    listed = {entry.name for entry in listing.list_tasks()}
    assert listed == set(sim.list_tasks())


def test_wrong_names_show_the_nearest_and_the_alternatives():
    with pytest.raises(UserError, match="did you mean 'quadrotor-hover'"):
        listing.check_task("quadrotor-hovr")
    assert listing.check_task("quadrotor-track") == "quadrotor-track"
    assert "known: a, b" in str(unknown_name("thing", "zzz", ["b", "a"]))
    assert "known: none" in str(unknown_name("thing", "zzz", []))


def test_a_missing_package_is_named_with_the_pip_command():
    with pytest.raises(
        UserError, match=r"robot-rl fly needs no_such_module; install with: pip install 'robot_rl\[x\]'"
    ):
        require_packages("robot-rl fly", "x", ["json", "no_such_module"])
    require_packages("robot-rl fly", "x", ["json"])


def test_interruption_is_one_line_and_status_130(monkeypatch, capsys):
    def interrupted(_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == "robot-rl: interrupted\n"


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    def broken(_arguments):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(cli, "_dispatch", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["list"])


def test_a_value_error_says_how_to_see_its_origin(monkeypatch, capsys):
    def refused(_arguments):
        raise ValueError("mass is -1 kg; it must be above 0")

    monkeypatch.setattr(cli, "_dispatch", refused)
    monkeypatch.delenv("ROBOT_RL_TRACEBACK", raising=False)
    assert cli.main(["list"]) == 2
    assert "mass is -1 kg; it must be above 0 (ROBOT_RL_TRACEBACK=1" in capsys.readouterr().err
    monkeypatch.setenv("ROBOT_RL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="mass"):
        cli.main(["list"])


def test_help_is_fast():
    best = min(_seconds() for _ in range(3))
    assert best < 1.0


def _seconds():
    begin = time.monotonic()
    assert run("--help").returncode == 0
    return time.monotonic() - begin
