"""`policy.h` and `policy.c`: the text around the network and the terms."""

from __future__ import annotations

import numpy as np

from policies.manifest import Manifest
from robot_rl.export_c.layout import Layout, floats, identifier, structure
from robot_rl.export_c.network import NetworkCode, number

_COMMENTS = {
    "position": "m, world", "orientation": "unit quaternion wxyz, body to world", "linear_velocity": "m/s, world",
    "angular_velocity": "rad/s, body", "velocity": "m/s, world", "acceleration": "m/s^2, world, without gravity",
    "yaw": "rad", "motor_speeds": "rad/s; front-right, back-right, back-left, front-left",
    "rates": "rad/s, body", "thrust": "m/s^2, collective thrust by mass", "joint_positions": "rad",
    "joint_velocities": "rad/s", "tool_pose": "xyz m, wxyz, base frame", "tool_twist": "m/s, rad/s, base frame",
    "gripper_width": "m", "wrench": "N, N m at the tool, tool frame", "objects": "poses: xyz m, wxyz, base frame",
    "twist": "m/s, rad/s", "gripper": "-1 closed to 1 open",
}  # fmt: skip


def header(manifest: Manifest, layout: Layout, network: NetworkCode) -> str:
    """`policy.h`: structures, limits and functions."""
    memory = "\n".join(
        f"        float {identifier(name)}[{int(np.prod(spec.shape))}];" for name, spec in manifest.memory.items()
    )
    memory = f"    struct {{\n{memory}\n    }} memory;\n" if memory else ""
    envelope = manifest.envelope
    ages = envelope.state_age
    fence = ", ".join(f"{{{number(low)}, {number(high)}}}" for low, high in envelope.geofence)
    frame = {"base": "0", "tool": "1"}[str(manifest.action.parameters.get("frame", "base"))]
    twist = f"#define POLICY_TWIST_IN_TOOL_FRAME {frame}\n" if manifest.action.name == "cartesian_twist" else ""
    return f"""/* Policy {manifest.name}: task {manifest.task}, robot {manifest.robot.name}.
 * Written by robot-rl export --format c.
 * Network: SHA-256 {manifest.files.get("policy.onnx", "unknown")}
 */
#ifndef POLICY_H
#define POLICY_H

#define POLICY_NAME "{_escaped(manifest.name)}"
#define POLICY_ROBOT "{_escaped(manifest.robot.name)}"
#define POLICY_ACTUATORS {{{", ".join(f'"{_escaped(name)}"' for name in manifest.robot.actuators)}}}
#define POLICY_CONTROL_RATE_HZ {number(manifest.control_rate_hz)}
#define POLICY_PERIOD {number(1.0 / manifest.control_rate_hz)} /* s between two steps */
#define POLICY_OBSERVATION_SIZE {manifest.observation_size}
#define POLICY_ACTION_SIZE {manifest.action_size}
#define POLICY_SCRATCH_SIZE {network.scratch}
#define POLICY_STATE_FLOATS {floats(layout.state)}
#define POLICY_SETPOINT_FLOATS {floats(layout.setpoint)}
#define POLICY_COMMAND_FLOATS {floats(layout.command)}
{twist}
/* Limits around the policy, for whoever supervises it. */
#define POLICY_GEOFENCE {{{fence}}} /* m; x, y, z */
#define POLICY_MAX_TILT {number(envelope.max_tilt)} /* rad */
#define POLICY_TUMBLE_TIME {number(envelope.tumble_time)} /* s beyond it */
#define POLICY_MAX_SPEED {number(envelope.max_speed)} /* m/s */
#define POLICY_STATE_AGE_HOLD {number(ages[0])} /* s; an older state: hold or level */
#define POLICY_STATE_AGE_STOP {number(ages[1])} /* s; ... stop or descend */
#define POLICY_STATE_AGE_OFF {number(ages[2])} /* s; ... brakes, motors off */
#define POLICY_COMMAND_AGE_PERIODS {number(envelope.command_age_periods)}

/* Every member is a float, without gaps. */
{structure("policy_state", layout.state, _COMMENTS)}

{structure("policy_setpoint", layout.setpoint, _COMMENTS)}

{structure("policy_command", layout.command, _COMMENTS)}

/* One policy with its memory of an episode. */
struct policy {{
{memory}    float observation[POLICY_OBSERVATION_SIZE]; /* of the last step */
    float action[POLICY_ACTION_SIZE];           /* of the last step, normalized, before its physical scale */
    float scratch[POLICY_SCRATCH_SIZE];
}};

/* Begin an episode. Call it before the first step. */
void policy_reset(struct policy *policy);

/* One control period: returns 1, or 0 where there is no command: state or set-point is not finite (then nothing has
 * changed), or what follows from them is not (then reset).
 * {"Both are read." if layout.uses_setpoint else "This policy reads no set-point: it may be 0."} */
int policy_step(struct policy *policy, const struct policy_state *state, const struct policy_setpoint *setpoint,
                struct policy_command *command);

/* The network alone: observation (POLICY_OBSERVATION_SIZE) to action (POLICY_ACTION_SIZE). */
void policy_network(const float *observation, float *scratch, float *action);

/* Replay what the exporter stored, on this processor with this compiler: observations through the network, and a run
 * of states through everything. Returns the largest error of a normalized action; NaN if any is not a number. */
float policy_boot_test(void);

#define POLICY_STATE_EXAMPLE {_example(layout, "state")}
#define POLICY_SETPOINT_EXAMPLE {_example(layout, "setpoint")}

#endif
"""


