"""Bundles are found by path and name, and written whole or not at all, never over something else."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import policies
from policies import BundleError, check_bundle, list_zoo
from policies import bundle as bundles
from policies.actions import ActionConfig
from policies.terms import TermConfig


def only(violations, *fragments):
    """The single violation, which must hold the fragments."""
    assert len(violations) == 1, violations
    for fragment in fragments:
        assert fragment in violations[0]


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
    monkeypatch.setattr(Path, "rename", lambda self, to: fail() if is_fresh(self, to, bundle) else rename(self, to))
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
    scores = {"crash_rate": 0.0, "steady_rmse_m": None, "episodes": 1}
    facts = bundles.describe(dataclasses.replace(maker.manifest, evaluation=scores))
    assert facts == {"name": "tiny", "task": "quadrotor-hover", "robot": "crazyflie", "crash_rate": 0.0}
