"""What a cell of the matrix is, what was found in it, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from robot_rl.planes.process_group import PlanesError

Arena = TypeVar("Arena")
TITLES = {
    "arm": "Arm: its processes, what it measures, what commands it",
    "arm-nodes": "Arm: its ROS nodes under `robot-rl up`",
    "quadrotor": "Quadrotor: its ROS nodes, odometry, commands",
}
"""Groups in the order in which they run."""
WayBack = Literal["nothing to recover", "by itself", "recover", "recover, arm", "start anew", "arm"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a fault has to lead."""

    mode: str
    """Of the safety layer; `brakes` or `motors off` as the observer sees them on the robot; `ends`: no process left."""
    within: float
    """s after the fault, or after `after`: CONTRACT.md's limit, or that of the robot's own watchdog."""
    not_before: float = 0.0
    """s after the fault: earlier is a limit that is not the one that was promised."""
    after: str = ""
    """Another stage from which the time counts; empty: the fault."""


@dataclass(frozen=True, kw_only=True)
class Cell(Generic[Arena]):
    """One fault of one process or input."""

    victim: str
    """Process or input."""
    fault: str
    """What is done to it."""
    inject: Callable[[Arena], None]
    """Does it."""
    undo: Callable[[Arena], None] = lambda _: None
    """Ends it, where it can be ended."""
    stages: tuple[Stage, ...] = ()
    """What has to happen, in order; none: nothing may."""
    words: str = ""
    """Part of the cause that diagnostics have to name."""
    lasts: float = 0.0
    """s from the fault to its end, beyond the last stage's time."""
    way_back: WayBack = "nothing to recover"
    """What leads back to moving; anything less may not."""


@dataclass(kw_only=True)
class Finding:
    """What was seen in a cell."""

    robot: str
    """Arm or quadrotor, and what runs it."""
    victim: str
    """Process or input."""
    fault: str
    """What was done to it."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """`mode`, `seconds` after the fault (None: never), `limit`."""
    sequence: list[tuple[str, float]] = field(default_factory=list)
    """Every mode that was entered, and s after the fault."""
    cause: str = ""
    """In the words of the robot's diagnostics."""
    way_back: str = ""
    """What led back."""
    commands: int = 0
    """That the observer saw on their way to the robot."""
    missed: int = 0
    """That it was too slow to see."""
    outside: int = 0
    """Of those seen, how many were outside the limits."""
    attempts: int = 1
    """How often it was tried: a cell that fails is tried once more, since a busy machine may come in between."""
    problems: list[str] = field(default_factory=list)
    """What was not as it should be, in sentences; none: passed."""

    @property
    def passed(self) -> bool:
        """Whether all was as it should be."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**asdict(self), "passed": self.passed}

    def line(self) -> str:
        """For the terminal."""
        verdict = "ok" if self.passed else "NOT AS IT SHOULD BE: " + "; ".join(self.problems)
        return f"{self.robot}, {self.victim}: {self.fault}: {_path(self.sequence)} | {self.cause} | {verdict}"


def judge(finding: Finding, stages: Iterable[Stage], times: dict[str, float], late: float) -> None:
    """Compare what happened with what has to; `times` has s after the fault by mode, the first entry into each."""
    for stage in stages:
        seconds = times.get(stage.mode)
        begin = times.get(stage.after, 0.0) if stage.after else 0.0
        limit = begin + stage.within
        finding.stages.append({"mode": stage.mode, "seconds": seconds, "limit": limit})
        if seconds is None:
            finding.problems.append(f"never {stage.mode}")
        elif seconds > limit + late:
            finding.problems.append(f"{stage.mode} after {1e3 * seconds:.0f} ms (limit {1e3 * limit:.0f} ms)")
        elif seconds < stage.not_before:
            finding.problems.append(
                f"{stage.mode} after {1e3 * seconds:.0f} ms, not before {1e3 * stage.not_before:.0f}"
            )


def twice(run: Callable[[], Finding], anew: Callable[[], object], finding: Finding) -> Finding:
    """Run a cell, once more in an arena made anew if it fails; `finding` tells of one that could not be run."""
    for attempt in (1, 2):
        try:
            found = run()
        except (RuntimeError, TimeoutError, PlanesError) as error:
            found = replace(finding, problems=[f"could not be run: {' '.join(str(error).split())[:300]}"])
        found.attempts = attempt
        print(found.line(), flush=True)
        if found.passed:
            break
        anew()
    return found


def table(findings: Iterable[dict[str, Any]]) -> list[str]:
    """Findings as lines of Markdown."""
    names = (
        "process or input",
        "fault",
        "what happened, ms later",
        "limits",
        "cause, as diagnostics say",
        "way back",
    )
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for one in findings:
        limits = ", ".join(f"{s['mode']} {1e3 * s['limit']:.0f}" for s in one["stages"]) or "-"
        mark = "" if one["passed"] else f" **not as it should be: {'; '.join(one['problems'])}**"
        mark += " (second attempt)" if one["attempts"] > 1 else ""
        cause = one["cause"].replace("|", "/")
        cause = cause if len(cause) <= 110 else cause[:107] + "..."
        lines.append(
            f"| {one['victim']} | {one['fault']} | {_path(one['sequence'])}{mark} | {limits} "
            f"| {cause or '-'} | {one['way_back']} |"
        )
    return lines


def section(part: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown about stored results, a page of their own."""
    lines = [
        "# Faults",
        "",
        f"`make bench-ros ROS=faults`; {part['where']['machine']}, commit {part['where']['commit']}.",
        "Every cell is done to real processes, but for clock jumps, missing joints and errors of an arm's driver, in",
        "made time. Times are ms after the fault, by the stamps of the safety layer; `brakes`, `motors off` are what",
        "an independent observer saw on the way to the robot, which also checked each command against the limits.",
        f"A time may be {1e3 * part['late']:.0f} ms late: the machine's own lateness.",
        "",
    ]
    for name, title in TITLES.items():
        if name not in part:
            continue
        cells = part[name]["cells"]
        commands, outside = sum(c["commands"] for c in cells), sum(c["outside"] for c in cells)
        missed = sum(c["missed"] for c in cells)
        lines += [f"## {title}", ""]
        lines += [
            f"{len(cells)} cells, {sum(c['passed'] for c in cells)} as they should be; {commands:,} commands seen,"
        ]
        lines += [f"{missed:,} more passed unseen, {outside} outside the limits.", "", *table(cells), ""]
    return lines


def _path(sequence: Iterable[tuple[str, float]]) -> str:
    return " → ".join(f"{mode} {1e3 * seconds:.0f}" for mode, seconds in sequence) or "goes on"
