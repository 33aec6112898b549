/* Expressions made by several threads at once, as the renderer's threads do while they look into
 * indices: each is still one node, with an id of its own. */
#include <pthread.h>

#include "ir/kernel.h"
#include "tests/unit/check.h"

enum { N_THREADS = 4, N_EXPRS = 40000 };

typedef struct Maker {
    KCtx *k;
    const KExpr *x, *made[N_EXPRS];
} Maker;

static void *make_all(void *arg) {
    Maker *m = arg;
    for (int i = 0; i < N_EXPRS; i++)
        m->made[i] = k_add(m->k, k_mul(m->k, m->x, k_int(m->k, i % 1000 + 2)), k_int(m->k, i));
    return NULL;
}

static Maker maker[N_THREADS];

int main(void) {
    Arena *a = arena_create();
    KCtx *k = kctx_create(a);
    KVar *v = kvar_new(k, KV_LOOP, DT_I64, "x", 0, 9);
    pthread_t thread[N_THREADS];
    kctx_share(k);
    for (int i = 0; i < N_THREADS; i++) {
        maker[i].k = k;
        maker[i].x = k_var(k, v);
        CHECK(!pthread_create(&thread[i], NULL, make_all, &maker[i]));
    }
    for (int i = 0; i < N_THREADS; i++) pthread_join(thread[i], NULL);
    int n_other = 0, n_twice = 0;
    for (int i = 0; i < N_EXPRS; i++) {
        for (int t = 1; t < N_THREADS; t++) n_other += maker[t].made[i] != maker[0].made[i];
        n_twice += i && maker[0].made[i]->id == maker[0].made[i - 1]->id;
    }
    CHECK(n_other == 0);
    CHECK(n_twice == 0);
    arena_destroy(a);
    return check_done();
}