def source(manifest: Manifest, layout: Layout, network: NetworkCode, observation: str, action: str) -> str:
    """`policy.c`: constants, network, reset and step."""
    resets = "\n".join(
        f"    for (int i = 0; i < {int(np.prod(spec.shape))}; i++) policy->memory.{identifier(name)}[i] = "
        f"{number(spec.initial)};"
        for name, spec in manifest.memory.items()
    )
    history = manifest.memory.get("action_history")
    record = ""
    if history is not None:
        size = int(np.prod(history.shape))
        record = f"    policy_push(policy->memory.action_history, {size}, action, POLICY_ACTION_SIZE);\n"
    finite = "!finite((const float *)state, POLICY_STATE_FLOATS)"
    if layout.uses_setpoint:
        finite += " || !finite((const float *)setpoint, POLICY_SETPOINT_FLOATS)"
    observed = observation.replace("memory->", "policy->memory.").replace("observation +", "policy->observation +")
    return f"""#include "policy.h"

#include "policy_layers.h"
#include "policy_terms.h"

{network.constants}

void policy_network(const float *observation, float *scratch, float *action)
{{
{network.body}
}}

static int finite(const float *values, int count)
{{
    for (int i = 0; i < count; i++) {{
        if (!(values[i] - values[i] == 0.0f)) return 0;
    }}
    return 1;
}}

static void observe(struct policy *policy, const struct policy_state *state, const struct policy_setpoint *setpoint)
{{
    (void)setpoint;
{observed}
}}

void policy_reset(struct policy *policy)
{{
{resets}
    for (int i = 0; i < POLICY_ACTION_SIZE; i++) policy->action[i] = 0.0f;
}}

int policy_step(struct policy *policy, const struct policy_state *state, const struct policy_setpoint *setpoint,
                struct policy_command *command)
{{
    float action[POLICY_ACTION_SIZE];
    if ({finite}) return 0;
    observe(policy, state, setpoint);
    if (!finite(policy->observation, POLICY_OBSERVATION_SIZE)) return 0;
    policy_network(policy->observation, policy->scratch, policy->action);
    if (!finite(policy->action, POLICY_ACTION_SIZE)) return 0;
    for (int i = 0; i < POLICY_ACTION_SIZE; i++) action[i] = policy_clip(policy->action[i], -1.0f, 1.0f);
{record}{action}
    return 1;
}}
"""


def _example(layout: Layout, which: str) -> str:
    fields = layout.state if which == "state" else layout.setpoint
    parts = []
    for name, count in fields:
        if name.endswith("orientation") or name.endswith("pose") or "." in name:
            values = [0.0] * (count - 4) + [1.0, 0.0, 0.0, 0.0]
        else:
            values = [0.0] * count
        text = ", ".join(number(value) for value in values)
        parts.append((f"{{{text}}}" if count > 1 else text, "." in name))
    plain = [text for text, nested in parts if not nested]
    if nested := [text for text, inner in parts if inner]:
        plain.append(f"{{{', '.join(nested)}}}")
    return f"{{{', '.join(plain)}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
