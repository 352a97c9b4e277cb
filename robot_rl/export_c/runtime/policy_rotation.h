/* Quaternions wxyz, body to world, as in policies/rotation.py. */
#ifndef POLICY_ROTATION_H
#define POLICY_ROTATION_H

#include "policy_math.h"

static inline void policy_conjugate(const float *q, float *out)
{
    out[0] = q[0];
    for (int i = 1; i < 4; i++) out[i] = -q[i];
}

/* Hamilton product: b is applied first. */
static inline void policy_multiply(const float *a, const float *b, float *out)
{
    out[0] = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3];
    out[1] = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2];
    out[2] = a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1];
    out[3] = a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0];
}

static inline void policy_cross(const float *a, const float *b, float *out)
{
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

/* World to body; `out` may be `v`. */
static inline void policy_rotate_inverse(const float *q, const float *v, float *out)
{
    float inverse[4], twice[3], again[3];
    policy_conjugate(q, inverse);
    policy_cross(inverse + 1, v, twice);
    for (int i = 0; i < 3; i++) twice[i] *= 2.0f;
    policy_cross(inverse + 1, twice, again);
    for (int i = 0; i < 3; i++) out[i] = v[i] + inverse[0] * twice[i] + again[i];
}

/* Rotation vector of a unit quaternion, the shorter way around. */
static inline void policy_rotation_vector(const float *q, float *out)
{
    const float sign = q[0] < 0.0f ? -1.0f : 1.0f;
    const float x = sign * q[1], y = sign * q[2], z = sign * q[3];
    const float sine = sqrtf(x * x + y * y + z * z);
    const float factor = sine > 1e-6f ? 2.0f * atan2f(sine, sign * q[0]) / sine : 2.0f;
    out[0] = factor * x;
    out[1] = factor * y;
    out[2] = factor * z;
}

/* First two columns of the rotation matrix. */
static inline void policy_two_columns(const float *q, float *out)
{
    const float w = q[0], x = q[1], y = q[2], z = q[3];
    const float x2 = 2.0f * x, y2 = 2.0f * y, z2 = 2.0f * z;
    out[0] = 1.0f - (y * y2 + z * z2);
    out[1] = x * y2 + w * z2;
    out[2] = x * z2 - w * y2;
    out[3] = x * y2 - w * z2;
    out[4] = 1.0f - (x * x2 + z * z2);
    out[5] = y * z2 + w * x2;
}

#endif
