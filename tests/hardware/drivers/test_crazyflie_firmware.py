"""The controller for the Crazyflie's firmware, compiled with a real export and stand-ins of the firmware's headers."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

import policies
from policies.types import QuadrotorSetpoint, QuadrotorState
from robot_rl.export_c.compiled import find_compiler
from robot_rl.export_c.writer import write_c

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "docs" / "crazyflie_firmware" / "src" / "controller_policy.c"
FULL_SPEED = 2272.6

# What a controller touches of stabilizer_types.h, controller.h and their neighbours, as the firmware has it.
TYPES = """
#ifndef TYPES
#define TYPES
#include <stdbool.h>
#include <stdint.h>
#define STABILIZER_NR_OF_MOTORS 4
#define RATE_DO_EXECUTE(RATE_HZ, TICK) ((TICK % (1000 / RATE_HZ)) == 0)
#define M2T(x) (x)
#define DEBUG_PRINT(...)
typedef uint32_t stabilizerStep_t;
typedef struct { float x, y, z; } vec;
typedef struct { union { struct { float q0, q1, q2, q3; }; struct { float x, y, z, w; }; }; } quaternion_t;
typedef enum { modeDisable = 0, modeAbs, modeVelocity } stab_mode_t;
typedef struct { float roll, pitch, yaw; } attitude_t;
typedef struct { attitude_t attitude, attitudeRate; quaternion_t attitudeQuaternion; float thrust;
  vec position, velocity, acceleration;
  struct { stab_mode_t x, y, z, roll, pitch, yaw, quat; } mode; } setpoint_t;
