/* Guards the thread pool: every index once for any n and any number of threads, no waiting for a
 * thread that is held up, nested and concurrent loops, sleeping workers, threads that share a
 * processor without need, and a child after fork. Run it under TSan too. */
#define _GNU_SOURCE
#include "check.h"
#include "smelt.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_N = 1000 };

typedef struct {
    int hits[MAX_N]; /* not atomic: each index belongs to one range */
    atomic_int n_ranges;
    smelt_pool *inner;
} Job;

static void mark(void *ctx, int64_t begin, int64_t end) {
    Job *job = ctx;
    atomic_fetch_add(&job->n_ranges, 1);
    for (int64_t i = begin; i < end; i++) job->hits[i]++;
}

static int is_once(const Job *job, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (job->hits[i] != 1) return 0;
    return 1;
}

static void check_cover(uint32_t n_threads) {
    static const int64_t sizes[] = {-5, 0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 65, MAX_N};
    smelt_pool *pool;
    if (!CHECK(smelt_pool_create(n_threads, &pool) == SMELT_OK)) return;
    CHECK(smelt_pool_threads(pool) == n_threads);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        static Job a;
        for (int round = 0; round < 20; round++) {
            memset(&a, 0, sizeof a);
            smelt_pool_parallel_for(pool, mark, &a, n);
            CHECK(is_once(&a, n));
            CHECK(n > 0 ? a.n_ranges >= 1 && a.n_ranges <= n : a.n_ranges == 0);
            CHECK(n_threads > 1 || n <= 0 || a.n_ranges == 1);
        }
    }
    smelt_pool_destroy(pool);
}

typedef struct {
    atomic_int n_done, n_done_at_end_of_first;
} Held;

/* Tile 0 ends when all others are done, or after two seconds. */
static void hold_first(void *ctx, int64_t begin, int64_t end) {
    Held *h = ctx;
    for (int64_t i = begin; i < end; i++) {
        for (int ms = 0; i == 0 && ms < 2000 && atomic_load(&h->n_done) < 56; ms++)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        if (i == 0) h->n_done_at_end_of_first = atomic_load(&h->n_done);
        atomic_fetch_add(&h->n_done, 1);
    }
}

static int n_processors(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Of 64 tiles all but those of the first piece (8 of the caller's 32) are done by the other
 * thread. */
static void check_held_up(void) {
    smelt_pool *pool;
    if (n_processors() < 2) return;
    if (!CHECK(smelt_pool_create(2, &pool) == SMELT_OK)) return;
    for (int round = 0; round < 2; round++) {
        Held h = {0};
        smelt_pool_parallel_for(pool, hold_first, &h, 64);
        CHECK(h.n_done == 64 && h.n_done_at_end_of_first >= 64 - 8);
    }
    smelt_pool_destroy(pool);
}

static void add_nested(void *ctx, int64_t begin, int64_t end) {
    Job *jobs = ctx;
    for (int64_t i = begin; i < end; i++)
        smelt_pool_parallel_for(jobs[i].inner, mark, &jobs[i], 50);
}

static void check_nested(void) {
    static Job jobs[9];
    smelt_pool *pool;
    if (!CHECK(smelt_pool_create(3, &pool) == SMELT_OK)) return;
    for (int i = 0; i < 9; i++) jobs[i].inner = pool;
    smelt_pool_parallel_for(pool, add_nested, jobs, 9);
    for (int i = 0; i < 9; i++) CHECK(is_once(&jobs[i], 50) && jobs[i].n_ranges == 1);
    smelt_pool_destroy(pool);
}

static void *many_loops(void *ctx) {
    smelt_pool *pool = ctx;
    long bad = 0;
    for (int round = 0; round < 2000; round++) {
        Job job;
        memset(&job, 0, sizeof job);
        smelt_pool_parallel_for(pool, mark, &job, 1 + round % 20);
        bad += !is_once(&job, 1 + round % 20);
    }
    return (void *)bad;
}

static void check_shared_by_threads(void) {
    smelt_pool *pool;
    pthread_t threads[4];
    if (!CHECK(smelt_pool_create(2, &pool) == SMELT_OK)) return;
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, many_loops, pool) == 0);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
    smelt_pool_destroy(pool);
}

