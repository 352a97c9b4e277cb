/* Layers of a network that are more than one formula per element. Rows are contiguous. */
#ifndef POLICY_LAYERS_H
#define POLICY_LAYERS_H

#include "policy_math.h"

/* out (rows, outputs) = in (rows, inputs) times weight (inputs, outputs) plus bias (outputs).
 * The inner loop runs over the outputs, so that a compiler may vectorize it without reordering any sum. */
static inline void policy_dense(const float *restrict in, const float *restrict weight, const float *restrict bias,
                                int rows, int inputs, int outputs, float *restrict out)
{
    for (int r = 0; r < rows; r++, in += inputs, out += outputs) {
        const float *restrict w = weight;
        for (int j = 0; j < outputs; j++) out[j] = bias[j];
        for (int i = 0; i < inputs; i++, w += outputs) {
            const float x = in[i];
            for (int j = 0; j < outputs; j++) out[j] += x * w[j];
        }
    }
}

/* Layer normalization over rows of `size` elements, with scale and bias (size). */
static inline void policy_layer_norm(const float *in, const float *scale, const float *bias, int rows, int size,
                                     float epsilon, float *out)
{
    for (int r = 0; r < rows; r++, in += size, out += size) {
        float mean = 0.0f, variance = 0.0f;
        for (int i = 0; i < size; i++) mean += in[i];
        mean /= (float)size;
        for (int i = 0; i < size; i++) variance += (in[i] - mean) * (in[i] - mean);
        const float factor = 1.0f / sqrtf(variance / (float)size + epsilon);
        for (int i = 0; i < size; i++) out[i] = (in[i] - mean) * factor * scale[i] + bias[i];
    }
}

/* log of softmax over rows of `size` elements. */
static inline void policy_log_softmax(const float *in, int rows, int size, float *out)
{
    for (int r = 0; r < rows; r++, in += size, out += size) {
        float top = in[0], sum = 0.0f;
        for (int i = 1; i < size; i++) top = in[i] > top ? in[i] : top;
        for (int i = 0; i < size; i++) sum += expf(in[i] - top);
        const float shift = top + logf(sum);
        for (int i = 0; i < size; i++) out[i] = in[i] - shift;
    }
}

/* softmax over rows of `size` elements. */
static inline void policy_softmax(const float *in, int rows, int size, float *out)
{
    policy_log_softmax(in, rows, size, out);
    for (int i = 0; i < rows * size; i++) out[i] = expf(out[i]);
}

#endif
