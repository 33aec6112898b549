/* The hooks of a call: any pool of threads gives the bits that one thread gives; nodes are told in
 * order, each before it is told after; a cancelled run stops before the node at which it was asked.
 */
#include "generic.h"

typedef struct Log {
    uint32_t n_before, n_after, n_asked, stop_at;
    int wrong;
} Log;

static void before(void *user, uint32_t node)
{
    Log *log = user;

    if (node != log->n_before || log->n_before != log->n_after)
        log->wrong = 1;
    log->n_before++;
}

static void after(void *user, uint32_t node)
{
    Log *log = user;

    if (node != log->n_after || log->n_before != log->n_after + 1)
        log->wrong = 1;
    log->n_after++;
}

static int cancel(void *user)
{
    Log *log = user;

    return log->n_asked++ == log->stop_at;
}

/* A pool that does one index at a time, the last one first. */
static void backwards(void *pool, smelt_range_fn *fn, void *ctx, int64_t n)
{
    *(int64_t *)pool += n;
    while (n-- > 0)
        fn(ctx, n, n + 1);
}

static int pools(const Call *alone)
{
    static const uint32_t n_threads[] = {1, 2, 7};
    int64_t n_indices = 0;
    smelt_hooks odd = {.struct_size = sizeof odd, .pool = &n_indices, .parallel_for = backwards};
    Call c;

    open_call(&c, &odd);
    EXPECT(MODEL.run(&c.call) == SMELT_OK && same_outputs(alone, &c));
#ifdef IS_PARALLEL
    EXPECT(n_indices > 0);
#endif
    for (int i = 0; i < 3; i++) {
        smelt_pool *pool;
        smelt_hooks hooks = {.struct_size = sizeof hooks, .parallel_for = smelt_pool_parallel_for};

        EXPECT(smelt_pool_create(n_threads[i], &pool) == SMELT_OK);
        hooks.pool = pool;
        open_call(&c, &hooks);
        EXPECT(MODEL.run(&c.call) == SMELT_OK && same_outputs(alone, &c));
        EXPECT(MODEL.run(&c.call) == SMELT_OK && same_outputs(alone, &c));
        smelt_pool_destroy(pool);
    }
    return 0;
}

static int nodes(const Call *alone)
{
    Log log = {.stop_at = UINT32_MAX};
    smelt_hooks hooks = {
        .struct_size = sizeof hooks, .user = &log, .before_node = before, .after_node = after};
    uint64_t macs = 0;
    Call c;

    open_call(&c, &hooks);
    EXPECT(MODEL.n_nodes > 0);
    EXPECT(MODEL.run(&c.call) == SMELT_OK && same_outputs(alone, &c));
    EXPECT(!log.wrong && log.n_before == MODEL.n_nodes && log.n_after == MODEL.n_nodes &&
           log.n_asked == 0);
    hooks.cancel = cancel;
    for (uint32_t stop = 0; stop <= MODEL.n_nodes; stop++) {
        log = (Log){.stop_at = stop};
        EXPECT(MODEL.run(&c.call) == (stop < MODEL.n_nodes ? SMELT_CANCELLED : SMELT_OK));
        EXPECT(!log.wrong && log.n_before == stop && log.n_after == stop);
    }
    for (uint32_t i = 0; i < MODEL.n_nodes; i++) {
        EXPECT(MODEL.nodes[i].name[0] && MODEL.nodes[i].op[0]);
        macs += MODEL.nodes[i].macs;
    }
    EXPECT(macs >= MIN_MACS && macs <= MIN_MACS * 3 / 2);
    hooks.struct_size = sizeof hooks - 1;
    EXPECT(MODEL.run(&c.call) == SMELT_BAD_CALL);
    return 0;
}

int main(void)
{
    Call alone;

    open_call(&alone, NULL);
    EXPECT(MODEL.run(&alone.call) == SMELT_OK);
    return pools(&alone) || nodes(&alone);
}
