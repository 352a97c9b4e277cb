"""Bundles: a sound one loads; whatever is wrong with one is found, said, and never executed."""

import dataclasses
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import policies
from policies import BundleError, check_bundle, list_zoo
from policies import bundle as bundles
from policies.actions import ActionConfig
from policies.observations import TermConfig


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def only(violations, *fragments):
    """The single violation, which must hold the fragments."""
    assert len(violations) == 1, violations
    for fragment in fragments:
        assert fragment in violations[0]


def test_a_sound_bundle_has_no_violation_and_loads(bundle, robot, maker):
    assert check_bundle(bundle) == []
    assert check_bundle(str(bundle), robot) == []
    assert policies.load(bundle, robot).manifest.name == "tiny"
    assert sorted(p.name for p in bundle.iterdir()) == [
        "card.md",
        "manifest.json",
        "policy.onnx",
        "vectors.npz",
    ]
    assert (bundle / "card.md").read_text() == "# tiny\n"


@pytest.mark.parametrize("name", list_zoo())
def test_every_shipped_bundle_is_sound(name):
    assert check_bundle(name) == []


@pytest.mark.parametrize("name", ["policy.onnx", "vectors.npz", "card.md"])
def test_changed_cut_missing_and_linked_files(bundle, name):
    path = bundle / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    only(check_bundle(bundle), name, "checksum")
    path.write_bytes(content[: len(content) // 2])
    only(check_bundle(bundle), name, "checksum")
    path.unlink()
    only(check_bundle(bundle), name, "missing")
    elsewhere = bundle.parent / name
    elsewhere.write_bytes(content)
    path.symlink_to(elsewhere)
    only(check_bundle(bundle), name, "not a plain file")


@pytest.mark.parametrize("extra", ["__init__.py", "weights.pt", "folder"])
def test_files_that_the_manifest_does_not_list(bundle, extra):
    if extra == "folder":
        (bundle / extra).mkdir()
    else:
        (bundle / extra).write_text("import os")
    only(check_bundle(bundle), extra, "not listed")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version(bundle, edit, version):
    edit(bundle, lambda data: data.update(schema_version=version))
    only(check_bundle(bundle), f"schema version {version!r}", "export the policy again")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\x00",
        "[" * 100_000,
        '{"schema_version": 1, "control_rate_hz": NaN}',
        '{"a": Infinity}',
        "\udcff",
    ],
    ids=["empty", "cut", "zero", "deep", "nan", "infinity", "not-utf8"],
)
def test_a_manifest_that_is_not_json(bundle, text):
    (bundle / "manifest.json").write_text(text, errors="surrogateescape")
    only(check_bundle(bundle), "manifest.json is not JSON")


def test_a_nan_limit_is_refused_since_nothing_ever_exceeds_it(bundle):
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"max_tilt": 2.1', '"max_tilt": NaN'))
    only(check_bundle(bundle), "NaN")


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda d: d["observation"][0].update(name="position_eror"), ("position_eror", "'position_error'")),
        (lambda d: d["observation"][0].update(parameters={}), ("'position_error'", "'limit'")),
        (lambda d: d["observation"][1].update(parameters={"limit": 1.0}), ("'up_direction'", "'limit'")),
        (lambda d: d.update(observation_size=7), ("observation_size is 7",)),
        (lambda d: d["memory"].pop("action_history"), ("memory does not match",)),
        (lambda d: d["memory"]["action_history"].update(initial=0.0), ("memory does not match",)),
        (
            lambda d: d["robot"].update(signals=["position"]),
            ("robot.signals lacks", "angular_velocity, orientation"),
        ),
        (lambda d: d["action"]["parameters"].pop("high"), ("action: ", "'high'")),
        (lambda d: d.update(action_size=3), ("action_size is 3",)),
        (lambda d: d["robot"].update(command="body_rates_thrust"), ("robot.command is 'body_rates_thrust'",)),
    ],
)
def test_terms_that_are_unknown_or_do_not_add_up(bundle, edit, change, fragments):
    edit(bundle, change)
    only(check_bundle(bundle), *fragments)


