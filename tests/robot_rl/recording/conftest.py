"""Records to write, shared with the tests of the human in the loop."""

import importlib.util
import sys
from pathlib import Path

_workers = Path(__file__).parents[1] / "hil" / "workers.py"
_specification = importlib.util.spec_from_file_location("tests_workers", _workers)
sys.modules["tests_workers"] = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(sys.modules["tests_workers"])
