"""Records keep what they were given, and nothing that does not fit gets through."""

import dataclasses
import math
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

sys.path.insert(0, str(Path(__file__).parent))
from workers import make_record, make_schema

from robot_rl.hil.records import DRIVERS, Record, RecordError, Schema, check, decode, encode, record_limit

SCHEMA = make_schema(images={"wrist": (4, 5, 3), "side": (2, 3, 3)}, privileged=2)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NORMAL = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def floats(size, bound=None):
    limits = {"min_value": -bound, "max_value": bound} if bound else {}
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=32, **limits)
    return arrays.arrays(np.float32, (size,), elements=numbers)


def pictures():
    return st.fixed_dictionaries({name: arrays.arrays(np.uint8, shape) for name, shape in SCHEMA.images.items()})


@st.composite
def records(draw):
    terminated, truncated = draw(st.booleans()), draw(st.booleans())
    final = (terminated or truncated) and draw(st.booleans())
    return Record(
        episode=draw(st.integers(0, 2**53 - 1)),
        index=draw(st.integers(0, 2**53 - 1)),
        observation=draw(floats(SCHEMA.observation)),
        images=draw(pictures()),
        action=draw(floats(SCHEMA.action, 1.0)),
        policy_action=draw(floats(SCHEMA.action, 1.0)),
        driver=draw(st.sampled_from(DRIVERS)),
        reward=draw(FINITE),
        terminated=terminated,
        truncated=truncated,
        success=draw(st.booleans()),
        observed_at=draw(FINITE),
        acted_at=draw(FINITE),
        wall_time=draw(FINITE),
        final_observation=draw(floats(SCHEMA.observation)) if final else None,
        final_images=draw(pictures()) if final else {},
        info=draw(st.dictionaries(st.from_regex("[a-z_]{1,20}", fullmatch=True), FINITE, max_size=5)),
    )


def same(one, other):
    for field in dataclasses.fields(Record):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            for name in left:
                np.testing.assert_array_equal(left[name], right[name])
                assert np.asarray(left[name]).dtype == np.asarray(right[name]).dtype
        else:
            np.testing.assert_array_equal(left, right, err_msg=field.name)


@NORMAL
@given(records())
def test_a_record_comes_back_as_it_was(record):
    check(record, SCHEMA)
    data = encode(record)
    assert len(data) <= record_limit(SCHEMA)
    back = decode(data, SCHEMA)
    same(record, back)
    assert encode(back) == data


@NORMAL
@given(st.binary(max_size=300))
def test_garbage_is_refused_with_a_sentence(data):
    with pytest.raises(RecordError):
        decode(data, SCHEMA)


@NORMAL
@given(st.data())
def test_changed_bytes_give_a_fitting_record_or_a_sentence(data):
    good = bytearray(encode(make_record(SCHEMA)))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = decode(bytes(good), SCHEMA)
    except RecordError:
        return
    check(record, SCHEMA)


def last(**changes):
    return make_record(SCHEMA, index=3, ended=True, **changes)


def vector(size, value=0.0):
    array = np.zeros(size, np.float32)
    array[1] = value
    return array


BAD = {
    "episode": [{"episode": -1}, {"episode": 2**53}],
    "index": [{"index": -1}],
    "observation": [
        *({"observation": vector(6, bad)} for bad in (np.nan, np.inf, -np.inf)),
        {"observation": vector(5)},
        {"observation": np.zeros((6, 1), np.float32)},
        {"observation": np.zeros(6)},
        {"observation": np.zeros(6, np.int32)},
    ],
    "action": [
        *({"action": vector(3, bad)} for bad in (np.nan, np.inf, 1.001, -1.001, 1e30)),
        {"action": vector(4)},
        {"action": np.zeros(3)},
    ],
    "policy_action": [{"policy_action": vector(3, 1.001)}, {"policy_action": vector(3, np.nan)}],
    "driver": [{"driver": "robot"}, {"driver": ""}],
    "reward": [{"reward": math.nan}, {"reward": math.inf}],
    "observed_at": [{"observed_at": math.nan}],
    "acted_at": [{"acted_at": math.inf}],
    "wall_time": [{"wall_time": -math.inf}],
    "images": [
        {"images": {}},
        {"images": {"wrist": np.zeros((4, 5, 3), np.uint8), "other": np.zeros((2, 3, 3), np.uint8)}},
        {"images": {"wrist": np.zeros((4, 5, 3), np.uint8), "side": np.zeros((3, 2, 3), np.uint8)}},
        {"images": {"wrist": np.zeros((4, 5, 3), np.uint8), "side": np.zeros((2, 3, 3), np.float32)}},
    ],
    "final_observation": [{"final_observation": vector(6, np.nan)}, {"final_observation": vector(7)}],
    "final_images": [{"final_images": {}}, {"final_observation": None}],
    "info": [
        {"info": {"force": math.nan}},
        {"info": {"": 1.0}},
        {"info": {"x" * 65: 1.0}},
        {"info": {"a\nb": 1.0}},
        {"info": {f"n{i}": 1.0 for i in range(65)}},
    ],
}


