"""The page in a human-in-the-loop run: `robot-rl hil TASK --actor.operator cockpit`, or `cockpit:PORT`.

The actor drives with it as with any other device and shows it the robot. Everything that takes time, the server, the
pictures, the run's curves, is done by other threads than the one that drives.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hardware.teleop.device import Sample
from robot_rl.cockpit.access import Access
from robot_rl.cockpit.arm_screen import ArmScreen
from robot_rl.cockpit.device import PageDevice
from robot_rl.cockpit.episodes import EpisodeRow, episodes_message
from robot_rl.cockpit.messages import finite
from robot_rl.cockpit.server import CockpitServer
from robot_rl.errors import UserError, require_packages
from robot_rl.hil.intervention import Intervention
from robot_rl.hil.person import PersonOperator
from robot_rl.hil.plant import Plant, SimulatedPlant
from robot_rl.hil.rollout import Rollout
from sim.tasks.arm import ArmTask

_TELL = 0.1
"""s between two states."""
_READ = 1.0
"""s between two looks at the run's episodes."""


def open_page(name: str) -> HilPage:
    """The device `cockpit` or `cockpit:PORT`; it serves from `attend` on.

    Raises:
        UserError: That is no port.
    """
    require_packages("the operator `cockpit`", "cockpit", ("aiohttp", "cv2"))
    _, _, port = name.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"operator {name!r}: {port!r} is no port; write cockpit or cockpit:8765")
    return HilPage(int(port or 8765))


class HilPage(PageDevice):
    """The page, once the actor has shown it the robot; a device that is not there before."""

    def __init__(self, port: int) -> None:
        """Nothing is served yet.

        Args:
            port: Of the page, or the next one that is free.
        """
        super().__init__()
        self._port = port
        self._server: CockpitServer | None = None
        self._screen: ArmScreen | None = None
        self._rollout: Rollout | None = None
        self._told = 0.0
        self._closed = threading.Event()

    def help(self) -> str:
        """Where the page will be found."""
        return "the link of the page is printed when the robot is ready"

    def attend(self, plant: Plant, rollout: Rollout, folder: Path) -> None:
        """Serve the page of a run.

        Args:
            plant: The robot; a simulated one is shown.
            rollout: Its episodes.
            folder: Of the run.
        """
        access = Access(port=self._port, token=_kept_token(folder / "actor" / "page.token"))
        server = self._server = CockpitServer(access, self)
        self._rollout = rollout
        self.paused = lambda: self._state().mode == "paused"
        simulated = _simulated(plant)
        setup: dict[str, Any] = {"kind": "arm", "arms": [], "cameras": []}
        if simulated is not None:
            self._screen = ArmScreen(simulated.env, server)
            setup = {**self._screen.describe(), **_about(simulated.task)}
            simulated.env.loop.on_substep = self._show
            self._substeps = simulated.env.loop.substeps
        server.publish(
            "setup",
            {
                "task": "robot",
                **setup,
                "policy": "in training",
                "records": False,
                "folder": str(folder),
                "stamped": False,
                "stale_after": self.config.stale_after,
            },
        )
        threading.Thread(target=self._follow, args=(folder / "actor" / "episodes.jsonl",), daemon=True).start()
        sys.stderr.write(f"open {server.link}\r\n")

    def read(self) -> Sample:
        """The newest sample; between two of them the page is told who drives."""
        if self._server is not None and time.monotonic() - self._told > _TELL:
            self._tell()
        return super().read()

    def close(self) -> None:
        """Stop to serve."""
        super().close()
        self._closed.set()
        server, self._server = self._server, None
        if self._screen is not None:
            self._screen.close()
        if server is not None:
            server.close()

    def _state(self) -> Intervention:
        """Who drives; the operator changes with the episodes."""
        operator = self._rollout.operator if self._rollout is not None else None
        return operator.state if isinstance(operator, PersonOperator) else Intervention()

    def _show(self, substep: int) -> None:
        """After the last time step of a control period."""
        if self._screen is None or substep != self._substeps - 1:
            return
        assert self._rollout is not None
        if self._rollout.statistics.steps == 0:
            self._screen.begin()
        else:
            self._screen.show()

    def _tell(self) -> None:
        assert self._server is not None and self._rollout is not None
        self._told = time.monotonic()
        found, state = self._rollout.statistics, self._state()
        self._server.publish(
            "state",
            {
                "mode": state.mode,
                "latched": state.latched,
                "barred": state.barred,
                "arm": 0,
                "episode": found.number + 1,
                "time": round(found.seconds, 2),
                "outcome": "" if self._rollout.running else "success" if found.success else "failure",
                "arms": self._screen.arms() if self._screen is not None else {},
                "action": [],
                "recording": None,
                "command_ms": finite(1e3 * self.latency, 1),
                "refused": self.counts.stale + self.counts.disordered,
                "problem": self._screen.pictures.problem if self._screen is not None else "",
            },
        )

    def _follow(self, path: Path) -> None:
        """Tell of the run's episodes as they end; in a thread of its own."""
        size = -1
        while not self._closed.wait(_READ):
            found = path.stat().st_size if path.is_file() else 0
            server = self._server
            if found != size and server is not None:
                size = found
                server.publish("episodes", episodes_message(read_rows(path)))


def read_rows(path: Path) -> list[EpisodeRow]:
    """The finished episodes of a run from its `episodes.jsonl`; a line that is still being written does not count."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        if not line.endswith("}"):
            continue
        told = json.loads(line)
        outcome = "discarded" if told["discarded"] else "success" if told["success"] else "failure"
        rows.append(
            EpisodeRow(
                number=told["number"] + 1,
                outcome=outcome,
                seconds=round(told["seconds"], 2),
                helped=round(told["intervened"] / max(1, told["steps"]), 4),
            )
        )
    return rows


def _about(task: ArmTask) -> dict[str, Any]:
    axes = str(task.action.parameters.get("axes", "")).split()
    return {"task": task.name, "axes": axes, "limit": task.episode_length}


def _simulated(plant: Any) -> SimulatedPlant | None:
    """The simulated robot inside what judges or resets it; None for a real one."""
    while not isinstance(plant, SimulatedPlant):
        if (plant := getattr(plant, "plant", None)) is None:
            return None
    return plant


def _kept_token(path: Path) -> str:
    """The token of the run: an actor that is started again keeps its link."""
    if path.is_file() and len(token := path.read_text().strip()) >= 32:
        return token
    token = Access().token
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w") as stream:
        stream.write(token + "\n")
    return token
