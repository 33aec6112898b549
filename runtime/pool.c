/* The thread pool behind smelt_hooks.parallel_for.
 *
 * A pool of T threads is the caller and T-1 workers. A loop of n tiles is cut into at most T ranges
 * of equal length (the first n % T one longer); worker i always gets range i, the caller range 0,
 * so which thread does what never depends on timing. The caller publishes the job, then raises the
 * ticket of each worker it needs; the others are not touched. Each side spins before it sleeps:
 *
 *   caller: ticket = k, then reads `asleep`  |  worker: asleep = 1, then reads `ticket`
 *
 * Both are sequentially consistent, so one of them sees the other: no wake-up is lost, and nobody
 * takes a lock or a system call while loops follow each other closely. `busy` marks a running loop:
 * who finds it set (a nested loop, a second host thread, a child after fork) works alone. */
#define _GNU_SOURCE
#include "smelt.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { CACHE_LINE = 64, SPINS = 1000, MAX_THREADS = 1024 };

/* One who waits for a number to change, and may sleep meanwhile. */
typedef struct Waiter {
    _Alignas(CACHE_LINE) atomic_uint ticket; /* worker: last job; caller: workers that are done */
    atomic_int asleep;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} Waiter;

typedef struct Worker {
    Waiter go;
    pthread_t thread;
    smelt_pool *pool;
    uint32_t index;
} Worker;

struct smelt_pool {
    Waiter done;
    smelt_range_fn *fn; /* the job; changed only while no worker has an unfinished ticket */
    void *ctx;
    int64_t n;
    uint32_t n_ranges;
    uint32_t n_threads;
    uint32_t n_started;
    int spins;
    int stop;
    pid_t owner;
    atomic_int busy;
    Worker *workers; /* n_threads - 1 */
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void waiter_init(Waiter *w) {
    atomic_init(&w->ticket, 0);
    atomic_init(&w->asleep, 0);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
}

static void waiter_free(Waiter *w) {
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
}

static void waiter_notify(Waiter *w) {
    if (!atomic_load(&w->asleep)) return;
    pthread_mutex_lock(&w->lock);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

/* Returns when (ticket == value) == wanted. */
static void waiter_wait(Waiter *w, unsigned value, int wanted, int spins) {
    for (int i = 0; i < spins; i++) {
        if ((atomic_load(&w->ticket) == value) == wanted) return;
        relax();
    }
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->asleep, 1);
    while ((atomic_load(&w->ticket) == value) != wanted) pthread_cond_wait(&w->wake, &w->lock);
    atomic_store(&w->asleep, 0);
    pthread_mutex_unlock(&w->lock);
}

static void run_range(const smelt_pool *p, uint32_t index) {
    int64_t each = p->n / p->n_ranges, longer = p->n % p->n_ranges;
    int64_t begin = index * each + (index < longer ? index : longer);
    p->fn(p->ctx, begin, begin + each + (index < longer));
}

static void *work(void *arg) {
    Worker *w = arg;
    smelt_pool *p = w->pool;
    for (unsigned seen = 0;; seen++) {
        waiter_wait(&w->go, seen, 0, p->spins);
        if (p->stop) return NULL;
        run_range(p, w->index);
        atomic_fetch_add(&p->done.ticket, 1);
        waiter_notify(&p->done);
    }
}

static uint32_t usable_processors(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n <= MAX_THREADS ? (uint32_t)n : 1;
}

static int start_worker(smelt_pool *p, uint32_t i) {
    Worker *w = &p->workers[i];
    w->pool = p;
    w->index = i + 1;
    waiter_init(&w->go);
    if (pthread_create(&w->thread, NULL, work, w) == 0) return 1;
    waiter_free(&w->go);
    return 0;
}

/* Starts the workers with all signals blocked: those are the host's threads' business. */
static int start_workers(smelt_pool *p) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (p->n_started < p->n_threads - 1 && start_worker(p, p->n_started)) p->n_started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return p->n_started == p->n_threads - 1;
}

static void *aligned_zeros(size_t n, size_t item_bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, CACHE_LINE, n * item_bytes) != 0) return NULL;
    for (size_t i = 0; i < n * item_bytes; i++) ((char *)memory)[i] = 0;
    return memory;
}

int smelt_pool_create(uint32_t n_threads, smelt_pool **pool) {
    if (!pool) return SMELT_BAD_CALL;
    *pool = NULL;
    uint32_t n_processors = usable_processors();
    if (n_threads == 0) n_threads = n_processors;
    if (n_threads > MAX_THREADS) return SMELT_BAD_CALL;
    smelt_pool *p = aligned_zeros(1, sizeof *p);
    if (!p) return SMELT_NO_MEMORY;
    p->n_threads = n_threads;
    p->spins = n_threads <= n_processors ? SPINS : 0; /* spinning would only delay the others */
    p->owner = getpid();
    waiter_init(&p->done);
    if (n_threads > 1) {
        p->workers = aligned_zeros(n_threads - 1, sizeof *p->workers);
        if (!p->workers || !start_workers(p)) {
            int status = p->workers ? SMELT_NO_THREADS : SMELT_NO_MEMORY;
            smelt_pool_destroy(p);
            return status;
        }
    }
    *pool = p;
    return SMELT_OK;
}

void smelt_pool_destroy(smelt_pool *p) {
    if (!p) return;
    if (p->owner == getpid()) { /* a forked child has the memory but not the threads */
        p->stop = 1;
        for (uint32_t i = 0; i < p->n_started; i++) {
            atomic_fetch_add(&p->workers[i].go.ticket, 1);
            waiter_notify(&p->workers[i].go);
        }
        for (uint32_t i = 0; i < p->n_started; i++) {
            pthread_join(p->workers[i].thread, NULL);
            waiter_free(&p->workers[i].go);
        }
        waiter_free(&p->done);
    }
    free(p->workers);
    free(p);
}

uint32_t smelt_pool_threads(const smelt_pool *p) {
    return p ? p->n_threads : 1;
}

void smelt_pool_parallel_for(void *pool, smelt_range_fn *fn, void *ctx, int64_t n) {
    smelt_pool *p = pool;
    if (n <= 0) return;
    int idle = 0;
    if (!p || p->n_threads == 1 || n == 1 || p->owner != getpid() ||
        !atomic_compare_exchange_strong(&p->busy, &idle, 1)) {
        fn(ctx, 0, n);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->n = n;
    p->n_ranges = n < p->n_threads ? (uint32_t)n : p->n_threads;
    atomic_store(&p->done.ticket, 0);
    for (uint32_t i = 0; i + 1 < p->n_ranges; i++) {
        atomic_fetch_add(&p->workers[i].go.ticket, 1);
        waiter_notify(&p->workers[i].go);
    }
    run_range(p, 0);
    waiter_wait(&p->done, p->n_ranges - 1, 1, p->spins);
    atomic_store(&p->busy, 0);
}
