"""The link between actor and learner: records one way, exactly once; weights the other way, never half.

The truth is on disk at both ends. The actor's `Sender` sends what is in the actor's log; the learner's `Receiver`
stores it in a log of its own before it acknowledges, and tells a sender which record it wants next, from that file.
So it does not matter when a message is lost, a connection breaks or a process is killed: both ends go on from their
files. Weights are pulled in chunks by the actor and checked as a whole before anybody sees them.

ZeroMQ with CURVE carries it: encrypted, the learner known to the actor by its key, the actor to the learner. Both ends
do all of it in a thread of their own; no call of theirs waits for the network.
"""

from __future__ import annotations

from robot_rl.hil.receiver import Receiver, ReceiverStatus
from robot_rl.hil.sender import Sender, SenderStatus

__all__ = ["Receiver", "ReceiverStatus", "Sender", "SenderStatus"]
