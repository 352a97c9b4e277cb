"""`quadrotor-track`: follow a moving set-point: figure-eights, random smooth paths, steps, hovering.

The same vehicle, randomization and envelope as `quadrotor-hover`.
"""

from __future__ import annotations

from policies.terms import TermConfig
from sim.tasks.quadrotor import PathRanges, QuadrotorTask
from sim.tasks.quadrotor_hover import ACTION, ENVELOPE, RANDOMIZATION
from sim.tasks.quadrotor_hover import TERMS as HOVER_TERMS

TERMS = (
    *HOVER_TERMS,
    TermConfig(name="setpoint_acceleration", parameters={"scale": 0.1}),
)

TASK = QuadrotorTask(
    name="quadrotor-track",
    episode_length=10.0,
    terms=TERMS,
    action=ACTION,
    envelope=ENVELOPE,
    path=PathRanges(),
    apg_updates=1300,
    randomization=RANDOMIZATION,
)
