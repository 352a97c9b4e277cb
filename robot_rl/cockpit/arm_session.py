"""Episodes of a simulated arm that somebody drives, or whose policy they correct, from the page.

The simulation keeps to real time by itself: nothing here waits for a page. While nobody holds the dead-man and no
policy drives, its time stands still, and so does the robot.
"""

from __future__ import annotations

import dataclasses
import queue
import time
from collections import deque
from typing import Any

import numpy as np

from robot_rl.cockpit.arm_screen import ArmScreen
from robot_rl.cockpit.config import CockpitConfig
from robot_rl.cockpit.episodes import EpisodeRecorder, EpisodeRow, episodes_message
from robot_rl.cockpit.messages import finite
from robot_rl.cockpit.policy import load_policy, make_pilot
from robot_rl.cockpit.server import CockpitServer
from robot_rl.demos.collect import schema_of
from robot_rl.demos.plants import build_plant, describe_terms, find_task
from robot_rl.errors import UserError
from robot_rl.evaluate_arm import looks_of
from robot_rl.hil.intervention import InterventionConfig
from robot_rl.hil.person import PersonOperator
from robot_rl.hil.plant import Moment
from robot_rl.hil.records import Record
from robot_rl.hil.rollout import Rollout
from robot_rl.play_controls import Clock, Controls
from robot_rl.play_stage import Frames
from robot_rl.recording import messages as streams

FRAME_RATE = 30
"""Pictures and poses per second."""
_STATES = 2
"""Frames per message of the state."""
_PACED = 5
"""Time steps of physics between two looks at the clock."""
_REST = 0.02
"""s between two looks at the device while the robot rests."""
_RESTING_RATE = 10
"""Frames per second while it rests."""
_PAUSE_AT_END = 1.2
"""s for which the end of an episode is shown."""


