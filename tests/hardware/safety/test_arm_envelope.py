"""The envelope as data."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import policies
from hardware.descriptions import load_arm
from hardware.safety.arm_envelope import (
    ArmEnvelope,
    Box,
    RoundRegion,
    Rule,
    envelope_from_dict,
    envelope_to_dict,
    joint_envelope,
)


def test_it_survives_json():
    envelope = ArmEnvelope(
        table_height=0.02,
        workspace=(Box(lower=(0.0, -0.5, 0.0), upper=(0.7, 0.5, 0.8)),),
        forbidden=(RoundRegion(start=(1.0, 0.0, 0.0), end=(1.0, 0.0, 1.0), radius=0.1),),
        rules=(Rule(name="soft", formula="force < 30", reaction="brake"),),
    )
    assert envelope_from_dict(json.loads(json.dumps(envelope_to_dict(envelope)))) == envelope


def test_a_manifest_can_say_all_of_it_in_the_same_words():
    """`policies` cannot import it, so that its schema says the fields a second time."""
    schema = json.loads((Path(policies.__file__).parent / "manifest.schema.json").read_text())["$defs"]
    elsewhere = {"state_age", "command_age_periods"}  # of every bundle
    assert set(schema["arm_envelope"]["properties"]) == set(ArmEnvelope.__dataclass_fields__) - elsewhere
    for name, kind in (("box", Box), ("round_region", RoundRegion), ("rule", Rule)):
        assert set(schema[name]["properties"]) == {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"velocity_share": 1.5}, "velocity_share is 1.5"),
        ({"state_age": (0.5, 0.1, 2.0)}, "the three ages must be positive and grow"),
        ({"contact_force": 0.0}, "contact_force is 0.0; it must be positive"),
        ({"blend_time": -1.0}, "blend_time is -1.0"),
    ],
)
def test_numbers_that_protect_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ArmEnvelope(**fields)


def test_unknown_fields_and_empty_boxes_are_refused():
    with pytest.raises(ValueError, match="unknown fields of an arm's envelope: tabel"):
        envelope_from_dict({"tabel": 0.0})
    with pytest.raises(ValueError, match="is empty"):
        Box(lower=(0.0, 0.0, 1.0), upper=(1.0, 1.0, 0.0))


def test_shares_and_margin_are_of_the_description():
    panda = load_arm("panda")
    limits = joint_envelope(panda, ArmEnvelope(velocity_share=0.5, position_margin=0.1, torque_share=0.25))
    assert limits.velocity[0] == pytest.approx(0.5 * 2.175)
    assert limits.torque[0] == pytest.approx(0.25 * 87.0)
    assert limits.upper - limits.lower == pytest.approx(np.diff(panda.interface.limits["position"]).ravel() - 0.2)
    with pytest.raises(ValueError, match="leaves no range"):
        joint_envelope(panda, ArmEnvelope(position_margin=1.6))