typedef struct { vec gyro; } sensorData_t;
typedef struct { attitude_t attitude; quaternion_t attitudeQuaternion; vec position, velocity; } state_t;
typedef enum { controlModeLegacy, controlModeForceTorque, controlModeForce } control_mode_t;
typedef struct { float normalizedForces[4]; float thrust; control_mode_t controlMode; } control_t;
void vTaskDelay(uint32_t);
void controllerPidInit(void);
bool controllerPidTest(void);
void controllerPid(control_t *, const setpoint_t *, const sensorData_t *, const state_t *, stabilizerStep_t);
void controllerOutOfTreeInit(void);
bool controllerOutOfTreeTest(void);
void controllerOutOfTree(control_t *, const setpoint_t *, const sensorData_t *, const state_t *, stabilizerStep_t);
#endif
"""

# Reads lines "tick mode px py pz qw qx qy qz vx vy vz wx wy wz sx sy sz yaw", prints control mode and forces.
HARNESS = """
#include <math.h>
#include <stdio.h>
#include "controller.h"
void vTaskDelay(uint32_t t) { (void)t; }
void controllerPidInit(void) {}
bool controllerPidTest(void) { return true; }
void controllerPid(control_t *c, const setpoint_t *s, const sensorData_t *d, const state_t *t, stabilizerStep_t k)
{ (void)s; (void)d; (void)t; (void)k; c->controlMode = controlModeLegacy; }
int main(void)
{
    controllerOutOfTreeInit();
    if (!controllerOutOfTreeTest()) return 1;
    control_t c = {{0}, 0, controlModeLegacy};
    unsigned tick; int mode; float v[17];
    while (scanf("%u %d", &tick, &mode) == 2) {
        for (int i = 0; i < 17; i++) if (scanf("%f", v + i) != 1) return 2;
        state_t s = {0}; sensorData_t d; setpoint_t p = {0};
        s.position = (vec){v[0], v[1], v[2]};
        s.attitudeQuaternion.w = v[3]; s.attitudeQuaternion.x = v[4];
        s.attitudeQuaternion.y = v[5]; s.attitudeQuaternion.z = v[6];
        s.velocity = (vec){v[7], v[8], v[9]};
        const float degrees = 57.2957795f;
        d.gyro = (vec){degrees * v[10], degrees * v[11], degrees * v[12]};
        p.position = (vec){v[13], v[14], v[15]};
        p.attitude.yaw = degrees * v[16];
        p.mode.x = p.mode.y = p.mode.z = (stab_mode_t)mode;
        controllerOutOfTree(&c, &p, &d, &s, tick);
        printf("%d %.9g %.9g %.9g %.9g\\n", (int)c.controlMode, (double)c.normalizedForces[0],
               (double)c.normalizedForces[1], (double)c.normalizedForces[2], (double)c.normalizedForces[3]);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    """The controller as a program: lines in, lines out."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang")
    folder = tmp_path_factory.mktemp("firmware")
    write_c(ROOT / "policies" / "zoo" / "quadrotor-hover", folder / "policy")
    for name in ("app.h", "FreeRTOS.h", "task.h", "controller.h", "controller_pid.h", "debug.h"):
        (folder / name).write_text(TYPES)
    (folder / "harness.c").write_text(HARNESS)
    sources = [folder / "harness.c", SOURCE, folder / "policy" / "policy.c", folder / "policy" / "policy_boot_test.c"]
    command = [compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-I{folder / 'policy'}"]
    subprocess.run([*command, *map(str, sources), "-o", str(folder / "run"), "-lm"], check=True)

    def run(rows):
        text = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in rows)
        done = subprocess.run([str(folder / "run")], input=text, capture_output=True, text=True, check=True, timeout=20)
        return np.array([[float(word) for word in line.split()] for line in done.stdout.splitlines()])

    return run


def row(tick, mode, state, goal, yaw=0.0):
    parts = (state.position, state.orientation, state.linear_velocity, state.angular_velocity, goal)
    return [tick, mode, *np.concatenate(parts), yaw]


def near_hover(rng):
    axis = 0.1 * rng.standard_normal(3)
    orientation = np.concatenate([[1.0], 0.5 * axis])
    return QuadrotorState(
        0.2 * rng.standard_normal(3),
        orientation / np.linalg.norm(orientation),
        0.3 * rng.standard_normal(3),
        0.5 * rng.standard_normal(3),
    )


def test_rotor_thrusts_are_the_policys(controller):
    """Through the firmware's degrees, xyzw and shares of thrust, 30 periods with memory: the runtime's rotor speeds."""
    rng = np.random.default_rng(8)
    states = [near_hover(rng) for _ in range(30)]
    goal = np.array([0.1, -0.05, 0.02])
    rows = [row(tick, 1, states[tick // 10], goal) for tick in range(300)]
    answers = controller(rows)
    assert np.all(answers[:, 0] == 2.0), "not in force mode"
    policy = policies.load("quadrotor-hover")
    policy.reset()
    for index, state in enumerate(states):
        near = state.position + np.clip(goal - state.position, -0.5, 0.5)
        command = policy.step(state, QuadrotorSetpoint(near, np.zeros(3), np.zeros(3), np.array(0.0)))
        expected = (np.asarray(command.values, dtype=float) / FULL_SPEED) ** 2
        np.testing.assert_allclose(answers[10 * index, 1:], expected, atol=2e-4)
        assert np.all(answers[10 * index : 10 * index + 10, 1:] == answers[10 * index, 1:]), "not held in between"


def test_without_a_position_setpoint_the_firmware_flies(controller):
    state = near_hover(np.random.default_rng(1))
    rows = [row(0, 0, state, np.zeros(3)), row(10, 1, state, np.zeros(3)), row(11, 0, state, np.zeros(3))]
    assert controller(rows)[:, 0].tolist() == [0.0, 2.0, 0.0]


def test_a_state_that_is_not_finite_gives_up_until_setpoints_pause(controller):
    state = near_hover(np.random.default_rng(1))
    broken = QuadrotorState(np.array([np.nan, 0, 0]), state.orientation, state.linear_velocity, state.angular_velocity)
    rows = [
        row(10, 1, state, np.zeros(3)),
        row(20, 1, broken, np.zeros(3)),
        row(30, 1, state, np.zeros(3)),
        row(31, 0, state, np.zeros(3)),
        row(40, 1, state, np.zeros(3)),
    ]
    assert controller(rows)[:, 0].tolist() == [2.0, 0.0, 0.0, 0.0, 2.0]
