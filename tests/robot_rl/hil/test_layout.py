"""Which elements of an action are continuous and which command a gripper."""

from policies.actions import ActionConfig, action_size
from robot_rl.hil.layout import ActionLayout, action_layout
from sim.tasks import TASKS


def twist(**parameters):
    return ActionConfig(name="cartesian_twist", parameters={"axes": "x y z rz gripper", "linear": 0.1, **parameters})


def test_grippers_are_found_by_name():
    layout = action_layout(twist())
    assert layout == ActionLayout(continuous=(0, 1, 2, 3), grippers=(4,))
    assert layout.size == 5


def test_two_arms_have_two_grippers():
    layout = action_layout(twist(arms="left right"))
    assert layout.grippers == (4, 9)
    assert layout.continuous == (0, 1, 2, 3, 5, 6, 7, 8)


def test_grippers_can_be_continuous():
    assert action_layout(twist(), discrete_grippers=False) == ActionLayout(tuple(range(5)), ())


def test_a_twist_without_gripper_and_other_actions_are_continuous():
    assert action_layout(twist(axes="x y z")) == ActionLayout((0, 1, 2), ())
    rates = TASKS["quadrotor-hover"].action
    assert action_layout(rates) == ActionLayout(tuple(range(action_size(rates))), ())
