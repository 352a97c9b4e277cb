"""Files of automatic randomization: what they say is what is built, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sim
from sim.adr import AutomaticConfig, AutomaticParameter
from sim.adr_file import load_automatic

GOOD = """
queue_length: 8
threshold_high: 9e-1
clear_other_queues: true
parameters:
  - {parameter: link_mass, limits: [0.5, 2e0], delta: 5e-2}
  - {parameter: motor_strength, limits: [0.5, 1.5], delta: 1.1, delta_style: multiplicative}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "adr.yaml"
    path.write_text(text)
    return path


def test_a_file_is_the_config_that_it_describes(tmp_path: Path) -> None:
    expected = AutomaticConfig(
        queue_length=8,
        threshold_high=0.9,
        clear_other_queues=True,
        parameters=(
            AutomaticParameter(parameter="link_mass", limits=(0.5, 2.0), delta=0.05),
            AutomaticParameter(
                parameter="motor_strength", limits=(0.5, 1.5), delta=1.1, delta_style="multiplicative"
            ),
        ),
    )  # fmt: skip
    assert load_automatic(write(tmp_path, GOOD)) == expected


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("queue_lenght: 8", "queue_length: 8", "unknown field 'queue_lenght'; did you mean 'queue_length'"),
        ("limit: [0.5, 2e0]", "limits: [0.5, 2e0]", "entry 0: unknown field 'limit'; did you mean 'limits'"),
        ("limits: [0.5]", "limits: [0.5, 2e0]", r"entry 0: limits is \[0.5\]; expected \[lowest, highest\]"),
        ("delta: -1", "delta: 5e-2", "entry 0: .*delta is -1.0; it must be above 0"),
        ("delta: wide", "delta: 5e-2", "entry 0: .*'wide'"),
        ("delta_style: times", "delta_style: multiplicative", "entry 1: .*delta_style is 'times'"),
        ("queue_length: 8.5", "queue_length: 8", "queue_length is 8.5; expected int"),
        ("clear_other_queues: 3", "clear_other_queues: true", "clear_other_queues is 3; expected bool"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, wrong: str, right: str, message: str) -> None:
    assert right in GOOD
    with pytest.raises(ValueError, match=message):
        load_automatic(write(tmp_path, GOOD.replace(right, wrong)))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "expected a mapping"), ("parameters: []", "expected a list with at least one"), ("a: [", "not YAML")],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_automatic(write(tmp_path, text))
    with pytest.raises(ValueError, match="is no file"):
        load_automatic(tmp_path / "missing.yaml")


def test_a_parameter_without_a_term_is_the_environments_to_refuse(tmp_path: Path) -> None:
    config = load_automatic(write(tmp_path, GOOD.replace("parameter: link_mass", "parameter: link_mas")))
    with pytest.raises(ValueError, match="'link_mas': no term randomizes it; did you mean 'link_mass'"):
        sim.make("arm-reach", automatic=config)


def test_make_begins_with_the_tasks_own_ranges_and_a_seed_begins_anew(tmp_path: Path) -> None:
    config = load_automatic(write(tmp_path, GOOD))
    with pytest.raises(ValueError, match="quadrotor-hover.*has no automatic randomization"):
        sim.make("quadrotor-hover", automatic=config)
    env = sim.make("arm-reach", num_envs=3, seed=4, automatic=config)
    first = env.reset()
    automatic = env.automatic
    assert automatic is not None
    assert automatic.ranges == {"link_mass": (0.95, 1.05), "motor_strength": (0.95, 1.05)}
    assert env.num_states == sim.make("arm-reach").num_states
    automatic.ranges["link_mass"] = (0.5, 2.0)
    again = env.reset(seed=4)
    assert automatic.ranges["link_mass"] == (0.95, 1.05)
    assert all(torch.equal(first[name], again[name]) for name in first)
    env.close()
