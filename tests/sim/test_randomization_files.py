"""Randomization for people: the table says what each term does, and a wrong file says what is wrong."""

import pytest
import torch

from sim.randomization import RandomizationTerm, Randomizer, load_terms

NOMINAL = {"mass": torch.tensor([0.03]), "drag": torch.tensor([0.1, 0.2, 0.4]), "force": torch.zeros(3)}


def term(parameter="mass", low=0.5, high=2.0, **options):
    return RandomizationTerm(parameter=parameter, low=low, high=high, **options)


def randomizer(*terms, count):
    made = Randomizer(NOMINAL, terms, count, torch.Generator().manual_seed(0))
    made.reset(torch.ones(count, dtype=torch.bool))
    return made


@pytest.mark.parametrize(
    ("made", "effect"),
    [
        (term("mass"), "varies"),
        (term("drag", operation="scale"), "varies"),
        (term("mass", 1.0, 1.0, operation="scale"), "zero range: does nothing"),
        (term("force", 0.0, 0.0, operation="add", distribution="gaussian"), "zero range: does nothing"),
        (term("mass", 0.04, 0.04), "zero range: fixed at 0.04"),
        (term("force", 0.5, 2.0, operation="scale"), "scales zero: does nothing"),
    ],
)
def test_the_table_says_what_a_term_does(made, effect):
    (row,) = randomizer(made, count=4).table()
    assert row["effect"] == effect
    assert row["parameter"] == made.parameter
    values = randomizer(made, count=4).values[made.parameter]
    idle = torch.equal(values, NOMINAL[made.parameter].expand(4, -1))
    assert idle == effect.endswith("does nothing")


def test_the_table_shows_range_time_and_group():
    rows = randomizer(
        term("drag", 0.5, 2.0, operation="scale", group="size", coupling=0.6),
        term("force", 0.0, 0.01, distribution="gaussian", when="step", correlation_time=0.5),
        count=1,
    ).table()
    assert rows[0]["nominal"] == "0.1, 0.2, 0.4"
    assert (rows[0]["range"], rows[0]["group"], rows[0]["operation"]) == ("0.5 … 2", "size (0.6)", "scale")
    assert (rows[1]["range"], rows[1]["when"]) == ("0 ± 0.01", "step, τ = 0.5 s")


def test_terms_are_read_from_yaml(tmp_path):
    path = tmp_path / "terms.yaml"
    path.write_text(
        "- {parameter: mass, low: 0.02, high: 0.05, group: size}\n"
        "- parameter: force\n  low: 0\n  high: 1e-3\n  distribution: gaussian\n"
        "  when: interval\n  interval: [1, 2.5]\n"
    )
    assert load_terms(path) == (
        RandomizationTerm(parameter="mass", low=0.02, high=0.05, group="size"),
        RandomizationTerm(
            parameter="force",
            low=0.0,
            high=1e-3,
            distribution="gaussian",
            when="interval",
            interval=(1.0, 2.5),
        ),
    )
    path.write_text("[]")
    assert load_terms(path) == ()


MASS = "{parameter: mass, low: 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameter: mass", r"terms\.yaml: expected a list of randomization terms, got dict"),
        ("- [", r"terms\.yaml: not YAML"),
        ("- mass", r"entry 0: expected a mapping"),
        (f"- {MASS}, high: 2}}\n- {{hihg: 2}}", "entry 1: unknown field 'hihg'.*'high'"),
        ("- {parameter: mass, low: 1}", "entry 0: .*'high'"),
        ("- {parameter: mass, low: 2, high: 1}", "entry 0: .*'mass': low 2.0 is above high 1.0"),
        ("- {parameter: mass, low: heavy, high: 1}", "entry 0: could not convert string to float"),
        ("- {parameter: mass, low: .nan, high: 1}", "entry 0: .*not finite"),
        (f"- {MASS}, high: 1, distribution: loguniform}}", "entry 0: .*loguniform needs low > 0"),
        (f"- {MASS}, high: -1, distribution: gaussian}}", "entry 0: .*standard deviation.*-1"),
        (f"- {MASS}, high: 1, distribution: unifrom}}", "entry 0: .*'unifrom'; expected one of uniform"),
        (f"- {MASS}, high: 1, operation: mul}}", "entry 0: .*'mul'; expected one of set, scale, add"),
        (f"- {MASS}, high: 1, when: often}}", "entry 0: .*'often'; expected one of start, reset"),
        (f"- {MASS}, high: 1, interval: [5, 1]}}", "entry 0: .*interval"),
        (f"- {MASS}, high: 1, coupling: 2}}", "entry 0: .*coupling 2.0 not in"),
    ],
)  # fmt: skip
def test_wrong_files_name_the_entry_and_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "terms.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_terms(path)
