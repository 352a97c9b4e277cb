/* The policy in a thread of its own, at absolute deadlines, on Linux: for computers, not for microcontrollers.
 *
 * It reads states and set-points from, and writes commands to, slots of shared memory as hardware/realtime/seqlock.py
 * lays them out: header, then four cells, each with checksum, sequence number, stamp and record. The thread allocates
 * nothing, waits for nobody and calls no interpreter.
 */
#ifndef POLICY_LOOP_H
#define POLICY_LOOP_H

#include <stdint.h>

#define POLICY_LOOP_BINS 320
#define POLICY_LOOP_INPUTS 8

/* `count` numbers between a record and a structure of floats. */
struct policy_copy {
    int32_t record; /* byte of the record where they begin */
    int32_t index;  /* float of the structure where they begin */
    int32_t count;
    int32_t wide;   /* 1: float64 in the record, 0: float32 */
};

enum { POLICY_STATE = 0, POLICY_SETPOINT = 1 };

/* One slot, mapped. */
struct policy_slot {
    unsigned char *memory;
    unsigned char *blank; /* of the command: a record with everything that does not change; it is written to */
    const struct policy_copy *copy;
    double max_age;       /* s; of a state: an older one gives no command. Of a set-point: an older one stands still */
    int32_t record_size;
    int32_t copies;
    int32_t target;       /* POLICY_STATE or POLICY_SETPOINT: what an input is part of */
    int32_t stamp_at;     /* byte of the record where the stamp of the measurement is (float64), or -1: the slot's own.
                             Of the command: where to write that of the first input, or -1 */
};

struct policy_loop_config {
    double rate_hz;      /* of the thread */
    int32_t every;       /* the policy steps at every so many ticks */
    int32_t priority;    /* of SCHED_FIFO; 0: the scheduler's normal class */
    int32_t lock_memory; /* 1: mlockall */
    int32_t gap;         /* policy steps without a command after which its memory is reset */
    int32_t still_index; /* floats of the set-point that are zero where it stands still */
    int32_t still_count;
    int32_t inputs;      /* how many there are; the first one's stamp is that of the state */
    int32_t unused;
    struct policy_slot input[POLICY_LOOP_INPUTS];
    struct policy_slot command;
};

/* As hardware/realtime/histogram.py: 40 bins a decade from 1 us on. */
struct policy_histogram {
    int64_t bins[POLICY_LOOP_BINS];
    double sum, max; /* s */
};

struct policy_loop_statistics {
    int64_t ticks, commands, lost;                     /* lost: deadlines at which no tick began */
    int64_t inactive, empty, stale, damaged, refused;  /* steps without a command, by reason */
    int64_t resets;                                    /* of the policy's memory */
    int32_t fifo, locked; /* 1: granted, 0: not asked for, else minus errno */
    int32_t running, unused;
    struct policy_histogram wake, work; /* lateness of wake-ups; time from there to the command */
};

/* Start and stop the one thread of this library. `start` returns 0 or errno; its pointers must live until `stop`. */
int policy_loop_start(const struct policy_loop_config *config);
void policy_loop_stop(void);
/* Let the policy forget the past before its next step. */
void policy_loop_reset(void);
/* Whether it may give commands; it may from the start on. */
void policy_loop_activate(int active);
/* Grows while the thread runs. */
const struct policy_loop_statistics *policy_loop_statistics_now(void);

#endif
