"""What can be named on the command line: tasks, robots, algorithms and bundles.

Nothing here imports a simulator or torch: the first sentence of a module's docstring says what it is, and a
bundle's manifest is JSON. So `robot-rl list` works on a robot that only flies policies.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from hardware.descriptions import list_descriptions, load_description
from robot_rl.errors import unknown_name

_ROOT = Path(__file__).resolve().parent.parent
_ALGORITHMS = ("apg", "ppo", "ppo-lagrangian")
_IMITATION = ("bc", "bc-rnn", "act", "diffusion", "consistency")
"""One file of this package each."""
_HEADLINE = re.compile(r"`(?P<name>[\w-]+)`: (?P<summary>.+?)(?:\.(?:\s|$)|$)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that can be named."""

    name: str
    """As the command line takes it."""
    summary: str
    """What it is, in one sentence."""
    path: str
    """File or folder that defines it."""


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """List tasks, robots, algorithms and bundles."""

    json: bool = False
    """Write JSON to the standard output instead of tables."""
    runs: Path = Path("runs")
    """Folder whose trained bundles are listed beside those that ship with the package."""


def list_tasks() -> list[Entry]:
    """Tasks of `sim/`, one file each."""
    entries = []
    for path in sorted((_ROOT / "sim" / "tasks").glob("*.py")):
        match = _HEADLINE.match(_docstring(path))
        if match and match["name"].replace("-", "_") == path.stem:
            entries.append(Entry(name=match["name"], summary=" ".join(match["summary"].split()), path=str(path)))
    return entries


def list_algorithms() -> list[Entry]:
    """Algorithms of `robot_rl/` and of `robot_rl/imitation/`, one file each."""
    folders = {
        **dict.fromkeys(_ALGORITHMS, _ROOT / "robot_rl"),
        **dict.fromkeys(_IMITATION, _ROOT / "robot_rl" / "imitation"),
    }
    paths = [(name, folder / f"{name.replace('-', '_')}.py") for name, folder in folders.items()]
    return [Entry(name=name, summary=_first_sentence(path), path=str(path)) for name, path in paths if path.is_file()]


def list_robots() -> list[Entry]:
    """Robots described in `hardware/descriptions/`."""
    entries = []
    for name in list_descriptions():
        interface = load_description(name).interface
        summary = f"{interface.kind} with {len(interface.actuators)} actuators"
        path = _ROOT / "hardware" / "descriptions" / f"{name}.yaml"
        entries.append(Entry(name=name, summary=summary, path=str(path)))
    return entries


def list_bundles(runs: Path | None = None) -> list[Entry]:
    """Bundles that ship in `policies/zoo/`, by name, and those under `runs`, by path."""
    zoo = _ROOT / "policies" / "zoo"
    manifests = [(path.parent.name, path) for path in sorted(zoo.glob("*/manifest.json"))]
    if runs is not None and runs.is_dir():
        manifests += [(str(path.parent), path) for path in sorted(runs.glob("**/manifest.json"))]
    return [Entry(name=name, summary=_bundle_summary(path), path=str(path.parent)) for name, path in manifests]


def check_task(name: str) -> str:
    """Return `name` if it is a task; raise `UserError` with the nearest match if not."""
    known = [entry.name for entry in list_tasks()]
    if name not in known:
        raise unknown_name("task", name, known)
    return name


def run(config: ListConfig) -> int:
    """Print the lists."""
    groups = {
        "tasks": list_tasks(),
        "algorithms": list_algorithms(),
        "robots": list_robots(),
        "bundles": list_bundles(config.runs),
    }
    if config.json:
        print(json.dumps({name: [asdict(entry) for entry in entries] for name, entries in groups.items()}, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for title, entries in groups.items():
        table = Table(
            title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2)
        )
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(overflow="fold")
        for entry in entries:
            table.add_row(entry.name, entry.summary)
        if not entries:
            table.add_row("none", "")
        console.print(table)
    return 0


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _first_sentence(path: Path) -> str:
    text = " ".join(_docstring(path).split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".")


def _bundle_summary(path: Path) -> str:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        parts = [f"{manifest['task']} at {manifest['control_rate_hz']:g} Hz"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "manifest.json cannot be read"
    evaluation = manifest.get("evaluation") or {}
    for key, text in (
        ("crash_rate", "crashes {:.1%}"),
        ("steady_rmse_m", "steady {:.3f} m"),
        ("tracking_rmse_m", "tracking {:.3f} m"),
    ):
        if isinstance(evaluation.get(key), int | float):
            parts.append(text.format(evaluation[key]))
    return ", ".join(parts)
