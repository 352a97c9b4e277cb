#define _GNU_SOURCE
#include "policy_loop.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "policy.h"

enum { HEAD = 64, FIRST = 128, CELL = 24, CELLS = 4, CHECKED = 8, ATTEMPTS = 100, RECORD_MAX = 4096 };

static struct policy_loop_config config;
static struct policy_loop_statistics statistics;
static struct policy instance;
static pthread_t thread;
static int stopping, resetting, active;
static uint32_t crc_table[256];

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void record_duration(struct policy_histogram *histogram, int64_t ns)
{
    const double seconds = ns > 0 ? 1e-9 * (double)ns : 0.0;
    int bin = seconds > 1e-6 ? (int)(40.0 * log10(seconds / 1e-6)) : 0;
    if (bin >= POLICY_LOOP_BINS) bin = POLICY_LOOP_BINS - 1;
    histogram->bins[bin]++;
    histogram->sum += seconds;
    if (seconds > histogram->max) histogram->max = seconds;
}

/* CRC-32 as in zlib. */
static void crc_prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
}

static uint32_t crc(const unsigned char *bytes, size_t count)
{
    uint32_t c = 0xFFFFFFFFu;
    while (count--) c = crc_table[(c ^ *bytes++) & 0xFFu] ^ (c >> 8);
    return ~c;
}

static size_t cell_start(const struct policy_slot *slot, uint64_t sequence)
{
    const size_t stride = ((size_t)(CELL + slot->record_size) + 63) / 64 * 64;
    return FIRST + (size_t)(sequence % CELLS) * stride;
}

/* Take the newest record whole: 1, or 0 if there is none yet, or -1 if none is whole. */
static int slot_read(const struct policy_slot *slot, float *out, double *stamp)
{
    static unsigned char cell[CELL + RECORD_MAX];
    const uint64_t *head = (const uint64_t *)(const void *)(slot->memory + HEAD);
    const size_t size = (size_t)(CELL + slot->record_size);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        const uint64_t newest = __atomic_load_n(head, __ATOMIC_ACQUIRE);
        uint64_t sequence;
        uint32_t checksum;
        if (newest == 0) return 0;
        memcpy(cell, slot->memory + cell_start(slot, newest), size);
        memcpy(&checksum, cell, 4);
        memcpy(&sequence, cell + 8, 8);
        if (sequence != newest || crc(cell + CHECKED, size - CHECKED) != checksum) continue;
        memcpy(stamp, slot->stamp_at < 0 ? cell + 16 : cell + CELL + slot->stamp_at, 8);
        for (int k = 0; k < slot->copies; k++) {
            const struct policy_copy *c = slot->copy + k;
            for (int i = 0; i < c->count; i++) {
                const unsigned char *from = cell + CELL + c->record + (c->wide ? 8 : 4) * i;
                double wide;
                if (c->wide) memcpy(&wide, from, 8), out[c->index + i] = (float)wide;
                else memcpy(&out[c->index + i], from, 4);
            }
        }
        return 1;
    }
    return -1;
}

static void slot_write(const struct policy_slot *slot, const float *values, double stamp, double state_stamp)
{
    static unsigned char cell[CELL + RECORD_MAX];
    uint64_t *head = (uint64_t *)(void *)(slot->memory + HEAD);
    const uint64_t sequence = __atomic_load_n(head, __ATOMIC_RELAXED) + 1;
    const size_t size = (size_t)(CELL + slot->record_size);
    memset(cell, 0, CELL);
    memcpy(cell + 8, &sequence, 8);
    memcpy(cell + 16, &stamp, 8);
    memcpy(cell + CELL, slot->blank, (size_t)slot->record_size);
    for (int k = 0; k < slot->copies; k++) {
        const struct policy_copy *c = slot->copy + k;
        for (int i = 0; i < c->count; i++) {
            unsigned char *to = cell + CELL + c->record + (c->wide ? 8 : 4) * i;
            const double wide = (double)values[c->index + i];
            if (c->wide) memcpy(to, &wide, 8);
            else memcpy(to, &values[c->index + i], 4);
        }
    }
    if (slot->stamp_at >= 0) memcpy(cell + CELL + slot->stamp_at, &state_stamp, 8);
    const uint32_t checksum = crc(cell + CHECKED, size - CHECKED);
    memcpy(cell, &checksum, 4);
    memcpy(slot->memory + cell_start(slot, sequence), cell, size);
    __atomic_store_n(head, sequence, __ATOMIC_RELEASE);
}

