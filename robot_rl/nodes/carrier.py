"""A node that carries a robot's topics to and from its control process, by a slot each way."""

from __future__ import annotations

from pathlib import Path

from hardware.realtime.seqlock import SlotReader, SlotWriter
from robot_rl.nodes.plane_face import Client, PlaneFace

Pair = tuple[SlotWriter, SlotReader]
"""What the robot says, and what it is told."""


class Carrier(PlaneFace[Client]):
    """Beside a robot's face: `class Node(Carrier[...], ...Face)`. It says `open_pair`, and calls `pair` in `work`."""

    _pair: Pair | None = None

    def open_pair(self, folder: Path) -> Pair:
        """The two slots in the present memory."""
        raise NotImplementedError

    def lost_pair(self) -> None:
        """Called when the memory of an open pair is gone: nobody commands any more."""

    def pair(self) -> Pair | None:
        """The two slots, anew where the memory is another one; None without memory."""
        before = self._inode
        if self.planes is None or self._inode != before:
            if self._pair is not None:
                self.lost_pair()
            self.let_pair_go()
        if self._pair is None and self._inode:
            self._pair = self.open_pair(self.slots.path)
        return self._pair

    def let_pair_go(self) -> None:
        """Close the slots; `pair` opens them again."""
        for slot in self._pair or ():
            slot.close()
        self._pair = None

    def cleanup(self) -> None:
        """Let go of the memory."""
        self.let_pair_go()
        super().cleanup()
