"""What several tests of arms share: their names, random joint angles within the limits, an independent model."""

import numpy as np
import pytest

from hardware.descriptions import load_arm

ARMS = ("panda", "fr3", "ur5e", "xarm7")


@pytest.fixture(params=ARMS)
def arm(request):
    """Each arm that ships, with its gripper."""
    return load_arm(request.param)


@pytest.fixture
def random_angles():
    """(arm, shape) → joint angles (*shape, n) within the limits, the same in every run."""
    rng = np.random.default_rng(7)

    def draw(description, *shape):
        lower, upper = np.array(description.interface.limits["position"]).T
        return rng.uniform(lower, upper, (*shape, description.num_joints))

    return draw
