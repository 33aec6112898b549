/* The thread pool behind smelt_hooks.parallel_for.
 *
 * A pool of T threads is the caller and T-1 workers. A loop of n tiles is cut into at most T ranges
 * of equal length (the first n % T one longer). Worker i begins with range i, the caller with range
 * 0, so a thread finds in its cache what it left there; each takes pieces off the front of its
 * range, a quarter of what is left, and then off the others' ranges. So a thread that is held up
 * costs the time of one piece, and tiles need not be equally expensive. Which thread does a tile
 * does not change what the tile computes.
 *
 * The caller offers the job to the workers it needs, works, and takes back what nobody has taken
 * yet: it never waits for a thread that is still waking. Each side spins before it sleeps:
 *
 *   caller: offer = OFFERED, then reads `asleep`  |  worker: asleep = 1, then reads `offer`
 *
 * Both are sequentially consistent, so one of them sees the other: no wake-up is lost, and nobody
 * takes a lock or a system call while loops follow each other closely. `busy` marks a running loop:
 * who finds it set (a nested loop, a second host thread, a child after fork) works alone.
 *
 * There are never more of them than processors that the process may use, whatever was asked for:
 * threads that take turns on one would only wait for each other.
 *
 * A scheduler may wake a worker on the caller's processor and leave both there for seconds, since
 * they wait for each other too often to look like two that want to run: then two threads are slower
 * than one. A worker that finds itself there goes to another processor (keep_apart). */
#define _GNU_SOURCE
#include "smelt.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { CACHE_LINE = 64, SPINS_PER_LOOK = 32, MAX_THREADS = 1024 };
enum { SPIN_NANOSECONDS = 300000 }; /* longer than a serial step between two loops mostly takes */
enum { IDLE, OFFERED, TAKEN };      /* what a worker's `word` says */
enum { MOVE_NANOSECONDS = 5000000 }; /* a worker goes to another processor this seldom at most */

/* One who waits for a word to get a value, and may sleep meanwhile. */
typedef struct Waiter {
    _Alignas(CACHE_LINE) atomic_uint word; /* worker: its offer; caller: workers that are done */
    atomic_int asleep;
    pthread_mutex_t lock;
    pthread_cond_t wake;
} Waiter;

/* The tiles next..end-1 that nobody has begun. */
typedef struct Range {
    _Alignas(CACHE_LINE) atomic_int_fast64_t next;
    int64_t end;
} Range;

typedef struct Worker {
    Waiter go;
    pthread_t thread;
    smelt_pool *pool;
    uint32_t index;
    atomic_int processor; /* on which it last was seen; -1: not known */
    int64_t next_move;    /* not before this time */
} Worker;

struct smelt_pool {
    Waiter done;
    smelt_range_fn *fn; /* the job; changed only while no worker has taken it */
    void *ctx;
    uint32_t n_ranges;
    uint32_t n_asked;
    uint32_t n_threads; /* that work: no more than there are processors */
    uint32_t n_started;
    int stop;
    pid_t owner;
    atomic_int busy;
    atomic_int processor; /* of the caller, when its last loop began */
    Worker *workers; /* n_threads - 1 */
    Range *ranges;   /* n_threads */
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
    atomic_init(&w->word, 0);
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

static int64_t nanoseconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- processors ------------------------------------------------------------------------------ */

static int processor_now(void) {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Has a thread of higher rank, which works, been on this processor: the caller, or an earlier
 * worker? */
static int is_taken(const Worker *w, int processor) {
    const smelt_pool *p = w->pool;
    if (atomic_load_explicit(&p->processor, memory_order_relaxed) == processor) return 1;
    for (uint32_t i = 0; i + 1 < w->index; i++)
        if (atomic_load(&p->workers[i].go.word) == TAKEN &&
            atomic_load_explicit(&p->workers[i].processor, memory_order_relaxed) == processor)
            return 1;
    return 0;
}

/* Goes to one of the processors that it may run on and nobody else has. Where it may run is
 * afterwards what it was before. */
static void move_away(const Worker *w) {
#if defined(__linux__)
    cpu_set_t all, free_ones;
    if (sched_getaffinity(0, sizeof all, &all)) return;
    free_ones = all;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && is_taken(w, i)) CPU_CLR(i, &free_ones);
    if (!CPU_COUNT(&free_ones) || sched_setaffinity(0, sizeof free_ones, &free_ones)) return;
    sched_setaffinity(0, sizeof all, &all);
#else
    (void)w;
#endif
}

/* Sees to it that the calling worker has a processor of its own, if there are enough. */
static void keep_apart(Worker *w) {
    int processor = processor_now();
    atomic_store_explicit(&w->processor, processor, memory_order_relaxed);
    if (processor < 0 || !is_taken(w, processor)) return;
    int64_t now = nanoseconds_now();
    if (now < w->next_move) return;
    w->next_move = now + MOVE_NANOSECONDS;
    move_away(w);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Returns when word == value; it becomes that only once before it is reset. worker: who waits, NULL
 * for the caller. */
static void waiter_wait(Waiter *w, unsigned value, Worker *worker) {
    int64_t end = 0;
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (atomic_load(&w->word) == value) return;
            relax();
        }
        if (worker) keep_apart(worker);
        if (!end) end = nanoseconds_now() + SPIN_NANOSECONDS;
    } while (nanoseconds_now() < end);
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->asleep, 1);
    while (atomic_load(&w->word) != value) pthread_cond_wait(&w->wake, &w->lock);
    atomic_store(&w->asleep, 0);
    pthread_mutex_unlock(&w->lock);
}

