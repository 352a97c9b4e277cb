/* An exported policy as the out-of-tree controller of a Crazyflie's firmware.
 *
 * The policy flies while set-points with a position come (full-state or position set-points, the high-level commander's
 * trajectories). For everything else, the firmware's own levelling and stopping included, and from the moment in which
 * the policy has no answer, the firmware's PID controller flies. Arming, tumbling and the watchdog stay the firmware's.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "app.h"
#include "FreeRTOS.h"
#include "task.h"
#include "controller.h"
#include "controller_pid.h"
#define DEBUG_MODULE "POLICY"
#include "debug.h"

#include "policy.h"

#define RADIANS 0.0174532925f
/* rad/s at full thrust: `max_speed` of the description that the policy was trained with. */
#define FULL_SPEED 2272.6f
/* m: a farther set-point is approached, not jumped to; about what the policy saw in training. */
#define REACH 0.5f

static struct policy policy;
static float forces[STABILIZER_NR_OF_MOTORS];
static bool ready, flying, gave_up;

void appMain(void)
{
    while (1) vTaskDelay(M2T(2000));
}

void controllerOutOfTreeInit(void)
{
    const float error = policy_boot_test();
    ready = error < 1e-4f; /* also false where it is not a number */
    flying = gave_up = false;
    policy_reset(&policy);
    controllerPidInit();
    if (!ready) {
        DEBUG_PRINT("boot test failed: the policy will not fly\n");
    }
}

bool controllerOutOfTreeTest(void)
{
    return ready && controllerPidTest();
}

static float within(float value, float middle)
{
    return fmaxf(middle - REACH, fminf(middle + REACH, value));
}

static bool step(const setpoint_t *setpoint, const sensorData_t *sensors, const state_t *state)
{
    const struct policy_state measured = {
        {state->position.x, state->position.y, state->position.z},
        {state->attitudeQuaternion.w, state->attitudeQuaternion.x, state->attitudeQuaternion.y,
         state->attitudeQuaternion.z},
        {state->velocity.x, state->velocity.y, state->velocity.z},
        {RADIANS * sensors->gyro.x, RADIANS * sensors->gyro.y, RADIANS * sensors->gyro.z},
    };
    float yaw = RADIANS * setpoint->attitude.yaw;
    if (setpoint->mode.quat == modeAbs) {
        const quaternion_t *q = &setpoint->attitudeQuaternion;
        yaw = atan2f(2.0f * (q->w * q->z + q->x * q->y), 1.0f - 2.0f * (q->y * q->y + q->z * q->z));
    }
    const struct policy_setpoint goal = {
        {within(setpoint->position.x, state->position.x), within(setpoint->position.y, state->position.y),
         within(setpoint->position.z, state->position.z)},
        {setpoint->velocity.x, setpoint->velocity.y, setpoint->velocity.z},
        {setpoint->acceleration.x, setpoint->acceleration.y, setpoint->acceleration.z},
        yaw,
    };
    struct policy_command command;
    if (!policy_step(&policy, &measured, &goal, &command)) return false;
    for (int i = 0; i < STABILIZER_NR_OF_MOTORS; i++) {
        const float share = command.motor_speeds[i] / FULL_SPEED;
        forces[i] = share * share; /* thrust grows with the square of speed */
    }
    return true;
}

void controllerOutOfTree(control_t *control, const setpoint_t *setpoint, const sensorData_t *sensors,
                         const state_t *state, const stabilizerStep_t tick)
{
    const bool wanted = setpoint->mode.x == modeAbs && setpoint->mode.y == modeAbs && setpoint->mode.z == modeAbs;
    if (!wanted) flying = gave_up = false;
    if (!ready || !wanted || gave_up) {
        controllerPid(control, setpoint, sensors, state, tick);
        return;
    }
    const bool due = RATE_DO_EXECUTE((uint32_t)POLICY_CONTROL_RATE_HZ, tick);
    if (!flying && !due) {
        controllerPid(control, setpoint, sensors, state, tick);
        return;
    }
    if (!flying) policy_reset(&policy);
    flying = true;
    if (due && !step(setpoint, sensors, state)) {
        gave_up = true;
        controllerPid(control, setpoint, sensors, state, tick);
        return;
    }
    control->controlMode = controlModeForce;
    for (int i = 0; i < STABILIZER_NR_OF_MOTORS; i++) control->normalizedForces[i] = forces[i];
}
