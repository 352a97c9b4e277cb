"""What a policy's action is made of: velocities that a Gaussian explores, and grippers that are open or closed."""

from __future__ import annotations

from dataclasses import dataclass

from policies.actions import ActionConfig, action_size


@dataclass(frozen=True)
class ActionLayout:
    """Which elements of a normalized action (A,) are continuous, and which command a gripper."""

    continuous: tuple[int, ...]
    """Their places in the action, in order."""
    grippers: tuple[int, ...]
    """Places of the grippers' commands: -1 closes, 1 opens."""

    @property
    def size(self) -> int:
        """A."""
        return len(self.continuous) + len(self.grippers)


def action_layout(action: ActionConfig, discrete_grippers: bool = True) -> ActionLayout:
    """The layout of an action term; with `discrete_grippers` false everything is continuous."""
    size = action_size(action)
    axes = str(action.parameters.get("axes", "")).split() if action.name == "cartesian_twist" else []
    names = axes * (size // len(axes)) if axes else [""] * size
    grippers = tuple(i for i, name in enumerate(names) if name == "gripper") if discrete_grippers else ()
    return ActionLayout(continuous=tuple(i for i in range(size) if i not in grippers), grippers=grippers)
