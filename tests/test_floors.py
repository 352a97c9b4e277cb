"""The floors: a folder imports only from those below it, and the lower two need no simulator and no ROS."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("policies", "hardware", "sim", "robot_rl")
FORBIDDEN_BELOW = ("torch", "mujoco", "pybullet", "rclpy", "gymnasium")
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Every module that a file imports anywhere, also inside functions and under TYPE_CHECKING."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_file_imports_from_a_floor_above(path):
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    upwards = {name for name in imported(path) if name.split(".")[0] in FLOORS[floor + 1 :]}
    assert not upwards, f"{path} imports {sorted(upwards)}, which lie above it"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_the_nodes_import_rclpy_and_only_sim_and_above_import_torch(path):
    parts = path.relative_to(ROOT).parts
    roots = {name.split(".")[0] for name in imported(path)}
    if parts[:2] != ("robot_rl", "nodes"):
        assert "rclpy" not in roots
    if parts[0] in ("policies", "hardware"):
        assert not roots & set(FORBIDDEN_BELOW)


def test_imports_form_no_circle():
    names = {module_name(path) for path in FILES}
    edges = {module_name(path): {name for name in imported(path) if name in names} for path in FILES}
    done, trail = set(), []

    def visit(name):
        assert name not in trail, f"import circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name in done:
            return
        trail.append(name)
        for target in edges[name]:
            # `from package import module` names the package too, which may re-export this very module.
            if target != name and not name.startswith(f"{target}."):
                visit(target)
        trail.pop()
        done.add(name)

    for name in names:
        visit(name)
    assert done == names


def test_policies_and_hardware_load_neither_torch_nor_a_simulator_nor_ros():
    modules = [module_name(path) for path in FILES if path.relative_to(ROOT).parts[0] in ("policies", "hardware")]
    assert "hardware.safety.quadrotor" in modules
    program = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {FORBIDDEN_BELOW!r} if name in sys.modules]))\n"
    )
    result = run_clean(program)
    assert result == "[]"


@pytest.mark.parametrize(
    "module",
    [
        "robot_rl.control",
        *(f"robot_rl.planes.{name}" for name in ("control_process", "client")),
        *(f"robot_rl.planes.quadrotor_{name}" for name in ("control", "policy", "client", "processes")),
    ],
)
def test_the_control_process_needs_neither_torch_nor_ros(module):
    program = (
        f"import {module}, sys\n"
        "print([name for name in ('torch', 'rclpy', 'mujoco', 'pybullet') if name in sys.modules])"
    )
    assert run_clean(program) == "[]"


def run_clean(program):
    """Last line that a fresh interpreter prints for a program."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]
