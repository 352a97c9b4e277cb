/* How a policy is used on a microcontroller. The functions read_..., now_... and write_... are the board's own. */
#include <stdio.h>

#include "policy.h"

/* Larger than any rounding, far smaller than what a wrong byte or a broken math library does. */
#define LARGEST_BOOT_ERROR 1e-4f

static struct policy flight;

int main(void)
{
    const float error = policy_boot_test();
    printf("%s: boot test, largest error %g\n", POLICY_NAME, (double)error);
    if (!(error < LARGEST_BOOT_ERROR)) return 1; /* also if it is not a number: do not fly */

    /* Once per control period of POLICY_PERIOD s, from a timer: no earlier, no later, since memory counts calls. */
    struct policy_state state = POLICY_STATE_EXAMPLE;
    struct policy_setpoint setpoint = POLICY_SETPOINT_EXAMPLE;
    struct policy_command command;
    policy_reset(&flight);
    for (int tick = 0; tick < 3; tick++) {
        /* read_state(&state); read_setpoint(&setpoint); */
        if (!policy_step(&flight, &state, &setpoint, &command)) {
            printf("the state is not finite: hold, level, or stop\n");
            continue;
        }
        printf("tick %d: action", tick);
        for (int i = 0; i < POLICY_ACTION_SIZE; i++) printf(" %.6f", (double)flight.action[i]);
        printf("\n");
        /* write_command(&command); */
    }
    return 0;
}
