"""The process that speaks to a Franka Hand; `franka_hand.py` starts it: HOST MAX_WIDTH MAX_SPEED MAX_FORCE.

Openings in [-1, 1] come in as lines, `{"width": m, "fault": words}` go out as lines.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

MIN_CHANGE = 1e-4
"""m, change of width that is worth a line."""


def run(host: str, max_width: float, max_speed: float, max_force: float) -> int:
    """Until the input ends."""
    targets: list[float] = []
    try:
        from panda_py import libfranka

        hand = libfranka.Gripper(host)
        width = hand.read_once().width
    except (ImportError, RuntimeError) as error:
        _say(0.0, " ".join(str(error).split()))
        return 1
    threading.Thread(target=_listen, args=(targets,), daemon=True).start()
    said, fault = None, ""
    while True:
        if targets:
            opening = targets.pop()
            fault = _move(hand, 0.5 * max_width * (opening + 1.0), width, max_speed, max_force)
        try:
            width = hand.read_once().width
        except RuntimeError as error:
            fault = " ".join(str(error).split())
        if said is None or abs(width - said[0]) > MIN_CHANGE or fault != said[1]:
            said = (width, fault)
            _say(width, fault)


def _move(hand: Any, target: float, width: float, max_speed: float, max_force: float) -> str:
    try:
        if target < width:
            # A grasp may end on an object, at any width: that is what closing is for.
            hand.grasp(target, max_speed, max_force, 1.0, 1.0)
        else:
            hand.move(target, max_speed)
    except RuntimeError as error:
        return " ".join(str(error).split())
    return ""


def _listen(targets: list[float]) -> None:
    for line in sys.stdin:
        targets[:] = [float(line)]
    os._exit(0)  # the control process has gone; a motion of the hand may still be under way


def _say(width: float, fault: str) -> None:
    print(json.dumps({"width": width, "fault": fault}), flush=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], *map(float, sys.argv[2:5])))
