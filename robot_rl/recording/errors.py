"""What can be wrong with a recording."""

from __future__ import annotations

from robot_rl.errors import UserError


class RecordingError(UserError):
    """A recording that cannot be written or read, in one sentence."""
