"""Exported policies do what their bundles do, and refuse what they cannot."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from onnx import helper
from random_bundles import ARM, DIFFERENCE, MOTORS, QUADROTOR, TWIST

from policies.actions import ActionConfig
from policies.bundle import list_zoo, read_manifest
from policies.terms import TermConfig
from robot_rl import cli
from robot_rl.errors import UserError
from robot_rl.export_c.compiled import WARNINGS, CompiledPolicy, compare, compile_library
from robot_rl.export_c.layout import unflatten
from robot_rl.export_c.samples import random_rows
from robot_rl.export_c.terms import TERMS
from robot_rl.export_c.writer import write_c

MATH = {"sqrtf", "atan2f", "rintf", "fmaxf", "fminf", "fabsf", "tanhf", "expf", "logf", "erff"}
OF_GCC = {"memcpy", "memmove", "memset"}


def export(bundle, folder, compiler):
    """The compiled policy of a bundle."""
    library = compile_library(write_c(bundle, folder, vectors=16), compiler)
    return CompiledPolicy(library, read_manifest(bundle)[1])


@pytest.fixture(scope="module")
def track(tmp_path_factory, compiler):
    """quadrotor-track in C."""
    return export("quadrotor-track", tmp_path_factory.mktemp("c") / "track", compiler)


def test_ten_thousand_random_states_give_the_commands_of_the_bundle(track):
    assert track.boot_test() <= 1e-5
    assert compare(track, "quadrotor-track", episodes=200, steps=50) <= 1e-5


@pytest.mark.parametrize("name", [name for name in list_zoo() if name != "quadrotor-track"])
@pytest.mark.slow
def test_shipped_bundles_run_in_c(name, tmp_path, compiler):
    compiled = export(name, tmp_path / "c", compiler)
    assert compiled.boot_test() <= 1e-5
    assert compare(compiled, name, episodes=20, steps=20) <= 1e-5


@pytest.mark.parametrize(("terms", "action"), [(QUADROTOR, MOTORS), (ARM, TWIST)], ids=["quadrotor", "arm"])
def test_every_term_is_that_of_the_runtime(terms, action, make_bundle, tmp_path, compiler):
    bundle = make_bundle(terms, action)
    compiled = export(bundle, tmp_path / "c", compiler)
    assert compiled.boot_test() <= 1e-5
    assert compare(compiled, bundle, episodes=40, steps=10) <= 1e-5


def test_the_terms_above_are_all_that_there_are():
    from policies import observations

    assert {term.name for term in (*QUADROTOR, *ARM)} == set(TERMS) == set(observations.TERMS)


MIDDLES = {
    "elu": ([helper.make_node("Elu", ["h"], ["m"], alpha=0.7)], {}),
    "leaky": ([helper.make_node("LeakyRelu", ["h"], ["m"], alpha=0.1)], {}),
    "silu": ([helper.make_node("Sigmoid", ["h"], ["s"]), helper.make_node("Mul", ["h", "s"], ["m"])], {}),
    "softplus": ([helper.make_node("Softplus", ["h"], ["m"])], {}),
    "gelu": (
        [helper.make_node("Div", ["h", "root"], ["d"]), helper.make_node("Erf", ["d"], ["e"]),
         helper.make_node("Add", ["e", "unit"], ["a"]), helper.make_node("Mul", ["h", "a"], ["m"])],
        {"root": np.float32(2.0**0.5), "unit": np.ones(1, np.float32)},
    ),
    "norm, no bias": (
        [helper.make_node("LayerNormalization", ["h", "scale"], ["m"], axis=-1)],
        {"scale": np.linspace(0.5, 1.5, 24, dtype=np.float32)},
    ),
    "softmax": ([helper.make_node("Softmax", ["h"], ["m"], axis=-1)], {}),
    "pieces": (
        [helper.make_node("Slice", ["h", "low", "high", "axis"], ["left"]),
         helper.make_node("Gather", ["h", "odd"], ["right"], axis=1),
         helper.make_node("Concat", ["left", "right"], ["m"], axis=1)],
        {"low": np.array([3]), "high": np.array([15]), "axis": np.array([1]), "odd": np.arange(23, 0, -2)},
    ),
    "turned": (
        [helper.make_node("Reshape", ["h", "grid"], ["g"]), helper.make_node("Transpose", ["g"], ["t"], perm=[0, 2, 1]),
         helper.make_node("Add", ["t", "row"], ["b"]), helper.make_node("Reshape", ["b", "line"], ["m"])],
        {"grid": np.array([-1, 4, 6]), "line": np.array([-1, 24]), "row": np.arange(4, dtype=np.float32)},
    ),
    "choice": (
        [helper.make_node("Greater", ["h", "zero"], ["c"]), helper.make_node("Abs", ["h"], ["p"]),
         helper.make_node("Where", ["c", "p", "zero"], ["m"])],
        {"zero": np.zeros(1, np.float32)},
    ),
    "product": (
        [helper.make_node("MatMul", ["h", "square"], ["p"]), helper.make_node("Clip", ["p", "low", ""], ["m"])],
        {"square": np.eye(24, k=3, dtype=np.float32), "low": np.float32(-0.2)},
    ),
}  # fmt: skip


def chain(names):
    """One graph of the pieces, one after the other, from h to m."""
    nodes, constants, given = [], {}, "h"
    for k, name in enumerate(names):
        piece, values = MIDDLES[name]
        last = "m" if k == len(names) - 1 else f"end{k}"
        places = {"": "", "h": given, "m": last}
        constants |= {f"{word}{k}": value for word, value in values.items()}
        for node in piece:
            copy = type(node)()
            copy.CopyFrom(node)
            copy.input[:] = [places.get(word, f"{word}{k}") for word in node.input]
            copy.output[:] = [places.get(word, f"{word}{k}") for word in node.output]
            nodes.append(copy)
        given = last
    return nodes, constants


def test_operators_give_what_onnxruntime_gives(make_bundle, tmp_path, compiler):
    bundle = make_bundle(QUADROTOR, MOTORS, *chain(list(MIDDLES)))
    compiled = export(bundle, tmp_path / "c", compiler)
    assert compiled.boot_test() <= 1e-5
    assert compare(compiled, bundle, episodes=10, steps=10) <= 1e-5
    text = (tmp_path / "c" / "policy.c").read_text()
    for name in MIDDLES:
        for node in MIDDLES[name][0]:
            assert f"/* {node.op_type} */" in text or node.op_type == "Reshape"


@pytest.mark.parametrize(
    ("action", "count"),
    [
        (ActionConfig(name="joint_position_targets", parameters={"low": "-2 -1 -2", "high": "1 1 2"}), 4),
        (ActionConfig(name="cartesian_twist", parameters={"axes": "x rz", "linear": 0.2, "angular": 0.7}), 2),
    ],
)
def test_actions_have_the_scale_of_the_manifest(action, count, make_bundle, tmp_path, compiler):
    import policies

    bundle = make_bundle(ARM[:-1], action)
    compiled, runtime = export(bundle, tmp_path / "c", compiler), policies.load(bundle)
    states, setpoints = random_rows(compiled.layout, 10, seed=3)
    for row, goal in zip(states, setpoints, strict=True):
        state, setpoint = unflatten(row, compiled.layout, "state"), unflatten(goal, compiled.layout, "setpoint")
        ours, theirs = compiled.step(state, setpoint), runtime.step(state, setpoint)
        assert type(ours) is type(theirs) and compiled.last_action.shape == (count,)
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)
        np.testing.assert_allclose(ours.gripper, theirs.gripper, atol=1e-5)


@pytest.mark.parametrize(
    ("terms", "action", "middle", "words"),
    [
        (QUADROTOR, MOTORS, [helper.make_node("Sin", ["h"], ["m"])], "operator Sin"),
        (QUADROTOR, MOTORS, [helper.make_node("Softmax", ["h"], ["m"], axis=0)], "Softmax"),
        ((TermConfig(name="position_difference", parameters={**DIFFERENCE, "arm": "left"}),), TWIST, (), "'left'"),
        (ARM, ActionConfig(name="cartesian_twist",
                           parameters={"axes": "x", "linear": 1.0, "arms": "left right"}), (), "left right"),
    ],
)  # fmt: skip
def test_what_c_does_not_have_is_refused_by_name(terms, action, middle, words, make_bundle, tmp_path):
    bundle = make_bundle(terms, action, middle)
    with pytest.raises(UserError, match=words):
        write_c(bundle, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_other_folders_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match="give another path"):
        write_c("quadrotor-track", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_nothing_but_mathematics_is_needed(track, tmp_path, compiler):
    folder = tmp_path / "c"
    write_c("quadrotor-track", folder)
    command = [compiler, *WARNINGS, "-ffreestanding", "-O2", "-c", "policy.c", "policy_boot_test.c"]
    subprocess.run(command, cwd=folder, check=True)
    if shutil.which("nm") is None:
        pytest.skip("there is no nm to list symbols")
    listed = subprocess.run(["nm", "-u", "policy.o", "policy_boot_test.o"], cwd=folder, capture_output=True, text=True)
    undefined = {line.split()[-1] for line in listed.stdout.splitlines() if " U " in line}
    ours = {name for name in undefined if name.startswith("policy_")}
    assert {"tanhf", "atan2f"} <= undefined - ours <= MATH | OF_GCC | {"_GLOBAL_OFFSET_TABLE_"}


def test_a_changed_weight_fails_the_boot_test(tmp_path, compiler):
    folder = write_c("quadrotor-track", tmp_path / "c", vectors=16)
    text = (folder / "policy.c").read_text()
    first = re.search(r"constant_2\[\d+\] = \{\s+(\S+),", text)
    (folder / "policy.c").write_text(text[: first.start(1)] + "1.5f" + text[first.end(1) :])
    broken = CompiledPolicy(compile_library(folder, compiler), read_manifest("quadrotor-track")[1])
    assert not broken.boot_test() < 1e-4


def test_a_state_that_is_not_finite_changes_nothing(track):
    states, setpoints = random_rows(track.layout, 6, seed=2)
    track.reset()
    track.step_rows(states[0], setpoints[0])
    undisturbed = track.step_rows(states[1], setpoints[1]).values
    track.reset()
    track.step_rows(states[0], setpoints[0])
    for k, bad in enumerate((np.nan, np.inf, -np.inf)):
        broken = states[2].copy()
        broken[k * 4] = bad
        with pytest.raises(ValueError, match="not finite"):
            track.step_rows(broken, setpoints[2])
    np.testing.assert_array_equal(track.step_rows(states[1], setpoints[1]).values, undisturbed)


def test_the_example_builds_and_passes_its_boot_test(tmp_path, compiler):
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    folder = write_c("quadrotor-hover", tmp_path / "c", vectors=4)
    done = subprocess.run(["make", "check", f"CC={compiler}"], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "quadrotor-hover: boot test" in done.stdout and "tick 2: action" in done.stdout


def test_the_command_exports_and_compares(tmp_path, compiler, capsys):
    assert cli.main(["export", "quadrotor-hover", "--format", "c", "--out", str(tmp_path / "c")]) == 0
    assert "1000 random states" in capsys.readouterr().out
    assert cli.main(["export", str(tmp_path), "--format", "c"]) == cli.USAGE