@pytest.mark.parametrize(("name", "changes"), [(name, changes) for name, many in BAD.items() for changes in many])
def test_each_wrong_value_is_refused_by_name(name, changes):
    record = dataclasses.replace(last(), **changes)
    with pytest.raises(RecordError, match=name):
        check(record, SCHEMA)
    with pytest.raises(RecordError, match=name):
        decode(encode(record), SCHEMA)


def test_a_final_observation_belongs_to_an_end():
    record = dataclasses.replace(last(), terminated=False, truncated=False)
    with pytest.raises(RecordError, match="final_observation"):
        decode(encode(record), SCHEMA)


def test_actions_at_the_edge_pass():
    edge = np.array([1.0, -1.0, 1.0 + 5e-7], np.float32)
    assert decode(encode(last(action=edge)), SCHEMA).action.tobytes() == edge.tobytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("episode", 1.0),
        ("episode", True),
        ("index", "1"),
        ("terminated", 1),
        ("truncated", None),
        ("success", "yes"),
        ("reward", 1),
        ("reward", None),
        ("observed_at", "now"),
        ("driver", b"policy"),
        ("images", []),
        ("images", {"wrist": 3}),
        ("final_images", None),
        ("info", {"force": "high"}),
        ("info", {"force": 3}),
        ("observation", None),
        ("observation", [1.0, 2.0]),
        ("observation", ["<f8", [6], bytes(48)]),
        ("observation", ["|O", [6], bytes(24)]),
        ("observation", ["<f4", [2, 3], bytes(24)]),
        ("observation", ["<f4", [6], bytes(23)]),
        ("observation", ["<f4", [6], "text"]),
        ("observation", ["<f4", [10**12], bytes(24)]),
        ("action", ["<f4", [-3], bytes(12)]),
        ("images", {"wrist": ["<f4", [4, 5, 3], bytes(240)], "side": ["|u1", [2, 3, 3], bytes(18)]}),
    ],
)
def test_each_wrong_type_in_the_bytes_is_refused_by_name(name, value):
    fields = msgpack.unpackb(encode(last()))
    fields[name] = value
    with pytest.raises(RecordError, match=name):
        decode(msgpack.packb(fields), SCHEMA)


def test_missing_and_unknown_fields_are_refused():
    fields = msgpack.unpackb(encode(last()))
    less = {name: value for name, value in fields.items() if name != "action"}
    for wrong in (less, {**fields, "extra": 1}, [], 7, None):
        with pytest.raises(RecordError, match="fields"):
            decode(msgpack.packb(wrong), SCHEMA)


def test_extension_types_are_refused():
    fields = msgpack.unpackb(encode(last()))
    for extension in (msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)):
        with pytest.raises(RecordError):
            decode(msgpack.packb({**fields, "reward": extension}), SCHEMA)


def test_the_size_is_bounded_before_anything_is_parsed():
    with pytest.raises(RecordError, match=f"at most {record_limit(SCHEMA)}"):
        decode(bytes(record_limit(SCHEMA) + 1), SCHEMA)
    deep = b"\x91" * 5000
    with pytest.raises(RecordError):
        decode(deep, make_schema(observation=5000))


def test_a_record_of_another_robot_is_refused():
    other = make_schema(action=4)
    with pytest.raises(RecordError, match="action"):
        decode(encode(make_record(other)), make_schema())


def test_a_schema_comes_back_as_it_was():
    data = SCHEMA.to_dict()
    assert Schema.from_dict(msgpack.unpackb(msgpack.packb(data))) == SCHEMA
    assert SCHEMA.difference(SCHEMA) == ""
    assert "robot" in SCHEMA.difference(dataclasses.replace(SCHEMA, robot="ur5e"))


@pytest.mark.parametrize(
    "changes",
    [
        {"observation": 0},
        {"observation": 10**9},
        {"observation": True},
        {"observation": 6.0},
        {"action": -1},
        {"privileged": 6},
        {"task": ""},
        {"robot": "x" * 65},
        {"robot": None},
        {"control_rate_hz": 0},
        {"control_rate_hz": math.nan},
        {"control_rate_hz": "10"},
        {"images": {"a": [4, 5]}},
        {"images": {"a": [4, 5, 4]}},
        {"images": {"a": [0, 5, 3]}},
        {"images": {"a": [10**6, 5, 3]}},
        {"images": {"": [4, 5, 3]}},
        {"images": {f"c{i}": [4, 5, 3] for i in range(17)}},
        {"images": [1]},
        {"more": 1},
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(changes):
    with pytest.raises(RecordError, match="schema"):
        Schema.from_dict({**SCHEMA.to_dict(), **changes})
