"""A quadrotor as an autopilot's inner loops leave it: rates and thrust follow commands with a lag. NED/FRD inside.

Written in the autopilot's own frames on purpose, with its own quaternion arithmetic, so that a mistake in the frames
under test cannot cancel here.
"""

import numpy as np

GRAVITY = 9.81


def quaternion_product(a, b):
    w, x, y, z = a
    return np.array(
        [
            w * b[0] - x * b[1] - y * b[2] - z * b[3],
            w * b[1] + x * b[0] + y * b[3] - z * b[2],
            w * b[2] - x * b[3] + y * b[0] + z * b[1],
            w * b[3] + x * b[2] - y * b[1] + z * b[0],
        ]
    )


def down_axis(q):
    """The body's z axis (down) in the world (NED)."""
    w, x, y, z = q
    return np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])


class FlyingBody:
    def __init__(self, rate_lag=0.04, thrust_lag=0.05, drag=0.3):
        self.position = np.zeros(3)
        self.velocity = np.zeros(3)
        self.orientation = np.array([1.0, 0.0, 0.0, 0.0])  # level, facing north
        self.rates = np.zeros(3)
        self.thrust = 0.0  # m/s² upwards along the body
        self.highest = 0.0
        self._rate_lag, self._thrust_lag, self._drag = rate_lag, thrust_lag, drag

    @property
    def height(self):
        return -self.position[2]

    @property
    def on_ground(self):
        return self.height <= 1e-6

    def step(self, rates, thrust, dt):
        self.thrust += (thrust - self.thrust) * min(1.0, dt / self._thrust_lag)
        if self.on_ground and self.thrust <= GRAVITY:
            self.velocity[:], self.rates[:] = 0.0, 0.0
            return
        self.rates += (np.asarray(rates) - self.rates) * min(1.0, dt / self._rate_lag)
        spin = quaternion_product(self.orientation, np.concatenate([[0.0], self.rates]))
        self.orientation = self.orientation + 0.5 * dt * spin
        self.orientation /= np.linalg.norm(self.orientation)
        force = -self.thrust * down_axis(self.orientation) - self._drag * self.velocity
        self.velocity = self.velocity + (force + [0.0, 0.0, GRAVITY]) * dt
        self.position = self.position + self.velocity * dt
        if self.position[2] > 0.0:
            self.position[2] = 0.0
            self.velocity[:], self.rates[:] = 0.0, 0.0
        self.highest = max(self.highest, self.height)

    def leveling_rates(self):
        """Body rates that turn it upright again, as every autopilot's failsafe does."""
        w, x, y, z = self.orientation
        # World down in the body frame: the axis to turn about is down_body × z.
        body = np.array([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])
        return np.array([-6.0 * body[1], 6.0 * body[0], 0.0])
