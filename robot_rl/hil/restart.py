"""When is it shorter to begin anew than to go on? The expected time to the first success, in closed form.

**Attempts.** An attempt is doomed with probability q: it never succeeds. Otherwise its success arrives like the first
event of a Poisson process of rate λ, which begins after the least time t₀ that the task takes: nothing has arrived by
s with the probability G(s) = exp(-λ max(0, s - t₀)). A failure is noticed at the time-out T only, and costs a reset of
R. Attempts are independent, and they are repeated until one succeeds.

**Without a rule** an attempt succeeds with p = (1 - q)(1 - G(T)) and takes

    D = E[min(S, T)] = q T + (1 - q) e(T),  where  e(s) = ∫₀ˢ G = min(s, t₀) + (1 - G(s)) / λ.

The number N of attempts is geometric with the mean 1/p. All N take D on average, whatever comes after them (Wald), and
all but the last are followed by a reset, so that the makespan is

    E = D / p + R (1 / p - 1).

**With a rule** every attempt that still runs at t < T is judged once, and given up if the predictor raises an alarm: it
does with the true-positive rate a = P(alarm | runs at t, will fail) and with the false-positive rate b = P(alarm | runs
at t, would succeed). Of all attempts p₂ = (1 - q)(G(t) - G(T)) would succeed later than t, in m = E[S - t | t < S ≤ T]
on average, and f = 1 - p fail. An attempt then succeeds with p' = p - b p₂ and takes D' = D - a f (T - t) - b p₂ m: a
true alarm saves T - t, a false one the time m that the success was away. As above, E' = D' / p' + R (1 / p' - 1).

**Worth it?** E' < E is D' + R (1 - p') < p' E. With D' and p' from above and D + R (1 - p) = p E that is

    a f (T - t)  >  b p₂ (E + R - m).

On the left is what true alarms save. On the right is what false ones cost: another whole makespan and a reset, in
place of a success that was m away. So without false alarms giving up always helps, and resets count only as the price
of false alarms: a true one brings forward a reset that was due anyway. It never helps if a = 0 or t = T; if resets are
too dear, R ≥ a f (T - t) / (b p₂) + m - E; and, however cheap they are, where the predictor knows nothing (a = b) and
the rate of success is the same at all times (q = 0, t₀ = 0): then each moment is as good as the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """How long attempts take."""

    rate: float
    """1/s, at which success arrives in an attempt that is not doomed: λ."""
    doomed: float
    """Share of the attempts that never succeed: q."""
    limit: float
    """s, the time-out: T."""
    least: float = 0.0
    """s that a success takes at least: t₀."""

    def __post_init__(self) -> None:
        if not (self.rate > 0.0 and 0.0 <= self.doomed < 1.0 and 0.0 <= self.least < self.limit):
            raise ValueError(
                f"run times {self} make no sense: rate > 0, 0 <= doomed < 1 and 0 <= least < limit are needed"
            )

    def pending(self, time: float) -> float:
        """Chance that an attempt that is not doomed has not succeeded at `time` s: G."""
        return math.exp(-self.rate * max(0.0, time - self.least))

    @property
    def success(self) -> float:
        """Chance that an attempt succeeds: p."""
        return (1.0 - self.doomed) * (1.0 - self.pending(self.limit))

    @property
    def duration(self) -> float:
        """Mean time of an attempt, s: D."""
        return self.doomed * self.limit + (1.0 - self.doomed) * self._area(self.limit)

    def later(self, time: float) -> tuple[float, float]:
        """Share of the attempts that succeed later than at `time` s, p₂, and how much later on average, s: m."""
        after = self.pending(time) - self.pending(self.limit)
        if after <= 0.0:
            return 0.0, 0.0
        # The area under G from `time` on, less that of the attempts that run into the time-out.
        wait = self._area(self.limit) - self._area(time) - (self.limit - time) * self.pending(self.limit)
        return (1.0 - self.doomed) * after, wait / after

    def _area(self, time: float) -> float:
        return min(time, self.least) + (1.0 - self.pending(time)) / self.rate


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A predictor that judges once in an attempt, and how well it does; see `robot_rl.hil.failure`."""

    time: float
    """s after the beginning at which attempts that still run are judged: t."""
    true_positives: float
    """Share of those that will fail which it gives up: a."""
    false_positives: float
    """Share of those that would succeed which it gives up: b."""

    def __post_init__(self) -> None:
        if not (self.time >= 0.0 and 0.0 <= self.true_positives <= 1.0 and 0.0 <= self.false_positives <= 1.0):
            raise ValueError(f"{self} makes no sense: a time is not negative, rates are between 0 and 1")


