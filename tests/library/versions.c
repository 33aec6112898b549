/* A model with versions: which code a call runs is told to the hooks, each size needs the arena of
 * its own version, and sizes that have no code are refused. Built as `net` for a model of one input
 * [batch, seq, 8] and outputs [batch, seq, 8] and [n] (n found while running).
 *
 *     versions BATCH SEQ VERSION [BATCH SEQ VERSION ...]
 *
 * VERSION is what the hook is told, or "refused". */
#include <stdlib.h>

#include "net_call.h"

#include "digits_input.h"

enum { WIDTH = 8, MOST = 16 * 16 * WIDTH };

static const char *started; /* the version that the last call ran */

static void note_version(void *user, uint32_t node)
{
    (void)user;
    if (!strcmp(net_model.nodes[node].op, "version"))
        started = net_model.nodes[node].name;
}

static int try_size(int64_t batch, int64_t seq, const char *version)
{
    static float x[MOST], y[MOST], found[MOST];
    const void *inputs[] = {x};
    void *outputs[] = {y, found};
    int64_t symbols[8] = {batch, seq};
    uint64_t n_bytes = 0;
    int64_t n = 0;
    smelt_hooks hooks = {.struct_size = sizeof hooks, .before_node = note_version};

    for (int64_t i = 0; i < batch * seq * WIDTH; i++) {
        x[i] = (float)(i % 5) - 2;
        n += x[i] > 0;
    }
    EXPECT(net_model.n_symbols <= 8);
    EXPECT(net_model.arena_bytes_for(symbols, &n_bytes) == SMELT_OK);
    unsigned char *arena = malloc((size_t)n_bytes + 1);
    EXPECT(arena != NULL);
    smelt_call call = net_call(inputs, outputs, symbols, arena, n_bytes, &hooks);
    started = NULL;
    if (!strcmp(version, "refused")) {
        EXPECT(net_model.run(&call) == SMELT_BAD_DIM);
        EXPECT(started == NULL);
    } else {
        EXPECT(net_model.run(&call) == SMELT_OK);
        EXPECT(started && !strcmp(started, version));
        for (int64_t i = 0; i < batch * seq * WIDTH; i++)
            EXPECT(y[i] == (x[i] > 0 ? x[i] : 0));
        EXPECT(symbols[net_model.n_symbols - 1] == n);
        call.arena_bytes = n_bytes > 0 ? (size_t)n_bytes - 1 : 0;
        EXPECT(n_bytes == 0 || net_model.run(&call) == SMELT_SHORT_ARENA);
        printf("%llu\n", (unsigned long long)n_bytes);
    }
    free(arena);
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 2 < argc; i += 3)
        if (try_size(atoll(argv[i]), atoll(argv[i + 1]), argv[i + 2]))
            return 1;
    return 0;
}
