"""Bundles: a sound one loads; whatever is wrong with one is found, said, and never executed."""

import dataclasses
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

import policies
from policies import BundleError, check_bundle, list_zoo
from policies import bundle as bundles


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


def test_a_nan_limit_is_refused_since_nothing_ever_exceeds_it(bundle, maker):
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"max_tilt": 2.1', '"max_tilt": NaN'))
    only(check_bundle(bundle), "NaN")
    envelope = dataclasses.replace(maker.manifest.envelope, max_tilt=float("nan"))
    with pytest.raises(BundleError, match="NaN"):
        maker.write(bundle.parent / "new", contents=dataclasses.replace(maker.manifest, envelope=envelope))


def test_a_metric_that_does_not_exist_is_written_as_null(bundle, maker):
    scores = {"steady_rmse_m": float("nan"), "runs": [{"rmse": float("inf")}], "crash_rate": 1.0}
    maker.write(bundle, contents=dataclasses.replace(maker.manifest, evaluation=scores))
    read = policies.load(bundle).manifest.evaluation
    assert read == {"steady_rmse_m": None, "runs": [{"rmse": None}], "crash_rate": 1.0}


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
        ({"kind": "arm"}, ("quadrotor", "'crazyflie' is of kind 'arm'")),
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
