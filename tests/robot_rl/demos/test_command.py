"""The commands that look at data need neither torch nor a simulator."""

import subprocess
import sys

import pytest

LIGHT = (
    "import sys\n"
    "class Refuse:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.split('.')[0] in ('torch', 'gymnasium', 'mujoco', 'matplotlib', 'rclpy', 'pandas'):\n"
    "            raise ModuleNotFoundError(name)\n"
    "sys.meta_path.insert(0, Refuse())\n"
    "from robot_rl.cli import main\n"
    "sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.parametrize("command", ["list", "check", "score", "trim", "convert"])
def test_data_are_looked_at_without_a_simulator(command, record_set, tmp_path):
    options = {"trim": ["--start", "0.5", "--out", tmp_path / "out"]}
    options["convert"] = ["--to", "robomimic", "--out", tmp_path / "demos.hdf5"]
    arguments = ["demos", command, record_set(4, noise=0.2), *options.get(command, [])]
    result = subprocess.run([sys.executable, "-c", LIGHT, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout


def test_what_is_not_installed_is_named_with_the_way_to_install_it(record_set, monkeypatch, capsys):
    import importlib.util

    from robot_rl import cli

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "h5py" else found(name, *rest))
    assert cli.main(["demos", "convert", str(record_set(2)), "--to", "gymnasium", "--out", "nowhere-v0"]) == 2
    assert "needs h5py; install with: pip install 'robot_rl[demos]'" in capsys.readouterr().err
