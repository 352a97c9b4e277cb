"""The manifest: schema and dataclasses are one thing, and every corruption is reported with its path."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from policies import manifest
from policies.actions import ActionConfig
from policies.execution import Execution
from policies.manifest import Envelope, Manifest, RobotRequirement
from policies.terms import MemorySpec, TermConfig

SCHEMA = json.loads((Path(manifest.__file__).parent / "manifest.schema.json").read_text())
MEMORY_SCHEMA = SCHEMA["properties"]["memory"]["additionalProperties"]
PAIRS = {
    "manifest": (SCHEMA, Manifest),
    "robot": (SCHEMA["properties"]["robot"], RobotRequirement),
    "envelope": (SCHEMA["properties"]["envelope"], Envelope),
    "memory": (MEMORY_SCHEMA, MemorySpec),
    "execution": (SCHEMA["properties"]["execution"], Execution),
    "observation": (SCHEMA["$defs"]["term"], TermConfig),
    "action": (SCHEMA["$defs"]["term"], ActionConfig),
}


@pytest.fixture
def data(maker, tmp_path):
    """A manifest as parsed JSON, with checksums."""
    return json.loads((maker.write(tmp_path / "tiny") / "manifest.json").read_text())


@pytest.mark.parametrize("name", PAIRS)
def test_schema_and_dataclass_have_the_same_fields_required_unless_they_have_a_default(name):
    schema, item = PAIRS[name]
    fields = {f.name for f in dataclasses.fields(item)}
    assert set(schema["properties"]) == fields
    optional = {
        Manifest: {"images", "views", "execution", "controller"},
        Execution: {f.name for f in dataclasses.fields(Execution)},
        Envelope: {"arm", "rules"},
    }.get(item, set())
    assert set(schema.get("required", ())) == fields - optional
    assert schema["additionalProperties"] is False


def test_schema_and_code_have_the_same_version():
    assert SCHEMA["properties"]["schema_version"] == {"const": manifest.SCHEMA_VERSION}


def test_a_manifest_survives_the_round_trip(maker, data):
    assert manifest.schema_violations(data) == []
    read = manifest.from_json(data)
    assert dataclasses.replace(read, files={}) == maker.manifest
    assert json.loads(manifest.to_json(read)) == data
    hash(read.envelope)  # tuples all the way down: nothing that a reader could change


def test_settings_of_a_controller_are_optional_and_survive_the_round_trip(data):
    assert "controller" not in data
    data["controller"] = {"slow_speed": 0.03, "slow_upper": [1.0, 1.0, 0.1]}
    assert manifest.schema_violations(data) == []
    assert json.loads(manifest.to_json(manifest.from_json(data))) == data


def test_an_envelope_of_an_arm_is_optional_and_survives_the_round_trip(data):
    assert "arm" not in data["envelope"]
    plain = manifest.from_json(data)
    assert plain.envelope.of_arm() == {
        "state_age": data["envelope"]["state_age"],
        "command_age_periods": data["envelope"]["command_age_periods"],
    }
    data["envelope"]["arm"] = {
        "table_height": 0.02,
        "contact_force": 30,
        "workspace": [{"lower": [0, -0.5, 0], "upper": [0.7, 0.5, 0.8]}],
        "forbidden": [{"start": [1, 0, 0], "end": [1, 0, 1], "radius": 0.1}],
        "rules": [{"name": "soft", "formula": "force < 30", "reaction": "brake"}],
    }
    assert manifest.schema_violations(data) == []
    read = manifest.from_json(data)
    assert json.loads(manifest.to_json(read)) == data
    assert read.envelope.of_arm()["table_height"] == 0.02
    hash(read.envelope)
    for field, value in [("tabel", 0.0), ("velocity_share", 1.5), ("contact_force", 0), ("state_age", [1, 2, 3])]:
        broken = copy.deepcopy(data)
        broken["envelope"]["arm"][field] = value
        assert any(line.startswith("manifest.json: envelope.arm") and field in line
                   for line in manifest.schema_violations(broken)), field  # fmt: skip


def test_numbers_without_a_fraction_are_numbers(data):
    data["control_rate_hz"] = 100
    data["envelope"]["geofence"] = [[-3, 3], [-3, 3], [0, 3]]
    assert manifest.schema_violations(data) == []
    assert manifest.from_json(data).envelope.geofence == ((-3.0, 3.0), (-3.0, 3.0), (0.0, 3.0))


def paths(node, prefix=()):
    """Every key of nested JSON objects and lists, as a path; what is free-form is left out."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*prefix, key)
        if prefix + (key,) not in {("training",), ("evaluation",)}:
            yield from paths(value, (*prefix, key))


