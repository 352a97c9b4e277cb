"""`policy_boot_test.c`: what an exported policy replays on the device before it may act."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import policies
from robot_rl.export_c.layout import Layout, unflatten
from robot_rl.export_c.network import array
from robot_rl.export_c.samples import random_rows

PATH_STEPS = 20
"""Steps of the stored run from states to actions."""


def boot_test(source: Path, layout: Layout, vectors: int) -> str:
    """The file's text: `vectors` stored observations of the bundle in `source`, and a run of random states."""
    with np.load(source / "vectors.npz", allow_pickle=False) as stored:
        rows = np.linspace(0, len(stored["observation"]) - 1, min(vectors, len(stored["observation"]))).astype(int)
        inputs, expected = stored["observation"][rows], stored["action"][rows, 0]
    states, setpoints = random_rows(layout, PATH_STEPS, seed=0)
    policy = policies.load(source)
    actions = []
    for state, setpoint in zip(states, setpoints, strict=True):
        policy.step(unflatten(state, layout, "state"), unflatten(setpoint, layout, "setpoint"))
        actions.append(policy.last_action)
    tables = {"observations": inputs, "expected": expected, "states": states, "setpoints": setpoints,
              "actions": np.stack([np.asarray(action) for action in actions])}  # fmt: skip
    arrays = "\n".join(
        f"static const float {name}[{value.shape[0]}][{value.shape[1]}] = {{\n"
        + ",\n".join(f"    {{\n{array(row, '        ')}\n    }}" for row in value)
        + "\n};"
        for name, value in tables.items()
    )
    return f"""/* Stored inputs and what they must give; see policy_boot_test in policy.h. */
#include "policy.h"

{arrays}

static float worse(float worst, const float *found, const float *wanted)
{{
    for (int i = 0; i < POLICY_ACTION_SIZE; i++) {{
        const float difference = found[i] - wanted[i];
        const float error = difference < 0.0f ? -difference : difference;
        if (!(error <= worst)) worst = error; /* also if it is not a number, which then stays */
        if (error != error) return error;
    }}
    return worst;
}}

float policy_boot_test(void)
{{
    static struct policy tested;
    static struct policy_state state;
    static struct policy_setpoint setpoint;
    struct policy_command command;
    float worst = 0.0f;
    for (int k = 0; k < {len(inputs)}; k++) {{
        policy_network(observations[k], tested.scratch, tested.action);
        worst = worse(worst, tested.action, expected[k]);
        if (worst != worst) return worst;
    }}
    policy_reset(&tested);
    for (int k = 0; k < {PATH_STEPS}; k++) {{
        for (int i = 0; i < POLICY_STATE_FLOATS; i++) ((float *)&state)[i] = states[k][i];
        for (int i = 0; i < POLICY_SETPOINT_FLOATS; i++) ((float *)&setpoint)[i] = setpoints[k][i];
        policy_step(&tested, &state, &setpoint, &command);
        worst = worse(worst, tested.action, actions[k]);
        if (worst != worst) return worst;
    }}
    return worst;
}}
"""
