/* Calls a compiled model on strings, built for this machine or another: `net` takes four strings,
 * numbers of names and floats, and gives what matches [a-z]+\d*, the words' numbers, the word or
 * else the name, and the floats as text. Elements are smelt_string, whatever a pointer's size. */
#include <stdio.h>
#include <string.h>

#include "net.h"

static int is(smelt_string s, const char *want) {
    return s.n_bytes == strlen(want) && !memcmp(s.bytes, want, s.n_bytes);
}

int main(void) {
    static const smelt_string x[4] = {{"cat", 3}, {"Dog", 3}, {"bird7", 5}, {"", 0}};
    static const int64_t i[4] = {0, 1, 2, 1};
    static const float f[4] = {0.1f, -3e20f, 7, 1e-30f};
    static const char *const words[4] = {"cat", "one", "bird7", "one"};
    static const char *const numbers[4] = {"0.1", "-3.0000001e+20", "7", "1e-30"};
    static const int64_t codes[4] = {1, -1, 3, -1};
    static unsigned char arena[4096];
    uint8_t m[4];
    int64_t c[4];
    smelt_string w[4], t[4];
    int wrong = net_run(4, x, i, f, m, c, w, t, arena, sizeof arena);
    for (int k = 0; k < 4; k++) {
        wrong += m[k] != (codes[k] > 0) || c[k] != codes[k];
        wrong += !is(w[k], words[k]) || !is(t[k], numbers[k]);
    }
    printf("%d wrong, elements of %d bytes\n", wrong, (int)sizeof(smelt_string));
    return wrong != 0;
}
