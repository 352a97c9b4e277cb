/* The functions of <math.h> that a policy uses, in single precision.
 *
 * A toolchain without <math.h> gives its own: -DPOLICY_MATH_HEADER='"my_math.h"'. README.md lists what is needed.
 */
#ifndef POLICY_MATH_H
#define POLICY_MATH_H

#ifdef POLICY_MATH_HEADER
#include POLICY_MATH_HEADER
#else
#include <math.h>
#endif

static inline float policy_clip(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

#endif
