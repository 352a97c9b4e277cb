"""m/s² ↔ throttle: one point fixes the scale, and the way back is the way there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.descriptions import load_description
from hardware.drivers.thrust_scale import GRAVITY, ThrustScale, described_hover


@settings(deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.0, 1.0))
def test_gravity_is_the_hover_throttle(hover, square):
    scale = ThrustScale(hover=hover, square=square)
    assert scale.throttle(GRAVITY) == pytest.approx(hover)
    assert scale.thrust(1.0) == pytest.approx(scale.full)


@settings(deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_throttle_and_thrust_are_inverse(hover, square, throttle):
    scale = ThrustScale(hover=hover, square=square)
    assert scale.throttle(scale.thrust(throttle)) == pytest.approx(throttle, abs=1e-9)


def test_limits_hold():
    scale = ThrustScale(hover=0.5, lower=0.06, upper=0.9)
    assert scale.throttle(-3.0) == 0.06
    assert scale.throttle(100.0) == 0.9


@pytest.mark.parametrize("wrong", [{"hover": 0.0}, {"hover": 42.0}, {"hover": 0.5, "square": 2.0}])
def test_a_wrong_calibration_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        ThrustScale(**wrong)


def test_the_description_knows_its_hover_throttle():
    """Thrust-to-weight 1.53 of the Crazyflie's description: it hovers at 1 / 1.53 of full thrust."""
    assert described_hover(load_description("crazyflie")) == pytest.approx(1.0 / 1.53, rel=1e-3)
