"""`robot-rl demos convert`: a data set in the formats of LeRobot, robomimic and Gymnasium (Minari)."""

from __future__ import annotations

import importlib
import sys

from robot_rl.demos.configs import ConvertConfig
from robot_rl.demos.copying import check_out
from robot_rl.demos.dataset import Demonstration, choose, one_kind, open_set
from robot_rl.demos.show import complain
from robot_rl.errors import UserError

_WRITERS = {"lerobot": "lerobot", "robomimic": "robomimic", "gymnasium": "minari"}


def run(config: ConvertConfig) -> int:
    """Write the whole set, or nothing."""
    check_out(config.out, config.path)
    data = open_set(config.path)
    found = choose(data)
    chosen = finished(found)
    one_kind(chosen)
    writer = importlib.import_module(f"robot_rl.demos.{_WRITERS[config.to]}")
    steps = writer.write(chosen, config)
    complain(data)
    if len(chosen) < len(found):
        sys.stderr.write(f"left out {len(found) - len(chosen)} episodes that were cut off\n")
    sys.stdout.write(f"{config.out}: {len(chosen)} episodes, {steps} steps for {config.to}\n")
    return 0


def finished(demonstrations: list[Demonstration]) -> list[Demonstration]:
    """Those that have an end.

    Raises:
        UserError: There are none.
    """
    chosen = [one for one in demonstrations if one.state == "finished"]
    if not chosen:
        raise UserError(f"all of the {len(demonstrations)} episodes were cut off; there is nothing to convert")
    return chosen