def test_several_violations_are_all_reported(bundle, edit, robot):
    (bundle / "extra.py").write_text("")
    (bundle / "card.md").unlink()
    edit(bundle, lambda data: data.update(observation_size=7, action_size=3))
    robot = dataclasses.replace(robot, signals=(), command_rate_hz=10.0)
    text = "\n".join(check_bundle(bundle, robot))
    for fragment in ("extra.py", "card.md", "observation_size", "action_size", "'position'", "10 Hz"):
        assert fragment in text
    with pytest.raises(BundleError) as caught:
        policies.load(bundle, robot)
    assert "extra.py" in str(caught.value) and "10 Hz" in str(caught.value)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        (lambda m: {"weights": np.full_like(m.weights, np.nan)}, "non-finite"),
        (lambda m: {"bias": np.array([0, 0, np.inf, -np.inf], np.float32), "squash": False}, "non-finite"),
        (lambda m: {"squash": False, "weights": 3 * m.weights}, "outside [-1, 1]"),
        (lambda m: {"weights": m.weights[:-1]}, "does not run on its stored observations"),
        (lambda m: {"weights": m.weights[:, :3], "bias": m.bias[:3]}, "expected (K, H, 4)"),
        (lambda m: {"bias": m.bias + np.float32(1e-3)}, "differs from its stored actions by"),
        (lambda m: {"input_name": "obs"}, "inputs ['obs']"),
        (lambda m: {"output_name": "actions"}, "'action' out"),
    ],
)
def test_networks_that_are_broken_or_do_not_fit(bundle, replace, maker, changes, fragment):
    replace(bundle, "policy.onnx", maker.network(**changes(maker)))
    assert any(fragment in violation for violation in check_bundle(bundle))
    with pytest.raises(BundleError):
        policies.load(bundle)


def test_a_file_that_is_no_network(bundle, replace):
    replace(bundle, "policy.onnx", b"not a protobuf")
    only(check_bundle(bundle), "policy.onnx cannot be loaded")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (lambda m: b"", "cannot be read"),
        (lambda m: b"PK\x03\x04 broken zip", "vectors.npz cannot be read"),
        (lambda m: npz(observation=m.inputs)[:-40], "vectors.npz cannot be read"),
        (lambda m: npz(observation=m.inputs), "vectors.npz cannot be read"),
        (lambda m: npz(observation=m.inputs[:63], action=m.expected()[:63]), "≥ 64"),
        (lambda m: npz(observation=m.inputs[:, None], action=m.expected()), "shape (64, 1, 24)"),
        (lambda m: npz(observation=m.inputs[:, 1:], action=m.expected()), "shape (64, 23)"),
        (lambda m: npz(observation=m.inputs, action=m.expected()[:, 0]), "stored are (64, 4)"),
        (lambda m: npz(observation=m.inputs, action=m.expected().astype(str)), "expected float32"),
        (lambda m: npz(observation=m.inputs, action=m.expected() + 2e-5), "differs from its stored actions"),
        (
            lambda m: npz(observation=m.inputs, action=m.expected() * np.nan),
            "differs from its stored actions",
        ),
    ],
)
def test_stored_vectors_that_are_broken_or_do_not_match(bundle, replace, maker, content, fragment):
    replace(bundle, "vectors.npz", content(maker))
    only(check_bundle(bundle), fragment)


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_are_refused_and_not_executed(bundle, replace, maker, tmp_path):
    canary = tmp_path / "executed"
    hidden = np.empty(64, dtype=object)
    hidden[:] = Canary(canary)
    single = io.BytesIO()
    np.save(single, hidden)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("observation.npy", single.getvalue())
        file.writestr("action.npy", single.getvalue())
    for content in (archive.getvalue(), single.getvalue(), pickle.dumps(Canary(canary))):
        replace(bundle, "vectors.npz", content)
        only(check_bundle(bundle), "vectors.npz cannot be read")
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))  # the canary itself works
    assert canary.is_dir()


