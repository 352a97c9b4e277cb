"""What an observer has seen, judged: orders that a robot should never have been given, and when it was stopped."""

from __future__ import annotations

import numpy as np

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions import load_arm, load_quadrotor
from hardware.drivers.simulated import ORDERS
from robot_rl.bench.faults.observer import Observed

_DT = 0.002


class ArmObserved(Observed):
    """Torques of an arm with n joints."""

    def outside(self, robot: str) -> list[str]:
        """Every order that the robot should never have been given, in words."""
        description = load_arm(robot)
        limit, rate = (symmetric_limit(description, name) for name in ("torque", "torque_rate"))
        found = []
        before: tuple[int, np.ndarray] | None = None
        for number, order in zip(self.sequence.tolist(), self.orders, strict=True):
            torques = np.asarray(order["torques"], float)
            if ORDERS[int(order["order"])] == "stop":
                before = (number, np.zeros_like(torques))  # from the brakes torques begin at nothing
                continue
            if not np.all(np.isfinite(torques)) or not -1.0 <= float(order["gripper"]) <= 1.0:
                found.append(f"order {number} is not finite: {torques.tolist()}, gripper {float(order['gripper'])}")
                before = None
                continue
            if np.any(np.abs(torques) > limit + 1e-9):
                found.append(f"order {number} is beyond the torque limits: {torques.round(2).tolist()} N m")
            if before is not None:
                allowed = (number - before[0]) * _DT * rate + 1e-6
                if np.any(np.abs(torques - before[1]) > allowed):
                    step = np.abs(torques - before[1]).round(3).tolist()
                    found.append(f"order {number} changes by {step} N m, allowed {allowed.round(3).tolist()}")
            before = (number, torques)
        return found

    def fastest(self, robot: str) -> float:
        """Largest share of a joint's velocity limit that was measured, in samples that are numbers."""
        shares = np.abs(self.samples["joint_velocities"]) / symmetric_limit(load_arm(robot), "velocity")
        return float(np.max(shares, where=np.isfinite(shares), initial=0.0))

    def braked_after(self, begin: float) -> float | None:
        """S from `begin` to the first sample with closed brakes, or the order to close them; None: never."""
        times = [*self.sampled[(self.sampled >= begin) & self.samples["braked"]][:1]]
        times += [*self.seen[(self.seen >= begin) & (self.orders["order"] == ORDERS.index("stop"))][:1]]
        return float(min(times)) - begin if times else None


class QuadrotorObserved(Observed):
    """Rotor speeds of a quadrotor."""

    def outside(self, robot: str) -> list[str]:
        """Every order that the vehicle should never have been given, in words."""
        highest = float(load_quadrotor(robot).parameters["max_speed"])
        found = []
        for number, order in zip(self.sequence.tolist(), self.orders, strict=True):
            values = order["values"]
            if not np.all(np.isfinite(values)):
                found.append(f"order {number} is not finite: {values.tolist()}")
            elif np.any(values < 0.0) or np.any(values > highest + 1e-9):
                found.append(f"order {number} leaves [0, {highest:g}] rad/s: {values.round(1).tolist()}")
        return found

    def off_after(self, begin: float) -> float | None:
        """S from `begin` to the first order of zeros; None: never."""
        off = (self.seen >= begin) & ~np.any(self.orders["values"], axis=-1)
        return float(self.seen[off][0]) - begin if np.any(off) else None

    def turning_since(self, begin: float) -> bool:
        """Whether the newest order after `begin` lets a rotor turn."""
        values = self.orders["values"][self.seen >= begin]
        return bool(len(values) and np.any(values[-1]))