/* ---- work ------------------------------------------------------------------------------------ */

/* Does pieces of a range until none is left. */
static void run_range(const smelt_pool *p, Range *r) {
    int_fast64_t begin = atomic_load(&r->next);
    while (begin < r->end) {
        int64_t piece = (r->end - begin + 3) / 4;
        if (!atomic_compare_exchange_weak(&r->next, &begin, begin + piece)) continue;
        p->fn(p->ctx, begin, begin + piece);
        begin = atomic_load(&r->next);
    }
}

static void run_ranges(const smelt_pool *p, uint32_t first) {
    for (uint32_t i = 0; i < p->n_ranges; i++) run_range(p, &p->ranges[(first + i) % p->n_ranges]);
}

static void *work(void *arg) {
    Worker *w = arg;
    smelt_pool *p = w->pool;
    for (;;) {
        waiter_wait(&w->go, OFFERED, w);
        if (p->stop) return NULL;
        unsigned offered = OFFERED;
        if (!atomic_compare_exchange_strong(&w->go.word, &offered, TAKEN)) continue;
        keep_apart(w);
        run_ranges(p, w->index);
        atomic_store(&w->go.word, IDLE);
        atomic_fetch_add(&p->done.word, 1);
        waiter_notify(&p->done);
    }
}

/* ---- pools ----------------------------------------------------------------------------------- */

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
    atomic_init(&w->processor, -1);
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
    p->n_asked = n_threads;
    p->n_threads = n_threads = n_threads < n_processors ? n_threads : n_processors;
    p->owner = getpid();
    waiter_init(&p->done);
    atomic_init(&p->processor, -1);
    if (n_threads > 1) {
        p->workers = aligned_zeros(n_threads - 1, sizeof *p->workers);
        p->ranges = aligned_zeros(n_threads, sizeof *p->ranges);
        if (!p->workers || !p->ranges || !start_workers(p)) {
            int status = p->workers && p->ranges ? SMELT_NO_THREADS : SMELT_NO_MEMORY;
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
            atomic_store(&p->workers[i].go.word, OFFERED);
            waiter_notify(&p->workers[i].go);
        }
        for (uint32_t i = 0; i < p->n_started; i++) {
            pthread_join(p->workers[i].thread, NULL);
            waiter_free(&p->workers[i].go);
        }
        waiter_free(&p->done);
    }
    free(p->workers);
    free(p->ranges);
    free(p);
}

uint32_t smelt_pool_threads(const smelt_pool *p) {
    return p ? p->n_asked : 1;
}

static void cut(smelt_pool *p, int64_t n) {
    p->n_ranges = n < p->n_threads ? (uint32_t)n : p->n_threads;
    int64_t each = n / p->n_ranges, longer = n % p->n_ranges, begin = 0;
    for (uint32_t i = 0; i < p->n_ranges; i++) {
        atomic_store(&p->ranges[i].next, begin);
        begin += each + (i < longer);
        p->ranges[i].end = begin;
    }
}

/* Is the worker kept from the job, which has nothing left to do for it? */
static int take_back(Worker *w) {
    unsigned offered = OFFERED;
    return atomic_compare_exchange_strong(&w->go.word, &offered, IDLE);
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
    cut(p, n);
    atomic_store(&p->done.word, 0);
    atomic_store_explicit(&p->processor, processor_now(), memory_order_relaxed);
    for (uint32_t i = 0; i + 1 < p->n_ranges; i++) {
        atomic_store(&p->workers[i].go.word, OFFERED);
        waiter_notify(&p->workers[i].go);
    }
    run_ranges(p, 0);
    unsigned n_taken = 0;
    for (uint32_t i = 0; i + 1 < p->n_ranges; i++) n_taken += !take_back(&p->workers[i]);
    waiter_wait(&p->done, n_taken, NULL);
    atomic_store(&p->busy, 0);
}