def parent_of(data, path):
    for key in path[:-1]:
        data = data[key]
    return data


def test_every_value_of_a_wrong_type_is_reported_with_its_path(data):
    checked = 0
    for path in paths(data):
        broken = copy.deepcopy(data)
        parent_of(broken, path)[path[-1]] = None if path[-1] != "clip" else ["none"]
        violations = manifest.schema_violations(broken)
        dotted = ".".join(map(str, path))
        assert any(v.startswith(f"manifest.json: {dotted}: ") for v in violations), f"{dotted}: {violations}"
        checked += 1
    assert checked > 60


def test_every_missing_field_is_reported_by_name(data):
    optional = {("files", name) for name in data["files"]} | {("memory", name) for name in data["memory"]}
    for path in paths(data):
        parent = parent_of(data, path)
        if not isinstance(parent, dict) or "parameters" in path[:-1] or path in optional:
            continue
        broken = copy.deepcopy(data)
        del parent_of(broken, path)[path[-1]]
        where = ".".join(map(str, path[:-1])) or "top level"
        violations = manifest.schema_violations(broken)
        assert f"manifest.json: {where}: {path[-1]!r} is a required property" in violations


@pytest.mark.parametrize("name", ["policy.onnx", "vectors.npz", "card.md"])
def test_every_file_of_a_bundle_must_be_listed(data, name):
    del data["files"][name]
    assert manifest.schema_violations(data) == [f"manifest.json: files: {name!r} is a required property"]


@pytest.mark.parametrize("where", [(), ("robot",), ("envelope",), ("action",), ("memory", "action_history")])
def test_an_unknown_field_is_reported(data, where):
    parent_of(data, (*where, "x"))["surprise"] = 1
    (violation,) = manifest.schema_violations(data)
    assert violation.startswith(f"manifest.json: {'.'.join(where) or 'top level'}: ")
    assert "'surprise' was unexpected" in violation


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("name",), "../escape"),
        (("name",), ""),
        (("robot", "kind"), "boat"),
        (("robot", "actuators"), []),
        (("robot", "signals"), ["position", "position"]),
        (("control_rate_hz",), 0),
        (("control_rate_hz",), -100.0),
        (("control_rate_hz",), 1e5),
        (("observation",), []),
        (("observation_size",), 0),
        (("action_size",), 1.5),
        (("action", "parameters", "low"), [0.0]),
        (("memory", "action_history", "shape"), [0]),
        (("memory", "action_history", "shape"), [10**9]),
        (("envelope", "geofence"), [[-1, 1], [-1, 1]]),
        (("envelope", "geofence"), [[-1, 1], [-1, 1], [0]]),
        (("envelope", "max_tilt"), 0),
        (("envelope", "state_age"), [0.1, 0.5]),
        (("envelope", "state_age"), [0.1, 0.5, 0]),
        (("envelope", "command_age_periods"), -3),
        (("files", "card.md"), "0" * 63),
        (("files", "../../etc/passwd"), "0" * 64),
        (("files", "sub/folder.onnx"), "0" * 64),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else repr(value),
)
def test_values_out_of_range_are_reported_with_their_path(data, path, value):
    parent_of(data, path)[path[-1]] = value
    violations = manifest.schema_violations(data)
    assert violations
    where = ".".join(map(str, path if value != "0" * 64 else path[:-1]))
    assert all(v.startswith(f"manifest.json: {where}") for v in violations)


def test_every_violation_is_reported_not_only_the_first(data):
    del data["task"]
    data["control_rate_hz"] = "fast"
    data["robot"]["kind"] = "boat"
    violations = manifest.schema_violations(data)
    assert len(violations) == 3
    assert {v.split(": ")[1] for v in violations} == {"top level", "control_rate_hz", "robot.kind"}


@pytest.mark.parametrize("junk", [None, [], 3, "manifest", {}])
def test_json_that_is_no_manifest_at_all(junk):
    assert all(v.startswith("manifest.json: top level: ") for v in manifest.schema_violations(junk))
    assert manifest.schema_violations(junk)
