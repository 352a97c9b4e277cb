"""Soundness of the streams beside the control steps: silence, times that run backwards, late and dropped messages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robot_rl.demos.configs import CheckSettings
from robot_rl.demos.dataset import Demonstration
from robot_rl.recording import Stream, steps

_FEW = 10
"""Messages below which a stream has no rate."""


def check_streams(one: Demonstration, settings: CheckSettings) -> Iterator[tuple[str, str]]:
    """Kind and text of every finding, all of them errors."""
    if one.recording is None:
        return
    for topic, count in one.recording.dropped.items():
        yield "dropped messages", f"the recorder could not store {count} messages of {topic!r}"
    own = {steps.TOPIC, *(steps.picture_topic(camera) for camera in one.episode.schema.images)}
    for topic, stream in one.recording.streams.items():
        if topic not in own and len(stream) >= _FEW:
            yield from _check(stream, settings)


def _check(stream: Stream, settings: CheckSettings) -> Iterator[tuple[str, str]]:
    measured, received = stream.measured, stream.received
    gaps = np.diff(measured)
    backwards = int((gaps < 0.0).sum())
    if backwards:
        text = f"{stream.topic!r} has {backwards} messages that were measured before the one before"
        yield "time", text
    typical = float(np.median(gaps))
    longest = int(gaps.argmax())
    silent = max(settings.stale, 5.0 * typical)
    if gaps[longest] > silent:
        yield "stale", f"{stream.topic!r} is silent for {gaps[longest]:.2f} s; it has a message every {typical:.3f} s"
    late = received - measured
    share = float((late > settings.latency).mean())
    if share > settings.late_share:
        text = f"{share:.0%} of {stream.topic!r} came in over {settings.latency:g} s after their measurement"
        yield "late messages", f"{text} ({late.max():.2f} s at worst)"
    if (late < -0.001).any():
        yield "clock", f"{stream.topic!r} was measured up to {-late.min():.3f} s after it came in: the clocks differ"