def expected_makespan(runs: RunTimes, reset: float, alarm: Alarm | None = None) -> float:
    """Mean time to the first success, s; infinite where nothing that would succeed is let go on.

    Args:
        runs: How long attempts take.
        reset: s between a failure, or giving up, and the next attempt: R.
        alarm: The rule; None never gives up.
    """
    success, duration = runs.success, runs.duration
    if alarm is not None and alarm.time < runs.limit:
        share, wait = runs.later(alarm.time)
        true, false = alarm.true_positives * (1.0 - runs.success), alarm.false_positives * share
        success -= false
        duration -= true * (runs.limit - alarm.time) + false * wait
    if success < 1e-12:
        return math.inf
    return duration / success + reset * (1.0 / success - 1.0)


def worth_restarting(runs: RunTimes, reset: float, alarm: Alarm) -> bool:
    """Whether giving up on alarms shortens the expected makespan: what it saves is more than what it costs."""
    if alarm.time >= runs.limit:
        return False
    share, wait = runs.later(alarm.time)
    saved = alarm.true_positives * (1.0 - runs.success) * (runs.limit - alarm.time)
    if alarm.false_positives * share == 0.0:
        return saved > 0.0
    cost = alarm.false_positives * share * (expected_makespan(runs, reset) + reset - wait)
    return saved > cost * (1.0 + 1e-12)  # what is equal but for rounding is not worth it


def dearest_reset(runs: RunTimes, alarm: Alarm) -> float:
    """Cost of a reset, s, from which on giving up is no longer worth it; -inf where it never is, inf where always."""
    share, wait = runs.later(alarm.time)
    false = alarm.false_positives * share
    saved = alarm.true_positives * (1.0 - runs.success) * max(0.0, runs.limit - alarm.time)
    if false == 0.0:
        return math.inf if saved > 0.0 else -math.inf
    # E = D / p + R (1 / p - 1), so E + R = (D + R) / p.
    bound = (saved / false + wait) * runs.success - runs.duration
    return bound if bound > 0.0 else -math.inf


def best_alarm(runs: RunTimes, reset: float, alarms: Iterable[Alarm]) -> Alarm | None:
    """The alarm with the shortest expected makespan; None where it is best never to give up."""
    worth = [alarm for alarm in alarms if worth_restarting(runs, reset, alarm)]
    return min(worth, key=lambda alarm: expected_makespan(runs, reset, alarm), default=None)


def fit_run_times(durations: Sequence[float], successes: Sequence[bool], limit: float) -> RunTimes:
    """Run times of recorded attempts, by maximum likelihood (expectation maximization).

    Args:
        durations: s, of each attempt; of those that failed they do not count.
        successes: Whether each succeeded.
        limit: s, the time-out.

    Raises:
        ValueError: None of them succeeded.
    """
    times = [float(time) for time, success in zip(durations, successes, strict=True) if success]
    if not times:
        raise ValueError(f"none of {len(durations)} attempts succeeded: how long a success takes is not known")
    failures, least = len(durations) - len(times), min(times)
    spent = max(sum(time - least for time in times), 1e-9 * limit)
    if least >= limit:
        raise ValueError(f"the shortest success took {least:g} s, no less than the time-out of {limit:g} s")
    doomed, rate = failures / len(durations), len(times) / spent
    for _ in range(1000):
        unlucky = (1.0 - doomed) * math.exp(-rate * (limit - least))
        share = doomed / (doomed + unlucky) if failures else 0.0
        before = rate
        doomed = failures * share / len(durations)
        rate = len(times) / (spent + failures * (1.0 - share) * (limit - least))
        if abs(rate - before) < 1e-9 * rate:
            break
    return RunTimes(rate=rate, doomed=doomed, limit=limit, least=least)
