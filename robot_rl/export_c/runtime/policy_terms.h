/* Observation terms; each says the same as the function of its name in policies/. */
#ifndef POLICY_TERMS_H
#define POLICY_TERMS_H

#include "policy_rotation.h"

/* Shorten a vector of 3 to `limit`, keeping its direction. */
static inline void policy_shorten(float *v, float limit)
{
    const float length = sqrtf(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    const float share = limit / (length < limit ? limit : length);
    for (int i = 0; i < 3; i++) v[i] *= share;
}

/* Turn a world vector of 3 by minus the heading, in place. */
static inline void policy_to_heading(const float *orientation, float *v)
{
    const float w = orientation[0], z = orientation[3];
    const float scale = 1.0f / (w * w + z * z + 1e-4f);
    const float cosine = (w * w - z * z) * scale, sine = 2.0f * w * z * scale;
    const float x = v[0], y = v[1];
    v[0] = cosine * x + sine * y;
    v[1] = cosine * y - sine * x;
}

/* Put `count` newest values in front of the `size` ones of a history. */
static inline void policy_push(float *history, int size, const float *newest, int count)
{
    for (int i = size - 1; i >= count; i--) history[i] = history[i - count];
    for (int i = 0; i < count && i < size; i++) history[i] = newest[i];
}

/* Quadrotors */

static inline void policy_error(const float *value, const float *target, float limit, float scale, float *out)
{
    for (int i = 0; i < 3; i++) out[i] = value[i] - target[i];
    policy_shorten(out, limit);
    for (int i = 0; i < 3; i++) out[i] *= scale;
}

static inline void policy_up_direction(const float *q, float *out)
{
    out[0] = 2.0f * (q[1] * q[3] - q[0] * q[2]);
    out[1] = 2.0f * (q[2] * q[3] + q[0] * q[1]);
    out[2] = 1.0f - 2.0f * (q[1] * q[1] + q[2] * q[2]);
}

static inline void policy_yaw_error(const float *q, float yaw, float limit, float *out)
{
    const float turn = 6.28318530717958648f;
    const float error = 2.0f * atan2f(q[3], q[0]) - yaw;
    out[0] = policy_clip(error - turn * rintf(error / turn), -limit, limit);
}

static inline void policy_scaled(const float *value, int count, float scale, float *out)
{
    for (int i = 0; i < count; i++) out[i] = value[i] * scale;
}

/* The features are the history before this period; `memory` is the one after it. */
static inline void policy_angular_velocity_history(const float *rates, float scale, int size, float *memory,
                                                   float *out)
{
    float now[3];
    for (int i = 0; i < size; i++) out[i] = memory[i];
    policy_scaled(rates, 3, scale, now);
    policy_push(memory, size, now, 3);
}

static inline void policy_position_error_integral(const float *position, const float *target, float period,
                                                  float limit, float clip, float scale, float *memory, float *out)
{
    float error[3];
    policy_error(position, target, limit, 1.0f, error);
    for (int i = 0; i < 3; i++) memory[i] += period * error[i];
    policy_shorten(memory, clip);
    policy_scaled(memory, 3, scale, out);
}

/* Arms. A pose is 7 floats, xyz and wxyz; `frame` is the orientation to give vectors in, or 0 for the base. */

static inline void policy_finish(const float *frame, float *v, float scale, float limit, float *out)
{
    if (frame) policy_rotate_inverse(frame, v, v);
    for (int i = 0; i < 3; i++) out[i] = policy_clip(v[i] * scale, -limit, limit);
}

static inline void policy_position(const float *pose, float x, float y, float z, float scale, float *out)
{
    out[0] = (pose[0] - x) * scale;
    out[1] = (pose[1] - y) * scale;
    out[2] = (pose[2] - z) * scale;
}

static inline void policy_position_difference(const float *of, const float *origin, const float *frame, float scale,
                                              float limit, float *out)
{
    float way[3];
    for (int i = 0; i < 3; i++) way[i] = of[i] - origin[i];
    policy_finish(frame, way, scale, limit, out);
}

static inline void policy_rotation_difference(const float *of, const float *origin, const float *frame, float scale,
                                              float limit, float *out)
{
    float inverse[4], turn[4], vector[3];
    policy_conjugate(origin + 3, inverse);
    policy_multiply(of + 3, inverse, turn);
    policy_rotation_vector(turn, vector);
    policy_finish(frame, vector, scale, limit, out);
}

static inline void policy_behind_difference(const float *of, const float *goal, const float *tool,
                                            const float *frame, float offset, float scale, float limit, float *out)
{
    float way[3], to_point[3];
    for (int i = 0; i < 3; i++) way[i] = goal[i] - of[i];
    const float length = sqrtf(way[0] * way[0] + way[1] * way[1] + way[2] * way[2]);
    const float share = offset / (length < 1e-3f ? 1e-3f : length);
    for (int i = 0; i < 3; i++) to_point[i] = of[i] - way[i] * share - tool[i];
    policy_finish(frame, to_point, scale, limit, out);
}

static inline void policy_tool_twist(const float *twist, const float *frame, float linear, float angular, float *out)
{
    for (int i = 0; i < 6; i++) out[i] = twist[i];
    if (frame) {
        policy_rotate_inverse(frame, out, out);
        policy_rotate_inverse(frame, out + 3, out + 3);
    }
    policy_scaled(out, 3, linear, out);
    policy_scaled(out + 3, 3, angular, out + 3);
}

static inline void policy_wrench(const float *wrench, float force, float torque, float limit, float *out)
{
    for (int i = 0; i < 6; i++) out[i] = policy_clip(wrench[i] * (i < 3 ? force : torque), -limit, limit);
}

/* `memory` holds the first pose of the episode; zeros are none. */
static inline void policy_relative_pose(const float *pose, float scale, float limit, float farthest, float *memory,
                                        float *out)
{
    float way[3], inverse[4], turn[4];
    if (memory[3] == 0.0f && memory[4] == 0.0f && memory[5] == 0.0f && memory[6] == 0.0f) {
        for (int i = 0; i < 7; i++) memory[i] = policy_clip(pose[i], -farthest, farthest);
    }
    for (int i = 0; i < 3; i++) way[i] = pose[i] - memory[i];
    policy_finish(memory + 3, way, scale, limit, out);
    policy_conjugate(memory + 3, inverse);
    policy_multiply(inverse, pose + 3, turn);
    policy_two_columns(turn, out + 3);
}

#endif
