"""The compiler, and bundles of random networks."""

import sys
from pathlib import Path

import pytest

from robot_rl.export_c.compiled import find_compiler

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_bundle(tmp_path):
    """Write a bundle of a random network and return its folder."""
    import random_bundles

    return lambda *given, **named: random_bundles.make_bundle(tmp_path / "random", *given, **named)


@pytest.fixture(scope="session")
def compiler():
    """The C compiler."""
    found = find_compiler()
    if found is None:
        pytest.skip("there is no C compiler (cc, gcc or clang): nothing exported to C is tested")
    return found