def test_files_beyond_the_size_limit_are_not_read(bundle, monkeypatch):
    limit = (bundle / "manifest.json").stat().st_size
    monkeypatch.setattr(bundles, "MAX_FILE_BYTES", limit)
    (bundle / "policy.onnx").write_bytes(b"x" * (limit + 1))
    only([v for v in check_bundle(bundle) if "policy.onnx" in v], "larger than")
    monkeypatch.setattr(bundles, "MAX_FILE_BYTES", 10)
    only(check_bundle(bundle), "manifest.json is larger than 10 bytes")


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ({"kind": "arm"}, ("quadrotor", "'crazyflie' is a arm")),
        (
            {"signals": ("position", "orientation", "linear_velocity")},
            ("does not measure 'angular_velocity'",),
        ),
        (
            {"commands": ("body_rates_thrust",)},
            ("does not take the command 'motor_speeds'", "body_rates_thrust"),
        ),
        ({"command_rate_hz": 50.0}, ("runs at 100 Hz", "at most at 50 Hz")),
        ({"actuators": ("back_right", "front_right", "back_left", "front_left")}, ("actuator order",)),
        ({"actuators": ("front_right", "back_right", "back_left", "m4")}, ("no actuator 'front_left'", "m4")),
        ({"actuators": ("front_right", "back_right", "back_left", "front_left", "m5")}, ("actuator order",)),
    ],
)
def test_robots_that_do_not_fit(bundle, robot, change, fragments):
    unfit = dataclasses.replace(robot, **change)
    only(check_bundle(bundle, unfit), *fragments)
    with pytest.raises(BundleError, match="crazyflie"):
        policies.load(bundle, unfit)


def test_a_bundle_that_is_not_there(tmp_path, bundle):
    only(check_bundle("quadrotor-hovr"), "no policy bundle 'quadrotor-hovr'")
    only(check_bundle(tmp_path), "no manifest.json")
    with pytest.raises(BundleError, match="no policy bundle"):
        policies.load(Path("/nowhere/at/all"))


def test_names_of_the_zoo_are_found_and_the_nearest_is_named(bundle, monkeypatch):
    monkeypatch.setattr(bundles, "ZOO", bundle.parent)
    assert list_zoo() == ["tiny"]
    assert policies.load("tiny").manifest.name == "tiny"
    only(check_bundle("tinny"), "did you mean 'tiny'?")


def test_writing_replaces_a_bundle_whole(bundle, maker):
    changed = dataclasses.replace(maker.manifest, name="second")
    maker.write(bundle, contents=changed, card="# second\n")
    assert policies.load(bundle).manifest.name == "second"
    assert [p.name for p in bundle.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    "change",
    [
        {"expected": np.zeros((64, 1, 4), np.float32)},
        {"network": b"junk"},
        {"inputs": np.zeros((3, 24), np.float32), "expected": np.zeros((3, 1, 4), np.float32)},
    ],
)
def test_writing_a_broken_bundle_says_so_and_leaves_the_old_one(bundle, maker, change):
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    with pytest.raises(BundleError, match="would be broken"):
        maker.write(bundle, **change)
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before
    assert [p.name for p in bundle.parent.iterdir()] == ["tiny"]


def test_a_failure_in_the_middle_of_replacing_leaves_the_old_one(bundle, maker, monkeypatch):
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda self, to: fail() if is_fresh(self, to, bundle) else rename(self, to)
    )
    with pytest.raises(OSError, match="disk full"):
        maker.write(bundle)
    assert check_bundle(bundle) == []
    assert [p.name for p in bundle.parent.iterdir()] == ["tiny"]


def is_fresh(source, target, folder):
    return target == folder and source.parent == folder.parent


def fail():
    raise OSError("disk full")


def test_a_folder_with_other_things_in_it_is_never_overwritten(maker, tmp_path):
    mine = tmp_path / "runs"
    mine.mkdir()
    (mine / "checkpoint.safetensors").write_text("precious")
    with pytest.raises(BundleError, match="is no policy bundle; it is not overwritten"):
        maker.write(mine)
    assert (mine / "checkpoint.safetensors").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert check_bundle(maker.write(tmp_path / "empty")) == []


def test_unknown_terms_are_refused_before_anything_is_written(maker, tmp_path):
    for change in (
        {"observation": (TermConfig(name="camera"),)},
        {"action": ActionConfig(name="pwm")},
    ):
        with pytest.raises(BundleError, match="unknown"):
            maker.write(tmp_path / "new", contents=dataclasses.replace(maker.manifest, **change))
    assert not (tmp_path / "new").exists()


def test_a_list_shows_the_scores(maker):
    facts = bundles.describe(maker.manifest)
    assert facts == {"name": "tiny", "task": "quadrotor-hover", "robot": "crazyflie", "crash_rate": 0.0}
