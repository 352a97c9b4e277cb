"""What must stay small beside the reward: terms of cost, each a function of the truth about N environments.

A term is (N,) and at least 0; 0 is allowed, and the larger it is, the worse. `cost_terms` puts terms together into a
task's `costs`; a task's `cost_limit` holds for the mean over episodes of their sum over an episode's steps. With terms
of 0 and 1, that sum is the number of control periods in which something was violated.

Regions are shapes of a scene (`sim.scene.Shape`), in the world's frame, which is the base frame of an arm at the
origin; `region_body` makes one visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from hardware.descriptions.arm import ArmDescription
from policies.rotation import rotate, rotate_inverse
from policies.types import ArmState
from sim.scene import UPRIGHT, Body, Color, Shape, Vector

if TYPE_CHECKING:  # tasks import this module
    from sim.tasks.arm import ArmView

CostTerm: TypeAlias = "Callable[[ArmView], Tensor]"
"""The truth → cost (N,) ≥ 0."""

TOOL_POINT: tuple[Vector, ...] = ((0.0, 0.0, 0.0),)


def cost_terms(**terms: CostTerm) -> Callable[[ArmView], dict[str, Tensor]]:
    """A task's `costs` from terms by name; logs call them `cost/NAME`."""

    def costs(view: ArmView) -> dict[str, Tensor]:
        return {name: term(view) for name, term in terms.items()}

    return costs


def forbidden_region(
    region: Shape, *, points: Sequence[Vector] = TOOL_POINT, depth: float = 0.0, arm: str | None = None
) -> CostTerm:
    """1 in a step at whose end the tool is inside of a region, else 0.

    Args:
        region: The region, in the world's frame.
        points: m, points in the tool's frame that must all stay outside; the tool's origin is between the fingertips.
        depth: m; where it is above 0, the cost grows linearly from 0 at the surface to 1 at this depth.
        arm: Name of the arm; the first by default.
    """
    offsets = torch.tensor(points, dtype=torch.float32)

    def term(view: ArmView) -> Tensor:
        pose = _arm(view, arm).tool_pose[:, None]
        shape = (len(pose), len(offsets))
        turned = rotate(pose[..., 3:7].expand(*shape, 4), offsets.to(pose).expand(*shape, 3))
        inside = -signed_distance(region, pose[..., :3] + turned).min(dim=1).values
        return (inside > 0.0).float() if depth == 0.0 else (inside / depth).clamp(0.0, 1.0)

    return term


def contact_force(limit: float, arm: str | None = None) -> CostTerm:
    """Force on the tool above `limit` N, in units of that limit: 0 up to it, 1 at twice the limit.

    It needs a force-torque sensor (`ArmMount.wrench`): without one the simulated force is always 0.
    """

    def term(view: ArmView) -> Tensor:
        wrench = _arm(view, arm).wrench
        if wrench is None:
            raise ValueError("contact_force: the arm's state has no wrench; give its mount wrench=True")
        return (wrench[:, :3].norm(dim=-1) / limit - 1.0).clamp(min=0.0)

    return term


def joint_limits(description: ArmDescription, margin: float, arm: str | None = None) -> CostTerm:
    """Joints within `margin` rad of their limits: each counts from 0 at the margin to 1 at the limit and on."""
    bounds = torch.tensor(description.interface.limits["position"], dtype=torch.float32)

    def term(view: ArmView) -> Tensor:
        q = _arm(view, arm).joint_positions
        lower, upper = bounds.to(q).unbind(-1)
        left = torch.minimum(q - lower, upper - q)
        return ((margin - left) / margin).clamp(min=0.0).sum(-1)

    return term


def joint_speeds(description: ArmDescription, share: float, arm: str | None = None) -> CostTerm:
    """Joints faster than a `share` in (0, 1) of their limit: each counts from 0 there to 1 at the limit and on."""
    limits = torch.tensor(description.interface.limits["velocity"], dtype=torch.float32)[:, 1]

    def term(view: ArmView) -> Tensor:
        speed = _arm(view, arm).joint_velocities.abs()
        return ((speed / limits.to(speed) - share) / (1.0 - share)).clamp(min=0.0).sum(-1)

    return term


def signed_distance(shape: Shape, points: Tensor) -> Tensor:
    """Distance (...) m of points (..., 3), in the shape's parent frame, from its surface; negative inside."""
    turn = torch.tensor(shape.orientation).to(points).expand(*points.shape[:-1], 4)
    local = rotate_inverse(turn, points - torch.tensor(shape.position).to(points))
    if shape.kind == "sphere":
        return local.norm(dim=-1) - shape.size[0]
    if shape.kind == "capsule":
        radius, half = shape.size
        z = local[..., 2] - local[..., 2].clamp(-half, half)
        return torch.stack([local[..., 0], local[..., 1], z], dim=-1).norm(dim=-1) - radius
    if shape.kind == "cylinder":
        radius, half = shape.size
        over = torch.stack([local[..., :2].norm(dim=-1) - radius, local[..., 2].abs() - half], dim=-1)
    else:
        over = local.abs() - torch.tensor(shape.size).to(points)
    # Outside, the distance is that of what sticks out; inside, that of the nearest face.
    return over.clamp(min=0.0).norm(dim=-1) + over.max(dim=-1).values.clamp(max=0.0)


def region_body(name: str, region: Shape, color: Color = (0.9, 0.2, 0.1, 0.3)) -> Body:
    """A region as something that is seen, translucent, and touches nothing."""
    shape = replace(region, position=(0.0, 0.0, 0.0), orientation=UPRIGHT, color=color, collides=False)
    return Body(name=name, shapes=(shape,), motion="fixed", position=region.position, orientation=region.orientation)


def _arm(view: ArmView, name: str | None) -> ArmState:
    return view.arm if name is None else view.arms[name]
