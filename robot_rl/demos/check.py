"""`robot-rl demos check`: is a data set sound? Says of every episode what is not, and how bad that is.

An *error* is something that learning or replay would take for data: missing frames, streams that stood still, actions
beside their observations, jumps, the same episode twice, files that cannot be read. A *note* is something to know: an
episode that was cut off and is whole up to there, rest, saturation, failure. Errors make the exit status 1.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robot_rl.demos.configs import CheckConfig, CheckSettings
from robot_rl.demos.dataset import DataSet, Demonstration, open_set
from robot_rl.demos.motion import Columns, columns_of, follow_strength, moving_steps
from robot_rl.demos.streams import check_streams

_LEAST_STEPS = 30
"""Steps from which on an offset can be estimated."""
_LEAST_OTHERS = 3
"""Episodes from which on one knows what changes are usual."""
_LEAST_STRENGTH = 0.15
"""Correlation below which action and motion have nothing to do with each other that can be seen."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it should be."""

    episode: str
    """Name of the episode or file; empty for the whole set."""
    kind: str
    """What it is, e.g. `missing frames`."""
    severity: Literal["error", "note"]
    """Whether the set is unsound because of it."""
    text: str
    """In one sentence."""


def run(config: CheckConfig) -> int:
    """Print the findings; 0 where none is an error."""
    data = open_set(config.path)
    findings = check(data, config.settings)
    errors = sum(finding.severity == "error" for finding in findings)
    if config.json:
        result = {"episodes": len(data), "errors": errors, "findings": [asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return int(errors > 0)
    for finding in findings:
        where = f"{finding.episode}: " if finding.episode else ""
        sys.stdout.write(f"{finding.severity:5}  {where}{finding.kind}: {finding.text}\n")
    verdict = "sound" if not errors else "not sound"
    sys.stdout.write(
        f"{config.path}: {len(data)} episodes, {errors} errors, {len(findings) - errors} notes: {verdict}\n"
    )
    return int(errors > 0)


def check(data: DataSet, settings: CheckSettings = CheckSettings()) -> list[Finding]:
    """Everything that is wrong with a set, or worth knowing."""
    found = [_error(name, "unreadable", text) for name, text in data.unreadable.items()]
    found += [_note(name, "recovered", text) for name, text in data.repaired.items()]
    if not len(data):
        return found or [_error("", "empty", f"there are no episodes at {data.path}")]
    for kind in _kinds(data.demonstrations):
        largest = np.stack([_largest_change(one) for one in kind])
        columns = columns_of([one.episode for one in kind])
        found += _offset("", kind, columns, settings)
        for number, one in enumerate(kind):
            found += _timing(one, settings)
            found += _still(one, columns, settings)
            found += _actions(one, columns, settings)
            others = np.delete(largest, number, axis=0)
            found += _jumps(one, others, columns, settings)
            found += [_error(one.name, *words) for words in check_streams(one, settings)]
            if len(kind) > 1:
                found += _offset(one.name, [one], columns, settings)
            if one.state != "finished":
                found.append(_note(one.name, "unfinished", f"it is {one.state} after {len(one.episode)} steps"))
            elif not one.episode.success:
                found.append(_note(one.name, "failure", "the task was not done"))
    return found + list(_duplicates(data.demonstrations))


def _timing(one: Demonstration, settings: CheckSettings) -> Iterator[Finding]:
    times, period = one.episode.observed_at, one.period
    gaps = np.diff(times)
    if not len(gaps):
        return
    if (gaps <= 0.0).any():
        step = int(np.argmax(gaps <= 0.0)) + 1
        yield _error(
            one.name, "time", f"step {step} was measured {-1e3 * gaps[step - 1]:.1f} ms before the step before"
        )
        return
    waits = one.episode.acted_at - times
    # While a person pauses the robot stands: the time from an observation to its action, and no frame is missing.
    paused = np.where(waits > np.median(waits) + period, waits - np.median(waits), 0.0)
    gaps = gaps - paused[: len(gaps)]
    typical = float(np.median(gaps))
    if abs(typical / period - 1.0) > settings.rate_error:
        text = f"the steps are {1e3 * typical:.1f} ms apart; {1.0 / period:g} Hz asks for {1e3 * period:.1f} ms"
        yield _error(one.name, "rate", text)
    # A late step that the next one makes up for is no missing one.
    together = gaps + np.append(gaps[1:], typical)
    missing = np.where(together > 2.5 * typical, np.round(gaps / typical).astype(int) - 1, 0).clip(0)
    if missing.any():
        worst = int(np.argmax(gaps))
        yield _error(
            one.name,
            "missing frames",
            f"{missing.sum()} in {(missing > 0).sum()} gaps, the longest of {gaps[worst]:.2f} s behind step {worst}",
        )
    late = np.abs(gaps - typical) > settings.late * typical
    share = float((late & (missing == 0)).mean())
    if share > settings.late_share:
        deviation = 1e3 * float(gaps.std())
        text = (
            f"{share:.0%} of the steps are off by over {settings.late:.0%} of a period ({deviation:.1f} ms deviation)"
        )
        yield _error(one.name, "jitter", text)
    slow = waits > settings.latency + period
    if slow.mean() > settings.late_share or waits.min() < -1e-3:
        text = f"actions were given {1e3 * waits.min():.0f} to {1e3 * waits.max():.0f} ms after their observation"
        yield _error(one.name, "late actions", text)
    elif paused.any():
        text = f"the robot stood {(paused > 0.0).sum()} times, for {paused.sum():.1f} s, while steps were not counted"
        yield _note(one.name, "paused", text)


def _still(one: Demonstration, columns: Columns, settings: CheckSettings) -> Iterator[Finding]:
    """Observations and pictures that repeat themselves to the bit while somebody acts."""
    episode = one.episode
    acting = np.abs(episode.actions[:, columns.moving]).max(axis=1, initial=0.0) > 0.05
    sources = {"observation": episode.observations[:, columns.measured]}
    most = max(3, round(settings.stale / one.period))
    for name in (*sources, *episode.images):
        values = sources[name] if name in sources else episode.images[name]
        same = (values[1:] == values[:-1]).all(axis=tuple(range(1, values.ndim)))[: len(acting)]
        count, first = _longest(same & acting[: len(same)])
        if count >= most:
            what = "the observation" if name in sources else f"the picture of {name!r}"
            text = f"{what} stands still for {count * one.period:.1f} s from step {first} on, while actions are given"
            yield _error(one.name, "stale", text)


def _actions(one: Demonstration, columns: Columns, settings: CheckSettings) -> Iterator[Finding]:
    episode = one.episode
    share = (np.abs(episode.actions) > 0.99).mean(axis=0) * columns.moving
    if share.max() > settings.saturated_share:
        component = int(share.argmax())
        yield _note(
            one.name, "saturated", f"component {component} is at its limit in {share[component]:.0%} of the steps"
        )
    count, first = _longest(~moving_steps(episode, columns))
    if count * one.period >= settings.idle:
        yield _note(one.name, "idle", f"rests for {count * one.period:.1f} s from step {first} on; see `trim --idle`")


def _jumps(
    one: Demonstration, largest: NDArray[np.float64], columns: Columns, settings: CheckSettings
) -> Iterator[Finding]:
    """Changes of measured numbers far beyond the largest ones (E, D) of the other episodes."""
    changes = np.abs(np.diff(one.episode.observations, axis=0)) * columns.measured
    if not len(changes) or len(largest) < _LEAST_OTHERS:
        return
    usual = np.median(largest, axis=0)
    ratios = changes / np.maximum(usual, 0.75 * columns.deviation + 1e-3)
    if ratios.max() > settings.jump:
        step, number = np.unravel_index(int(ratios.argmax()), ratios.shape)
        yield _error(
            one.name,
            "jump",
            f"number {number} of the observation changes by {ratios.max():.1f} times the usual most behind step {step}",
        )


def _offset(name: str, kind: Sequence[Demonstration], columns: Columns, settings: CheckSettings) -> Iterator[Finding]:
    """Actions that are not beside the observation that they answer: motion precedes them, or follows very late."""
    episodes = [one.episode for one in kind]
    if sum(len(episode) for episode in episodes) < _LEAST_STEPS:
        return
    period = kind[0].period
    latest = int(settings.latest / period + 1e-6)
    reach = max(4, latest + 3)
    strength = follow_strength(episodes, columns, range(-reach, reach + 1))
    best = max(strength, key=lambda lag: strength[lag])
    inside = max(value for lag, value in strength.items() if 0 <= lag <= max(1, latest))
    if strength[best] < _LEAST_STRENGTH or strength[best] < 1.1 * inside:
        return
    when = f"{abs(best)} steps ({1e3 * abs(best) * period:.0f} ms)"
    if best < 0:
        text = (
            f"motion comes {when} before its action: the actions are recorded too late, or the observations too early"
        )
    else:
        text = f"motion comes {when} after its action; {1e3 * settings.latest:.0f} ms is the most that is expected"
    yield _error(name, "action offset", text)


def _duplicates(demonstrations: Sequence[Demonstration]) -> Iterator[Finding]:
    """Episodes most of whose steps are those of an earlier one, to the bit: sensors never repeat themselves."""
    owners: dict[int, int] = {}
    for number, one in enumerate(demonstrations):
        rows = np.concatenate([one.episode.observations[: len(one.episode)], one.episode.actions], axis=1)
        digests = [hash(row.tobytes()) for row in rows]
        others = Counter(owners[digest] for digest in digests if digest in owners)
        if others:
            other, count = others.most_common(1)[0]
            if 2 * count > len(digests):
                text = f"{count} of its {len(digests)} steps are those of {demonstrations[other].name}"
                yield _error(one.name, "duplicate", text)
        for digest in digests:
            owners.setdefault(digest, number)


def _largest_change(one: Demonstration) -> NDArray[np.float64]:
    changes = np.abs(np.diff(one.episode.observations, axis=0))
    return np.asarray(changes.max(axis=0, initial=0.0), np.float64)


def _kinds(demonstrations: Sequence[Demonstration]) -> list[list[Demonstration]]:
    """Episodes that can be compared with each other."""
    kinds: dict[str, list[Demonstration]] = {}
    for one in demonstrations:
        kinds.setdefault(json.dumps(one.episode.schema.to_dict(), sort_keys=True), []).append(one)
    return list(kinds.values())


def _longest(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Length and beginning of the longest stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]]))).reshape(-1, 2)
    if not len(edges):
        return 0, 0
    lengths = edges[:, 1] - edges[:, 0]
    return int(lengths.max()), int(edges[lengths.argmax(), 0])


def _error(episode: str, kind: str, text: str) -> Finding:
    return Finding(episode=episode, kind=kind, severity="error", text=text)


def _note(episode: str, kind: str, text: str) -> Finding:
    return Finding(episode=episode, kind=kind, severity="note", text=text)
