"""A simulated quadrotor on its mission, flown by a policy; whoever has the seat takes the set-point over in flight.

The person moves the set-point, the policy follows it: what flies is what would fly on the vehicle. Without a held
dead-man the set-point brakes and stands, also when the page is gone. The mission only goes on while somebody watches
over it from the seat.
"""

from __future__ import annotations

import dataclasses
import queue
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import policies
from hardware.descriptions import load_quadrotor
from hardware.teleop.device import Sample
from hardware.teleop.flying import FlyingConfig
from policies import rotation
from robot_rl.cockpit.config import CockpitConfig
from robot_rl.cockpit.episodes import EpisodeRecorder, EpisodeRow, episodes_message
from robot_rl.cockpit.messages import finite
from robot_rl.cockpit.pictures import PictureMaker, Snapshot
from robot_rl.cockpit.robot_state import tell_vehicle
from robot_rl.cockpit.server import CockpitServer
from robot_rl.cockpit.shapes import SceneShapes
from robot_rl.errors import UserError
from robot_rl.hil.intervention import VERDICTS
from robot_rl.mission import MissionConfig, plan
from robot_rl.person_flight import SharedFlight
from robot_rl.play_controls import Clock, Controls
from robot_rl.play_stage import Frames
from robot_rl.recording import messages as streams
from sim.driver import SimulatedQuadrotor
from sim.quadrotor_look import QuadrotorLook
from sim.tasks import TASKS

FRAME_RATE = 30
"""Pictures and poses per second."""
_STATES = 2
"""Frames per message of the state."""
_PAUSE_AT_END = 1.2
"""s for which the end of a flight is shown."""
_HOME = np.zeros(3)
_NO_VALUES: dict[str, Any] = {}


