"""The simulated robot behind the interface of a real one."""

import numpy as np

from robot_rl.hil.plant import SimulatedPlant, expert_action
from sim.tasks import TASKS


def test_it_tells_in_every_step_whether_the_task_holds():
    """Success is only what lasts for as long as the task asks."""
    task = TASKS["arm-reach"]
    plant = SimulatedPlant(task, randomization=())
    moment, told, ended = plant.reset(), [], False
    while not ended:
        outcome = plant.step(expert_action(task, moment.state, moment.setpoint))
        moment, ended = outcome.moment, outcome.terminated or outcome.truncated
        told.append(outcome.info["truth"])
    plant.close()
    held = round(task.hold / task.period)
    assert outcome.success and len(told) > held > 0
    assert told[0] == 0.0 and np.all(np.array(told[-held:]) == 1.0)