/* One step of the policy; returns whether there was a command. */
static int step(int fresh)
{
    static struct policy_state state;
    static struct policy_setpoint setpoint;
    struct policy_command command;
    double state_stamp = 0.0;
    if (!__atomic_load_n(&active, __ATOMIC_ACQUIRE)) return statistics.inactive++, 0;
    for (int k = 0; k < config.inputs; k++) {
        const struct policy_slot *slot = &config.input[k];
        double stamp;
        const int found = slot_read(slot, slot->target == POLICY_STATE ? (float *)&state : (float *)&setpoint, &stamp);
        if (found == 0) return statistics.empty++, 0;
        if (found < 0) return statistics.damaged++, 0;
        if (k == 0) state_stamp = stamp;
        if (1e-9 * (double)now_ns() - stamp < slot->max_age) continue;
        if (slot->target == POLICY_STATE) return statistics.stale++, 0;
        for (int i = 0; i < config.still_count; i++) ((float *)&setpoint)[config.still_index + i] = 0.0f;
    }
    if (fresh) {
        policy_reset(&instance);
        statistics.resets++;
    }
    if (!policy_step(&instance, &state, &setpoint, &command)) return statistics.refused++, 0;
    slot_write(&config.command, (const float *)&command, 1e-9 * (double)now_ns(), state_stamp);
    statistics.commands++;
    return 1;
}

static void *run(void *nothing)
{
    const int64_t period = (int64_t)(1e9 / config.rate_hz);
    int64_t deadline = now_ns() + period;
    int silent = config.gap + 1;
    (void)nothing;
    for (int64_t tick = 0; !__atomic_load_n(&stopping, __ATOMIC_ACQUIRE); tick++) {
        struct timespec until = {(time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) continue;
        const int64_t woken = now_ns();
        record_duration(&statistics.wake, woken - deadline);
        if (tick % config.every == 0) {
            const int fresh = __atomic_exchange_n(&resetting, 0, __ATOMIC_ACQ_REL) || silent > config.gap;
            silent = step(fresh) ? 0 : silent + 1;
            record_duration(&statistics.work, now_ns() - woken);
        }
        __atomic_store_n(&statistics.ticks, tick + 1, __ATOMIC_RELEASE);
        deadline += period;
        /* What has passed already is missed, not made up for: a burst of late steps would spoil the memory. */
        for (const int64_t now = now_ns(); deadline <= now; deadline += period) statistics.lost++;
    }
    return NULL;
}

int policy_loop_start(const struct policy_loop_config *wanted)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;
    if (statistics.running) return EBUSY;
    if (!(wanted->rate_hz > 0.0) || wanted->every < 1 || wanted->inputs < 1 || wanted->inputs > POLICY_LOOP_INPUTS ||
        wanted->command.record_size > RECORD_MAX) return EINVAL;
    for (int k = 0; k < wanted->inputs; k++) {
        if (wanted->input[k].record_size > RECORD_MAX) return EINVAL;
    }
    config = *wanted;
    memset(&statistics, 0, sizeof statistics);
    stopping = resetting = 0;
    active = 1;
    crc_prepare();
    if (config.lock_memory) statistics.locked = mlockall(MCL_CURRENT | MCL_FUTURE) ? -errno : 1;
    pthread_attr_init(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads of the interpreter */
    if (config.priority > 0) {
        struct sched_param scheduling;
        memset(&scheduling, 0, sizeof scheduling);
        scheduling.sched_priority = config.priority;
        pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
        pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
        pthread_attr_setschedparam(&attributes, &scheduling);
        error = pthread_create(&thread, &attributes, run, NULL);
        statistics.fifo = error ? -error : 1;
        if (error == EPERM) error = pthread_create(&thread, NULL, run, NULL);
    } else {
        error = pthread_create(&thread, NULL, run, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    statistics.running = error == 0;
    return error;
}

void policy_loop_stop(void)
{
    if (!statistics.running) return;
    __atomic_store_n(&stopping, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    statistics.running = 0;
}

void policy_loop_activate(int wanted) { __atomic_store_n(&active, wanted, __ATOMIC_RELEASE); }

void policy_loop_reset(void) { __atomic_store_n(&resetting, 1, __ATOMIC_RELEASE); }

const struct policy_loop_statistics *policy_loop_statistics_now(void) { return &statistics; }