class FlightSession:
    """Runs until its controls are closed."""

    def __init__(self, config: CockpitConfig, server: CockpitServer, controls: Controls | None = None) -> None:
        """Build the vehicle and tell the pages about it.

        Args:
            config: Task, policy, recording.
            server: Of the page.
            controls: End it by closing them, from any thread.

        Raises:
            UserError: The policy is for another kind of robot, or there is none.
        """
        if config.policy == "expert":
            raise UserError(f"task {config.task!r} has no scripted expert; give a bundle, or leave --policy out")
        self._config, self._server, self.controls = config, server, controls or Controls()
        self._policy = policies.load(config.task if config.policy == "none" else config.policy)
        manifest = self._policy.manifest
        if manifest.robot.kind != "quadrotor":
            raise UserError(f"bundle {manifest.name!r} moves a {manifest.robot.kind}; {config.task!r} is a quadrotor's")
        robot: Any = TASKS[config.task]
        self._period = 1.0 / manifest.control_rate_hz
        self.vehicle = SimulatedQuadrotor(load_quadrotor(robot.robot), seed=config.seed)
        self._flying = FlyingConfig(speed=server.device.config.linear, yaw_rate=server.device.config.angular)
        self._mission = MissionConfig(kind="demo" if config.task == "quadrotor-track" else "hover")
        self.recorder = EpisodeRecorder(config.out, None, on=config.record, say=self._say)
        self.rows: list[EpisodeRow] = []
        """Finished flights."""
        self._lines: deque[dict[str, Any]] = deque(maxlen=6)
        self._env = SimpleNamespace(task=robot, num_envs=1)
        self._begin()
        self._look = QuadrotorLook(self._env)  # type: ignore[arg-type]
        self._shapes = SceneShapes(self._look)
        self._pictures = PictureMaker(
            self._look,
            (),
            server.publish_picture,
            size=config.picture,
            stamped=config.stamped,
            wanted=lambda: server.watched,
        )
        server.on_stop = self._ask_to_stand
        self._clock, self._frames, self._shown = Clock(self.controls), Frames(1.0 / FRAME_RATE), 0
        self._describe()
        server.publish("episodes", episodes_message(self.rows))

    def run(self) -> None:
        """Fly."""
        while not self.controls.closed:
            self._flight()

    def close(self) -> None:
        """Let everything go."""
        self.recorder.close()
        self._pictures.close()

    # Flights

    def _begin(self) -> None:
        self.vehicle.reset(_HOME)
        self._policy.reset()
        self._shared = SharedFlight(
            plan(self._mission, _HOME, 0.0),
            _HOME,
            self._flying,
            max_speed=self._mission.max_speed,
            max_acceleration=self._mission.max_acceleration,
        )
        self._time, self._helped, self._outcome, self._mode = 0.0, 0.0, "", "autonomous"
        self._standing = False
        self._driver, self._setpoint = self._shared.take(None, _HOME, 0.0)
        self._show_to_look()

    def _flight(self) -> None:
        self._begin()
        self._look.begin()
        self._frames.restart()
        self._answer()
        info = {"task": self._config.task, "policy": self._policy.manifest.name, "seed": self._config.seed}
        self.recorder.begin({**info, "mission": dataclasses.asdict(self._mission), "operator": "page"})
        self._clock.restart(0.0)
        while not self._outcome and not self.controls.closed:
            self._answer()
            self._step()
            self._time += self._period
            self._clock.wait(self._time)
            if self._frames.due(self._time):
                self._show()
        if self._outcome:
            self._finish()

    def _step(self) -> None:
        """One control period: who moves the set-point, what the policy makes of it."""
        sample = self._server.device.read()
        held = sample.connected and sample.engaged and sample.dead_man
        state = self.vehicle.read()
        twist = sample.twist if held else None
        if held or "hand_back" in sample.pressed:
            self._standing = False
        if not held and (self._standing or not sample.connected or "take_over" in sample.pressed):
            self._standing, twist = True, np.zeros(6)
        self._driver, self._setpoint = self._shared.take(twist, state.position, self._period)
        if "hand_back" in sample.pressed:
            self._say(self._shared.hand_back()[1])
        self._mode = "correcting" if held else "paused" if self._standing or self._driver == "held" else "autonomous"
        self._helped += self._period if held else 0.0
        command: Any = self._policy.step(state, self._setpoint)
        self.vehicle.write(command, self.vehicle.time)
        self.vehicle.advance(self._period)
        self._judge(sample)

    def _judge(self, sample: Sample) -> None:
        verdict = next((name for name in VERDICTS if name in sample.pressed), "")
        if self.vehicle.crashed:
            self._outcome = "failure"
            self._say("the vehicle has crashed")
        elif verdict:
            self._outcome = "discarded" if verdict in ("discard", "reset") else verdict
        elif self._driver == "mission" and self._shared.phase[1]:
            self._outcome = "success"

    def _finish(self) -> None:
        file = self.recorder.end(self._outcome == "success", self._outcome, discard=self._outcome == "discarded")
        share = round(self._helped / max(self._period, self._time), 4)
        self.rows.append(
            EpisodeRow(
                number=len(self.rows) + 1, outcome=self._outcome, seconds=round(self._time, 2), helped=share, file=file
            )
        )
        self._server.publish("episodes", episodes_message(self.rows))
        self._tell()
        self.controls.sleep(_PAUSE_AT_END)

    def _answer(self) -> None:
        while True:
            try:
                asked = self._server.requests.get_nowait()
            except queue.Empty:
                return
            if asked["action"] == "record":
                self.recorder.on = asked["on"]

    def _ask_to_stand(self) -> None:
        """Somebody's stop button: the set-point stands until the driver flies or hands back."""
        self._standing = True

    # What the pages are told

    def _show_to_look(self) -> None:
        def batched(record: Any) -> Any:
            values = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
            return type(record)(
                **{k: None if v is None else torch.as_tensor(np.asarray(v))[None] for k, v in values.items()}
            )

        self._env.state, self._env.setpoint = batched(self.vehicle.truth()), batched(self._setpoint)

    def _show(self) -> None:
        now = time.monotonic()
        self._show_to_look()
        self._look.update()
        self._server.publish_poses(now, self._shapes.poses())
        if (shapes := self._shapes.changed()) is not None:
            self._server.publish("scene", shapes)
        state, camera = self._look.engine.state(), self._look.camera()
        self._pictures.show(Snapshot(at=now, state=state, values=_NO_VALUES, overview=camera))
        self._shown += 1
        if self._shown % _STATES == 0:
            self._tell()
        if self.recorder.running:
            self._record(now)

    def _record(self, now: float) -> None:
        state, wanted = self.vehicle.truth(), self._setpoint
        self.recorder.write("pose", streams.pose(state.position, state.orientation, "odom"), now)
        twist = np.concatenate([state.linear_velocity, state.angular_velocity])
        self.recorder.write("twist", streams.twist(twist, "odom"), now)
        heading = rotation.from_yaw(np.asarray(wanted.yaw))
        self.recorder.write("setpoint", streams.pose(wanted.position, heading, "odom"), now)
        self.recorder.write("driver", streams.text(self._driver), now)

    def _describe(self) -> None:
        device = self._server.device.config
        self._server.publish(
            "setup",
            {
                "kind": "quadrotor",
                "task": self._config.task,
                "policy": self._policy.manifest.name,
                "arms": [],
                "cameras": self._pictures.cameras,
                "axes": ["x", "y", "z", "rz"],
                "limit": 0.0,
                "records": True,
                "folder": str(self._config.out),
                "stamped": self._config.stamped,
                "stale_after": device.stale_after,
                "view": {"eye": [-2.6, -1.5, 2.6], "target": [0.2, 0.0, 1.3]},
            },
        )

    def _tell(self) -> None:
        device = self._server.device
        self._server.publish(
            "state",
            {
                "mode": self._mode,
                "latched": False,
                "barred": False,
                "arm": 0,
                "episode": len(self.rows) + (not self._outcome),
                "time": round(self._time, 2),
                "outcome": self._outcome,
                "arms": {},
                "vehicle": tell_vehicle(self.vehicle.truth(), self._setpoint, self._shared.phase[0]),
                "action": [],
                "recording": {"on": self.recorder.on, "running": self.recorder.running, "count": self.recorder.count},
                "command_ms": finite(1e3 * device.latency, 1),
                "refused": device.counts.stale + device.counts.disordered,
                "problem": self._pictures.problem,
            },
        )

    def _say(self, line: str) -> None:
        self._lines.append({"at": time.time(), "text": line})
        self._server.publish("says", {"lines": list(self._lines)})
