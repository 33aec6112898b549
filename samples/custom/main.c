/* Calls the compiled waves.onnx, whose operators Wave and RowPeak are the functions of wave.c, and
 * compares its answers with the same arithmetic written out here. */
#include <math.h>
#include <stdio.h>

#include "waves.h"

enum { ROWS = 2, COLUMNS = 4 };

static double expected(double x, int column) {
    double wave = (x > 0 ? x : 0) * (column + 1) + (column % 2 ? -0.5 : 0.5);
    return wave / (1 + exp(-wave)); /* the function Gate of gates.onnx */
}

int main(void) {
    static const float x[ROWS * COLUMNS] = {1.0f, -1.0f, 0.5f, 0.25f, 0.0f, 1.0f, -2.0f, 0.125f};
    static unsigned char arena[4096];
    float y[ROWS * COLUMNS], peak[ROWS];
    int64_t place[ROWS];
    int status = waves_run(ROWS, x, y, peak, place, arena, sizeof arena);
    if (status) {
        printf("status %d\n", status);
        return 1;
    }
    for (int i = 0; i < ROWS * COLUMNS; i++)
        if (fabs((double)y[i] - expected((double)x[i], i % COLUMNS)) > 1e-5) {
            printf("y[%d] is %g, not %g\n", i, (double)y[i], expected((double)x[i], i % COLUMNS));
            return 1;
        }
    for (int r = 0; r < ROWS; r++)
        printf("row %d: largest is %.4f at %d\n", r, (double)peak[r], (int)place[r]);
    return 0;
}