class ArmSession:
    """Runs until its controls are closed."""

    def __init__(self, config: CockpitConfig, server: CockpitServer, controls: Controls | None = None) -> None:
        """Build the robot and tell the pages about it.

        Args:
            config: Task, policy, recording.
            server: Of the page.
            controls: End it by closing them, from any thread.

        Raises:
            UserError: Something that the config names does not exist or does not fit.
        """
        self._config, self._server, self.controls = config, server, controls or Controls()
        policy, task, images = load_policy(config.policy, find_task(config.task, config.settings))
        cameras = tuple(images) or config.cameras
        sides = {side for shape in images.values() for side in shape[:2]} or {config.resolution}
        if len(sides) != 1:
            raise UserError(f"bundle {config.policy!r} looks at pictures of {sorted(sides)} pixels; expected one size")
        self._resolution = sides.pop()
        self._looks = looks_of(policy) if images else "cell"
        self.plant = build_plant(
            task, config.randomization, cameras=cameras, resolution=self._resolution, looks=self._looks
        )
        self.task = self.plant.task
        self.pilot = make_pilot(config.policy, policy, self.task)
        self._alone = config.policy == "none"
        self._lines: deque[dict[str, Any]] = deque(maxlen=6)
        # A policy drives only while somebody who could stop it has the seat.
        lost = InterventionConfig(pause_when_lost="correcting" if self._alone else "always")
        self.operator = PersonOperator(
            server.device, self.task.action, self.task.period, config=lost, demonstrates=self._alone, say=self._say
        )
        server.device.paused = lambda: self.operator.state.mode == "paused"
        self.rollout = Rollout(self.plant, self.operator)
        self.recorder = EpisodeRecorder(config.out, schema_of(self.plant), on=config.record, say=self._say)
        self._first_seed = config.seed + self.recorder.next_number
        self.rows: list[EpisodeRow] = []
        """Finished episodes."""
        self.screen = ArmScreen(self.plant.env, server, size=config.picture, stamped=config.stamped)
        self._joints = {arm["name"]: arm["joints"] for arm in self.screen.describe()["arms"]}
        self._clock = Clock(self.controls)
        self._frames = Frames(1.0 / FRAME_RATE)
        self._time = self._began = 0.0
        self._shown, self._shown_at = 0, 0.0
        self._outcome = ""
        self._last: Record | None = None
        self._seen: Moment | None = None
        self._info = self._common_info(cameras)
        self.plant.env.loop.on_substep = self._substep
        self._describe()
        self._server.publish("episodes", episodes_message(self.rows))

    def run(self) -> None:
        """Play episodes."""
        while not self.controls.closed:
            self._episode()

    def close(self) -> None:
        """Let everything go."""
        self.recorder.close()
        self.screen.close()
        self.plant.close()

    # Episodes

    def _episode(self) -> None:
        self.plant.next_seed = self._first_seed + len(self.rows)
        self.rollout.begin(demonstration=self._alone)
        self.pilot.begin()
        self._time, self._outcome, self._last = 0.0, "", None
        self._frames.restart()
        self._answer()
        self.screen.begin()
        info = {**self._info, "seed": self.plant.next_seed}
        self.recorder.begin(info)
        self._clock.restart(0.0)
        self._began = time.monotonic()
        while self.rollout.running and not self.controls.closed:
            if self._answer() and self._last is None and not self.recorder.running:
                self.recorder.begin(info)
            record = self.rollout.step(self._act)
            if record is None:
                self._rest()
                continue
            self._last = record
            # The clock of a recording is the simulation's, which keeps to real time and stands while the robot rests.
            at = self._began + self._time
            self.recorder.step(dataclasses.replace(record, observed_at=at, acted_at=at))
            self._time += self.task.period
        if not self.rollout.running:
            self._finish()

    def _act(self, moment: Moment, index: int) -> tuple[np.ndarray, float | None]:
        """What the pilot wants, asked once a moment: a policy with a memory must not go on while the robot rests."""
        if moment is not self._seen:
            self._seen, self._wanted = moment, self.pilot.act(moment, index)
        return self._wanted

    def _finish(self) -> None:
        found, last = self.rollout.statistics, self._last
        assert last is not None  # an episode ends with a step
        self._outcome = (
            "discarded"
            if found.discarded
            else "success"
            if found.success
            else "time-out"
            if last.truncated
            else "failure"
        )
        file = self.recorder.end(found.success, self._outcome, discard=found.discarded)
        self.rows.append(
            EpisodeRow(
                number=len(self.rows) + 1,
                outcome=self._outcome,
                seconds=round(found.seconds, 2),
                helped=round(found.intervened / max(1, found.steps), 4),
                file=file,
            )
        )
        self._server.publish("episodes", episodes_message(self.rows))
        until = time.monotonic() + _PAUSE_AT_END
        while time.monotonic() < until and not self.controls.closed:
            self._answer()
            self._tell()
            self.controls.sleep(0.1)

    def _answer(self) -> bool:
        """Do what the driver asked for beside driving; whether recording was turned on."""
        turned_on = False
        while True:
            try:
                asked = self._server.requests.get_nowait()
            except queue.Empty:
                return turned_on
            if asked["action"] == "record":
                turned_on = asked["on"] and not self.recorder.on
                self.recorder.on = asked["on"]

    # Time

    def _substep(self, k: int) -> None:
        """After every time step of physics: keep to real time, show frames."""
        if (k + 1) % _PACED:
            return
        now = self._time + (k + 1) * self.plant.env.engine.scene.timestep
        self._clock.wait(now)
        if self._frames.due(now):
            self._show()
            if self.recorder.running:
                self._record_streams(self._began + now)

    def _rest(self) -> None:
        """The robot stands still for a moment."""
        self.controls.sleep(_REST)
        self._clock.restart(self._time)
        if time.monotonic() - self._shown_at > 1.0 / _RESTING_RATE:
            self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        self.screen.show()
        self._shown += 1
        if self._shown % _STATES == 0:
            self._tell()

    # What the pages are told

    def _describe(self) -> None:
        parameters = self.task.action.parameters
        self._server.publish(
            "setup",
            {
                **self.screen.describe(),
                "task": self.task.name,
                "policy": "" if self._alone else self.pilot.name,
                "axes": str(parameters.get("axes", "")).split(),
                "limit": self.task.episode_length,
                "folder": str(self._config.out),
                "records": True,
                "stamped": self._config.stamped,
                "stale_after": self._server.device.config.stale_after,
                "speed": [self._server.device.config.linear, self._server.device.config.angular],
            },
        )

    def _tell(self) -> None:
        device, state, last = self._server.device, self.operator.state, self._last
        arms = self.screen.arms()
        self._server.publish(
            "state",
            {
                "mode": state.mode,
                "latched": state.latched,
                "barred": state.barred,
                "arm": self.operator.arm,
                "episode": len(self.rows) + (not self._outcome),
                "time": round(self._time, 2),
                "outcome": self._outcome,
                "arms": arms,
                "action": [finite(x, 3) for x in last.action] if last is not None else [],
                "recording": {"on": self.recorder.on, "running": self.recorder.running, "count": self.recorder.count},
                "command_ms": finite(1e3 * device.latency, 1),
                "refused": device.counts.stale + device.counts.disordered,
                "problem": self.screen.pictures.problem,
            },
        )

    def _record_streams(self, now: float) -> None:
        """Beside the steps, so that a recording shows in Foxglove what the robot did between them."""
        arms = self.screen.arms()
        for mount in self.plant.env.engine.scene.arms:
            prefix = "" if len(arms) == 1 else f"{mount.name}/"
            told = arms[mount.name]
            joints = streams.joint_state(self._joints[mount.name], told["positions"], told["velocities"])
            self.recorder.write(f"{prefix}joint_states", joints, now)
            self.recorder.write(f"{prefix}tool_pose", streams.pose(told["tool"][:3], told["tool"][3:]), now)

    def _say(self, line: str) -> None:
        self._lines.append({"at": time.time(), "text": line})
        self._server.publish("says", {"lines": list(self._lines)})

    def _common_info(self, cameras: tuple[str, ...]) -> dict[str, Any]:
        """What replay needs of every episode but its seed."""
        config, task = self._config, self.task
        return {
            "task": task.name,
            "settings": {} if task.settings is None else dataclasses.asdict(task.settings),
            "randomization": describe_terms(task, config.randomization),
            "engine": "mujoco",
            "cameras": list(cameras),
            "resolution": self._resolution,
            "looks": self._looks,
            "hide_poses": False,
            "operator": "page",
            "policy": self.pilot.name,
            "action": dataclasses.asdict(task.action),
        }
