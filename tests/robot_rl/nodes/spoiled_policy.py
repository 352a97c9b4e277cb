"""A quadrotor's policy whose commands turn into NaN while its process wants them to: SIGUSR1, and SIGUSR2 to be well.

`main` without arguments is the node, with a config and a stop request the process that the node starts.
"""

import math
import signal
import sys

from robot_rl.nodes.process import die_with_parent, ignore_signals, stop_request
from robot_rl.planes.quadrotor_policy import QuadrotorPolicy, open_policy, run_policy
from robot_rl.planes.quadrotor_settings import QuadrotorPolicyConfig
from robot_rl.rebuild import from_json


class SpoiledPolicy(QuadrotorPolicy):
    broken = False

    def send(self, values, stamp):
        if self.broken:
            values = values.copy()
            values[1] = math.nan
        super().send(values, stamp)


def main(argument, stop):
    config = from_json(QuadrotorPolicyConfig, argument)
    policy = SpoiledPolicy(open_policy(config), config)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(policy, "broken", True))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(policy, "broken", False))
    run_policy(config, policy, stop)
    return 0


def run_node(arguments):
    stop_request()
    die_with_parent()
    from robot_rl.nodes import policy, running

    class SpoiledNode(policy.PolicyNode):
        module = "tests.robot_rl.nodes.spoiled_policy"

    status = running.run(SpoiledNode, arguments)
    ignore_signals()
    return status


if __name__ == "__main__":
    sys.exit(run_node(sys.argv[1:]))
