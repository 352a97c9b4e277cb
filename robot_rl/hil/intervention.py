"""Who drives: a state machine that a person's device moves between autonomous, paused and correcting.

Pure functions of data: nothing here knows a device, a robot or a clock.

- *autonomous* → *correcting*: the clutch is closed and the device moves, or `take_over` is pressed. That very step is
  already the person's. A leader arm has to match its follower first.
- *correcting* → *autonomous*: the clutch was open for `release_time`, or `hand_back`. After `take_over` only
  `hand_back` hands back, so that a person can hold the robot still without holding a stick.
- either ↔ *paused*: `pause`. A device that is lost while the person drives pauses too: neither the last velocity nor
  the policy, which was just found wrong, may go on. Only a press of `pause` or `take_over` goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hardware.teleop.device import Sample

Mode = Literal["autonomous", "paused", "correcting"]
Verdict = Literal["", "success", "failure", "discard", "reset"]

VERDICTS: tuple[Verdict, ...] = ("discard", "failure", "reset", "success")
"""Buttons that end an episode. Of several at once, the first counts: the one that claims least."""


@dataclass(frozen=True, kw_only=True)
class InterventionConfig:
    """When a person takes over and hands back."""

    threshold: float = 1e-3
    """Norm of the device's twist, m/s and rad/s, from which it counts as moved."""
    release_time: float = 0.2
    """s with an open clutch after which the policy goes on; until then the robot rests."""
    stale_after: float = 0.15
    """s: older input moves nothing."""
    lost_after: float = 0.5
    """s: a device that was silent for longer is lost."""
    pause_when_lost: Literal["correcting", "always"] = "correcting"
    """Whether a lost device also pauses a robot that the policy drives: `always` where nobody else watches over it."""


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """The state."""

    mode: Mode = "autonomous"
    """Who drives."""
    latched: bool = False
    """Taken over with the button: an open clutch does not hand back."""
    barred: bool = False
    """The clutch has to be opened before it takes over again."""
    released_at: float | None = None
    """s on the caller's clock, since when the clutch is open; None while it is closed."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a step of the machine came to."""

    state: Intervention
    """From now on."""
    drives: bool
    """The person's action counts in this step, moving or not."""
    moves: bool
    """The device's motion is part of it; otherwise the person's action is to rest."""
    holds: bool
    """The robot rests and the step is not part of the episode."""
    verdict: Verdict = ""
    """The episode ends."""
    says: str = ""
    """What has changed, or why something was refused, for the person."""


def advance(
    state: Intervention, sample: Sample, now: float, config: InterventionConfig, mismatch: str = ""
) -> Decision:
    """One control step.

    Args:
        state: Before it.
        sample: What the device says.
        now: s, on a clock that only goes forward.
        config: When to take over and hand back.
        mismatch: Why a leader arm may not take over yet; empty where it may, and for other devices.
    """
    fresh = sample.connected and sample.age <= config.stale_after and _finite(sample)
    lost = not sample.connected or sample.age > config.lost_after
    pressed = sample.pressed if fresh else frozenset()
    # A pause is obeyed however late it comes.
    pause = "pause" in sample.pressed and (fresh or state.mode != "paused")
    verdict: Verdict = next((name for name in VERDICTS if name in pressed), "")
    closed = fresh and sample.engaged and sample.dead_man
    before, says = state, ""
    if not closed and fresh:
        state = replace(state, barred=False)

    if pause and state.mode != "paused":
        state, says = Intervention(mode="paused"), "paused; press pause to go on, or take over"
    elif lost and (state.mode == "correcting" or (state.mode == "autonomous" and config.pause_when_lost == "always")):
        state, says = Intervention(mode="paused"), "the device is lost: paused; press pause to go on when it is back"
    elif "take_over" in pressed and state.mode != "correcting":
        state, says = _take_over(state, mismatch, latched=True)
    elif "take_over" in pressed:
        state = replace(state, latched=True)
    elif "hand_back" in pressed and state.mode == "correcting":
        state, says = Intervention(barred=closed), "the policy drives"
    elif pause:
        state, says = Intervention(), "the policy drives"
    if state.mode == "autonomous" and closed and not state.barred and _touched(sample, config):
        state, refused = _take_over(state, mismatch, latched=False)
        says = refused or says
    if state.mode == "correcting":
        state, handed_back = _released(state, sample, fresh, closed, now, config)
        says = handed_back or says
    if before.mode != state.mode == "correcting":
        says = "you drive"
    rests = state.mode == "correcting" and not fresh
    drives = state.mode == "correcting" and fresh
    return Decision(
        state=state,
        drives=drives,
        moves=drives and closed,
        holds=state.mode == "paused" or rests,
        verdict=verdict,
        says=says,
    )


def begin(state: Intervention, sample: Sample) -> Intervention:
    """The state in which a new episode begins: a pause lasts, a clutch that is still closed has to be opened first.

    `sample` is what the device says at the beginning; a pause that was pressed between the episodes counts.
    """
    mode: Mode = "autonomous" if state.mode == "correcting" else state.mode
    if "pause" in sample.pressed and (sample.connected or mode != "paused"):
        mode = "autonomous" if mode == "paused" else "paused"
    return Intervention(mode=mode, barred=sample.engaged)


def _finite(sample: Sample) -> bool:
    """Whether everything is a number; a device that says anything else is not believed."""
    parts = (sample.twist, sample.pose, sample.joints)
    return all(bool(np.all(np.isfinite(part))) for part in parts if part is not None)


def _touched(sample: Sample, config: InterventionConfig) -> bool:
    """Whether the person wants something, rather than only holding the dead-man."""
    absolute = sample.pose is not None or sample.joints is not None
    moved = bool(np.linalg.norm(sample.twist) > config.threshold)  # false for what is not a number
    return absolute or moved or "gripper" in sample.buttons | sample.pressed


def _take_over(state: Intervention, mismatch: str, latched: bool) -> tuple[Intervention, str]:
    if mismatch:
        return state, f"not taken over: {mismatch}"
    return Intervention(mode="correcting", latched=latched), ""


def _released(
    state: Intervention, sample: Sample, fresh: bool, closed: bool, now: float, config: InterventionConfig
) -> tuple[Intervention, str]:
    """Hand back once the clutch has been open for long enough."""
    if closed or state.latched:
        return replace(state, released_at=None), ""
    if not fresh:  # whether it is open is not known
        return state, ""
    since = now if state.released_at is None else state.released_at
    if now - since >= config.release_time:
        return Intervention(), "the policy drives"
    return replace(state, released_at=since), ""
