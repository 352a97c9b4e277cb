"""What a recording says about itself: MCAP metadata with a checksum of its own, which MCAP's has not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from robot_rl.recording.errors import RecordingError

BEGIN = "robot_rl.begin"
"""Info, schema and clock of the episode: the first record of a file."""
END = "robot_rl.end"
"""Success and cause: with it the episode is finished."""
DROPPED = "robot_rl.dropped"
"""How many messages of each topic were lost so far: the disk was too slow, or they never came."""
REPAIRED = "robot_rl.repaired"
"""What a file that was made whole left out of the one that was cut off."""


def seal(data: Mapping[str, Any]) -> dict[str, str]:
    """The metadata that hold `data`.

    Raises:
        RecordingError: It is no JSON.
    """
    try:
        text = json.dumps(data, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise RecordingError(f"the recording's info cannot be stored as JSON: {error}") from error
    return {"json": text, "crc32": f"{zlib.crc32(text.encode()):08x}"}


def unseal(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `seal` stored.

    Raises:
        ValueError: It is damaged.
    """
    text = metadata.get("json", "")
    if f"{zlib.crc32(text.encode()):08x}" != metadata.get("crc32"):
        raise ValueError("a wrong checksum")
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    return data
