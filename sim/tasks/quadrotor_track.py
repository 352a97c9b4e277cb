"""`quadrotor-track`: follow a moving set-point: figure-eights, random smooth paths, steps, hovering.

The same vehicle, randomization and envelope as `quadrotor-hover`.
"""

from __future__ import annotations

from policies.observations import TermConfig
from sim.tasks import quadrotor_hover
from sim.tasks.quadrotor import PathRanges, QuadrotorTask

TERMS = (
    *quadrotor_hover.TERMS,
    TermConfig(name="setpoint_acceleration", parameters={"scale": 0.1}),
)

TASK = QuadrotorTask(
    name="quadrotor-track",
    episode_length=10.0,
    terms=TERMS,
    action=quadrotor_hover.ACTION,
    envelope=quadrotor_hover.ENVELOPE,
    path=PathRanges(),
    randomization=quadrotor_hover.RANDOMIZATION,
)
