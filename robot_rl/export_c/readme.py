"""`README.md` of an exported policy."""

from __future__ import annotations

from policies.manifest import Manifest
from robot_rl.export_c.layout import Layout
from robot_rl.export_c.network import NetworkCode


def readme(manifest: Manifest, layout: Layout, network: NetworkCode) -> str:
    """What is in the folder and how to get it onto a microcontroller."""
    memory = sum(_product(spec.shape) for spec in manifest.memory.values())
    ram = 4 * (memory + manifest.observation_size + manifest.action_size + network.scratch)
    rows = "\n".join(f"| `{name}` | {count} |" for name, count in layout.state)
    goal = ", ".join(f"`{name}` ({count})" for name, count in layout.setpoint)
    out = ", ".join(f"`{name}` ({count})" for name, count in layout.command)
    rate, period = manifest.control_rate_hz, 1000.0 / manifest.control_rate_hz
    read = "" if layout.uses_setpoint else ", not read by this policy"
    return f"""# {manifest.name} in C

The policy `{manifest.name}` (task `{manifest.task}`, robot `{manifest.robot.name}`) as freestanding C99: observation,
memory, network and action map. No heap, no files, no libc beyond the functions of `<math.h>` below.
{4 * network.parameters / 1024:.0f} KiB of constants, {ram / 1024:.1f} KiB of memory per `struct policy`.

| file | |
|---|---|
| `policy.h`, `policy.c` | the policy: `policy_reset`, then `policy_step` every {period:g} ms |
| `policy_layers.h`, `policy_terms.h`, `policy_rotation.h`, `policy_math.h` | what `policy.c` is made of |
| `policy_boot_test.c` | `policy_boot_test()`: replays stored inputs, returns the largest error; may be left out |
| `main.c`, `Makefile` | an example: `make check` |
| `policy_loop.h`, `policy_loop.c` | for Linux only: the policy in a native thread over shared memory |

## On a microcontroller

Add `policy.c`, `policy_boot_test.c` and the headers to the firmware. Call `policy_boot_test()` at start and refuse to
arm unless its result is below 1e-4 (a compiler and math library that follow IEEE 754 give about 1e-6). Do not compile
with `-ffast-math`: it removes the checks for values that are not finite.

Call `policy_step` once per control period, {rate:g} times per second, from a timer: histories and integrals
count calls. Where the loop runs faster, step at every {period:g} ms and hold the command in between. Call
`policy_reset` whenever control is handed to the policy. `policy_step` returns 0 where there is no command: then hold,
level or stop. `policy.h` has the limits of the policy's envelope; whoever calls the policy watches them.

Functions of `<math.h>`: `sqrtf`, `atan2f`, `rintf`, `fmaxf`, `fminf`, `fabsf`, and of the network's operators `tanhf`,
`expf`, `logf`, `erff`. A toolchain without them gives a header of its own:
`-DPOLICY_MATH_HEADER='"my_math.h"'`. gcc may call `memcpy`, `memmove` and `memset`, which freestanding toolchains have.

## What goes in and comes out

| `struct policy_state` | floats |
|---|---|
{rows}

Set-point{read}: {goal}. Command: {out}.

SI units; world frame x forward, y left, z up; body frame x forward, y left, z up; quaternions wxyz, body to world.
Before the first flight or motion check the order and the directions of motors or joints, propellers off.
"""


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result
