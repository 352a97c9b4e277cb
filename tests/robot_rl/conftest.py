from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_memory():
    """Collects the DDS segments of killed processes, which cannot remove them, and removes them."""
    segments = SharedMemory()
    yield segments
    segments.remove_unused()


class SharedMemory:
    """Fast DDS segments by what a process has mapped; another's are never touched."""

    FOLDER = "/dev/shm/"

    def __init__(self):
        self.paths = set()

    def note(self, pid):
        self.paths |= self.mapped(pid)

    def mapped(self, pid):
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            return set()
        paths = {line.split(maxsplit=5)[5] for line in lines if f"{self.FOLDER}fastdds" in line}
        return {path for path in paths if not path.endswith("(deleted)")}

    def remove_unused(self):
        living = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        used = set().union(*(self.mapped(pid) for pid in living))
        for path in self.paths - used:
            for leftover in (path, f"{path}_el", path.replace("fastdds_", "sem.fastdds_") + "_mutex"):
                Path(leftover).unlink(missing_ok=True)