static void check_sleep(void) {
    smelt_pool *pool;
    if (!CHECK(smelt_pool_create(2, &pool) == SMELT_OK)) return;
    for (int i = 0; i < 20; i++) {
        Job job;
        memset(&job, 0, sizeof job);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        smelt_pool_parallel_for(pool, mark, &job, MAX_N);
        CHECK(is_once(&job, MAX_N));
    }
    smelt_pool_destroy(pool);
}

#if defined(__linux__)
typedef struct Apart {
    pthread_t caller;
    int home; /* the caller's processor */
    cpu_set_t all;
    int has_landed, is_apart, is_changed; /* written by the worker alone */
} Apart;

/* The worker puts itself on the caller's processor, and later looks where it is. */
static void land(void *ctx, int64_t begin, int64_t end) {
    Apart *a = ctx;
    cpu_set_t now;
    nanosleep(&(struct timespec){.tv_nsec = 20000 * (end - begin)}, NULL);
    if (pthread_equal(pthread_self(), a->caller)) return;
    if (!a->has_landed) {
        CPU_ZERO(&now);
        CPU_SET(a->home, &now);
        a->has_landed = sched_setaffinity(0, sizeof now, &now) == 0;
        sched_setaffinity(0, sizeof a->all, &a->all);
        return;
    }
    a->is_apart |= sched_getcpu() != a->home;
    a->is_changed |= sched_getaffinity(0, sizeof now, &now) || !CPU_EQUAL(&now, &a->all);
}

static void check_apart(void) {
    static Apart a;
    smelt_pool *pool;
    cpu_set_t home;
    if (n_processors() < 2 || sched_getaffinity(0, sizeof a.all, &a.all)) return;
    if (!CHECK(smelt_pool_create(2, &pool) == SMELT_OK)) return;
    a.caller = pthread_self();
    a.home = sched_getcpu();
    CPU_ZERO(&home);
    CPU_SET(a.home, &home);
    CHECK(sched_setaffinity(0, sizeof home, &home) == 0);
    for (int i = 0; i < 20000 && !a.is_apart; i++) smelt_pool_parallel_for(pool, land, &a, 16);
    CHECK(sched_setaffinity(0, sizeof a.all, &a.all) == 0);
    CHECK(a.is_apart && !a.is_changed);
    smelt_pool_destroy(pool);
}

/* A pool that may use one processor never divides a loop. */
static void check_one_processor(void) {
    smelt_pool *pool;
    cpu_set_t all, home;
    if (sched_getaffinity(0, sizeof all, &all)) return;
    CPU_ZERO(&home);
    CPU_SET(sched_getcpu(), &home);
    CHECK(sched_setaffinity(0, sizeof home, &home) == 0);
    if (CHECK(smelt_pool_create(4, &pool) == SMELT_OK)) {
        static Job job;
        smelt_pool_parallel_for(pool, mark, &job, MAX_N);
        CHECK(is_once(&job, MAX_N) && job.n_ranges == 1 && smelt_pool_threads(pool) == 4);
        smelt_pool_destroy(pool);
    }
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
}
#else
static void check_apart(void) {
}

static void check_one_processor(void) {
}
#endif

static void check_fork(void) {
    smelt_pool *pool;
    if (!CHECK(smelt_pool_create(2, &pool) == SMELT_OK)) return;
    pid_t child = fork();
    if (child == 0) {
        static Job job;
        smelt_pool_parallel_for(pool, mark, &job, MAX_N);
        smelt_pool_destroy(pool);
        _exit(is_once(&job, MAX_N) && job.n_ranges == 1 ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    smelt_pool_destroy(pool);
}

int main(void) {
    static const uint32_t counts[] = {1, 2, 3, 8, 33};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) check_cover(counts[i]);
    check_held_up();
    check_nested();
    check_shared_by_threads();
    check_sleep();
    check_apart();
    check_one_processor();
    check_fork();
    smelt_pool *pool = NULL;
    CHECK(smelt_pool_create(0, &pool) == SMELT_OK && smelt_pool_threads(pool) >= 1);
    smelt_pool_destroy(pool);
    CHECK(smelt_pool_create(100000, &pool) == SMELT_BAD_CALL && pool == NULL);
    CHECK(smelt_pool_create(1, NULL) == SMELT_BAD_CALL);
    smelt_pool_destroy(NULL);
    static Job job;
    smelt_pool_parallel_for(NULL, mark, &job, 10);
    CHECK(is_once(&job, 10));
    return check_done();
}
