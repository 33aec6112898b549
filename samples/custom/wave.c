/* Two operators of our own in C, as waves.ops declares them: a gain for each column with a square
 * wave on top, and the largest element of each row with its place. */
#include <stdint.h>

void wave_f32(const float *x, const float *gain, const float *scale, float *y, int64_t rows,
              int64_t columns);
void wave_i32(const int32_t *x, const int32_t *gain, const float *scale, int32_t *y, int64_t rows,
              int64_t columns);
void row_peak(const float *x, float *peak, int64_t *place, int64_t rows, int64_t columns);

void wave_f32(const float *x, const float *gain, const float *scale, float *y, int64_t rows,
              int64_t columns) {
    for (int64_t i = 0; i < rows * columns; i++) {
        float high = i % columns % 2 ? -*scale : *scale;
        y[i] = x[i] * gain[i % columns] + high;
    }
}

void wave_i32(const int32_t *x, const int32_t *gain, const float *scale, int32_t *y, int64_t rows,
              int64_t columns) {
    for (int64_t i = 0; i < rows * columns; i++) {
        int32_t high = (int32_t)*scale;
        y[i] = x[i] * gain[i % columns] + (i % columns % 2 ? -high : high);
    }
}

void row_peak(const float *x, float *peak, int64_t *place, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        place[r] = 0;
        for (int64_t c = 1; c < columns; c++)
            if (x[r * columns + c] > x[r * columns + place[r]]) place[r] = c;
        peak[r] = x[r * columns + place[r]];
    }
}
