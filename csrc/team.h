/* Threads that share the tasks of loops, and wait for each other without wasting a CPU.
 *
 * A call takes a team, runs loops on it, and gives it back:
 *
 *     lenet5c_team *team = lenet5c_take_team(threads);
 *     lenet5c_run(team, watch, next_loop, job);      // loops, one after the other
 *     lenet5c_share(team, watch, count, task, job);  // or one: task(job, 0), ...
 *     lenet5c_give_back(team);
 *
 * A loop ends when its tasks are done and every thread that was called has come by; the
 * last one begins the next loop. (Threads that do not wait for each other do not stay
 * together: beside other programs one runs while the other has no turn, and both do the
 * work of one.) Who waits spins for a moment, and then sleeps until it is called.
 *
 * A watch, or NULL, can end a call: the thread whose call it is asks it after a task, if
 * some time has gone by, and once it says so no more tasks are begun.
 *
 * The threads are the system's (team_system.h); where it has none a team is NULL: one
 * thread. OpenMP, where the compiler has it, says how many there may be, and does no more.
 */
#ifndef LENET5C_TEAM_H
#define LENET5C_TEAM_H

#include <stdint.h>
#include <stdlib.h>

#include "team_system.h"

enum { LENET5C_MAX_THREADS = 1024 }; /* of a team */

#ifdef _OPENMP
#include <omp.h>

static inline int lenet5c_has_openmp(void) { return 1; }
static inline int lenet5c_max_threads(void) { return omp_get_max_threads(); }
static inline int lenet5c_in_parallel(void) { return omp_in_parallel(); }
#else
static inline int lenet5c_has_openmp(void) { return 0; }
static inline int lenet5c_max_threads(void)
{
    return LENET5C_HAS_THREADS ? LENET5C_MAX_THREADS : 1;
}
static inline int lenet5c_in_parallel(void) { return 0; }
#endif

/* Whose threads they are. */
static inline const char *lenet5c_system(void) { return LENET5C_SYSTEM; }

#ifndef LENET5C_ASK
enum { LENET5C_ASK = 30000000 }; /* nanoseconds between two questions to a watch */
#endif

typedef struct lenet5c_team lenet5c_team;
typedef void (*lenet5c_task)(const void *job, int number);

/* Makes the next loop ready: the task, and how many there are; -1 after the last loop. */
typedef int (*lenet5c_next_loop)(void *job, lenet5c_task *task);

typedef struct {
    int (*ends)(void); /* whether to end; asked by the thread whose call it is */
    int64_t asked;     /* when it was */
    uint32_t over;     /* it has said so, and nothing that was computed is whole */
    int lost;          /* so is a call in a child of fork that has lost its workers */
} lenet5c_watch;

static inline lenet5c_watch lenet5c_new_watch(int (*ends)(void))
{
    const lenet5c_watch watch = {ends, 0, 0, 0};
    return watch;
}

static inline int lenet5c_is_over(const lenet5c_watch *watch) { return (int)watch->over; }
static inline int lenet5c_is_lost(const lenet5c_watch *watch) { return watch->lost; }

static inline void lenet5c_begin_watch(lenet5c_watch *watch)
{
    if (watch) watch->asked = lenet5c_about_now();
}

/* Whether the call ends here. `number` is that of this thread. */
static inline int lenet5c_ends(lenet5c_watch *watch, int number)
{
    if (watch == NULL) return 0;
    if (number == 0 && !watch->over) {
        const int64_t now = lenet5c_about_now();
        if (now - watch->asked >= LENET5C_ASK) {
            watch->asked = now;
            if (watch->ends()) __atomic_store_n(&watch->over, 1, __ATOMIC_RELAXED);
        }
    }
    return (int)__atomic_load_n(&watch->over, __ATOMIC_RELAXED);
}

static inline void lenet5c_share_alone(
    lenet5c_watch *watch, int count, lenet5c_task task, const void *job)
{
    for (int i = 0; i < count && !lenet5c_ends(watch, 0); i++) task(job, i);
}

static inline void lenet5c_run_alone(
    lenet5c_watch *watch, lenet5c_next_loop next_loop, void *job)
{
    lenet5c_task task;
    int count;
    while (!lenet5c_ends(watch, 0) && (count = next_loop(job, &task)) >= 0)
        lenet5c_share_alone(watch, count, task, job);
}

#if LENET5C_HAS_THREADS

enum {
#ifndef LENET5C_SPIN
    LENET5C_SPIN = 50000, /* nanoseconds to look for work before sleep, at most */
#endif
    LENET5C_LOOKS = 16, /* how often to look between two glances at the clock */
};

static inline void lenet5c_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Looks until a time whether the word is no longer 0, and returns it. */
static inline uint32_t lenet5c_spin(const uint32_t *word, int64_t end)
{
    uint32_t found;
    do {
        for (int i = 0; i < LENET5C_LOOKS; i++) {
            found = __atomic_load_n(word, __ATOMIC_ACQUIRE);
            if (found) return found;
            lenet5c_pause();
        }
    } while (lenet5c_now() < end);
    return 0;
}

/* ---- the team ---- */

enum { LENET5C_IDLE, LENET5C_ASLEEP, LENET5C_CALLED, LENET5C_OVER };

typedef struct {
    uint32_t state; /* one of the above */
    int number;     /* 0 is the thread whose call it is, the others are workers */
    lenet5c_team *team;
    int64_t patience; /* nanoseconds that it spins before it sleeps */
} lenet5c_member;

/* `open` is 2^32 * threads + tasks that nobody has taken: a thread takes one by decreasing
 * it. What describes the loop is read after that, and stays as it is until all have left.
 */
struct lenet5c_team {
    uint64_t open __attribute__((aligned(LENET5C_LINE)));
    uint32_t undone
        __attribute__((aligned(LENET5C_LINE))); /* tasks, and members who have not left */
    lenet5c_task task __attribute__((aligned(LENET5C_LINE)));
    int count; /* of the loop's tasks */
    lenet5c_next_loop next_loop;
    void *job;
    lenet5c_watch *watch;
    int threads,
        workers;        /* who may take tasks in this call; who is there beside number 0 */
    lenet5c_team *next; /* of those that no call is using */
    uint32_t forks;     /* when the workers were there */
    lenet5c_member *member[LENET5C_MAX_THREADS];
};

static __thread int lenet5c_number;
static lenet5c_team *lenet5c_idle; /* teams that no call is using */
static uint32_t lenet5c_forks;     /* that led to this process, since there were teams */

/* The number of this thread in its team, 0 for the one that calls. */
static inline int lenet5c_thread(void) { return lenet5c_number; }

static inline void lenet5c_tell(lenet5c_member *member, uint32_t state)
{
    const uint32_t before = __atomic_exchange_n(&member->state, state, __ATOMIC_ACQ_REL);
    if (before == LENET5C_ASLEEP) lenet5c_wake(&member->state);
}

/* Waits until this thread is told something, and returns what. After a long wait, as beside
 * other programs, it does not spin the next time, and then by and by again. */
static inline uint32_t lenet5c_listen(lenet5c_member *self)
{
    const int64_t start = lenet5c_now();
    int64_t patience = self->patience + LENET5C_SPIN / 8;
    uint32_t state = lenet5c_spin(&self->state, start + self->patience);
    if (state == LENET5C_IDLE) {
        __atomic_compare_exchange_n(
            &self->state, &state, LENET5C_ASLEEP, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
        while ((state = __atomic_load_n(&self->state, __ATOMIC_ACQUIRE)) == LENET5C_ASLEEP)
            lenet5c_sleep(&self->state, LENET5C_ASLEEP);
        if (lenet5c_now() - start > 2 * LENET5C_SPIN) patience = 0;
    }
    self->patience = patience < LENET5C_SPIN ? patience : LENET5C_SPIN;
    __atomic_store_n(&self->state, LENET5C_IDLE, __ATOMIC_RELAXED);
    return state;
}

/* Opens a loop, and calls as many others as there is something to do for. */
static inline void lenet5c_open_loop(lenet5c_team *team, int number)
{
    const int count = team->count, threads = team->threads;
    const int members = count < threads ? count : threads;
    __atomic_store_n(&team->undone, (uint32_t)count + (uint32_t)members, __ATOMIC_RELAXED);
    __atomic_store_n(
        &team->open, (uint64_t)threads << 32 | (uint32_t)count, __ATOMIC_RELEASE);
    for (int i = 0, here = 1; here < members; i++) {
        if (i == number) continue;
        lenet5c_tell(team->member[i], LENET5C_CALLED);
        here++;
    }
}

/* Opens the next loop that has tasks; 0 if there is none. */
static inline int lenet5c_go_on(lenet5c_team *team, int number)
{
    int count = -1;
    if (team->next_loop && !lenet5c_ends(team->watch, number)) do
            count = team->next_loop(team->job, &team->task);
        while (count == 0);
    if (count < 0) return 0;
    team->count = count;
    lenet5c_open_loop(team, number);
    return 1;
}

static inline int lenet5c_take(lenet5c_team *team, int number, int *task)
{
    uint64_t open = __atomic_load_n(&team->open, __ATOMIC_RELAXED);
    do {
        if ((uint32_t)open == 0 || (uint32_t)number >= open >> 32) return 0;
    } while (!__atomic_compare_exchange_n(
        &team->open, &open, open - 1, 1, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    *task = team->count - (int)(uint32_t)open;
    return 1;
}

/* What a member does in a loop: it takes tasks until there are none, and leaves. The last
 * one to leave begins the next loop; 1 if there is none. */
static inline int lenet5c_work(lenet5c_team *team, int number)
{
    uint32_t done;
    int task;
    do {
        for (done = 0; lenet5c_take(team, number, &task); done++)
            if (!lenet5c_ends(team->watch, number)) team->task(team->job, task);
        if (__atomic_sub_fetch(&team->undone, done + 1, __ATOMIC_ACQ_REL)) return 0;
    } while (lenet5c_go_on(team, number));
    return 1;
}

static void lenet5c_worker_main(void *worker)
{
    lenet5c_member *const self = worker;
    lenet5c_number = self->number;
    for (;;) {
        lenet5c_listen(self);
        if (lenet5c_work(self->team, self->number))
            lenet5c_tell(self->team->member[0], LENET5C_OVER);
    }
}

/* Whether a signal's handler, which the watch has let run, has forked, and this is the
 * child: its workers are gone, with the tasks that they had begun. */
static inline int lenet5c_lose(const lenet5c_team *team)
{
    const int lost = team->forks != lenet5c_forks;
    if (lost && team->watch) team->watch->lost = team->watch->over = 1;
    return lost;
}

static inline void lenet5c_work_until_over(lenet5c_team *team)
{
    int over = lenet5c_work(team, 0);
    while (!over && !lenet5c_lose(team))
        over = lenet5c_listen(team->member[0]) == LENET5C_OVER || lenet5c_work(team, 0);
}

/* All loops that next_loop(job, &task) makes ready, on all threads of the team. */
static inline void lenet5c_run(
    lenet5c_team *team, lenet5c_watch *watch, lenet5c_next_loop next_loop, void *job)
{
    lenet5c_begin_watch(watch);
    if (team == NULL) {
        lenet5c_run_alone(watch, next_loop, job);
        return;
    }
    team->watch = watch;
    team->next_loop = next_loop;
    team->job = job;
    if (lenet5c_go_on(team, 0)) lenet5c_work_until_over(team);
}

/* task(job, i) for each i below `count`, on all threads of the team. */
static inline void lenet5c_share(
    lenet5c_team *team, lenet5c_watch *watch, int count, lenet5c_task task, const void *job)
{
    lenet5c_begin_watch(watch);
    if (team == NULL || count < 2) {
        lenet5c_share_alone(watch, count, task, job);
        return;
    }
    team->watch = watch;
    team->next_loop = NULL;
    team->job = (void *)job;
    team->task = task;
    team->count = count;
    lenet5c_open_loop(team, 0);
    lenet5c_work_until_over(team);
}

/* ---- teams come and go ---- */

/* A child of fork has none of its parent's threads: it starts its own. */
static void lenet5c_forget_teams(void)
{
    lenet5c_idle = NULL;
    lenet5c_forks++;
}

static lenet5c_member *lenet5c_new_member(lenet5c_team *team, int number)
{
    lenet5c_member *const member = lenet5c_new_lines(LENET5C_LINE);
    if (member == NULL) return NULL;
    member->state = LENET5C_IDLE;
    member->patience = LENET5C_SPIN;
    member->number = number;
    member->team = team;
    return team->member[number] = member;
}

/* One more worker: 0 if there is none. */
static int lenet5c_hire(lenet5c_team *team)
{
    lenet5c_member *const worker = lenet5c_new_member(team, team->workers + 1);
    if (worker == NULL) return 0;
    if (!lenet5c_start_worker(worker)) {
        lenet5c_free_lines(worker);
        return 0;
    }
    team->workers++;
    return 1;
}

static lenet5c_team *lenet5c_new_team(void)
{
    lenet5c_be_fork_safe();
    lenet5c_team *const team = lenet5c_new_lines(sizeof *team);
    if (team == NULL) return NULL;
    team->open = 0;
    team->workers = 0;
    team->forks = lenet5c_forks;
    if (lenet5c_new_member(team, 0) == NULL) {
        lenet5c_free_lines(team);
        return NULL;
    }
    return team;
}

/* A team of up to so many threads with the one that calls; NULL is that one alone. */
static lenet5c_team *lenet5c_take_team(int threads)
{
    lenet5c_team *team;
    if (threads < 2 || lenet5c_in_parallel()) return NULL;
    lenet5c_lock();
    team = lenet5c_idle;
    if (team) lenet5c_idle = team->next;
    lenet5c_unlock();
    if (team == NULL && (team = lenet5c_new_team()) == NULL) return NULL;
    if (threads > LENET5C_MAX_THREADS) threads = LENET5C_MAX_THREADS;
    while (team->workers < threads - 1 && lenet5c_hire(team));
    team->threads = team->workers < threads ? team->workers + 1 : threads;
    return team;
}

static void lenet5c_give_back(lenet5c_team *team)
{
    if (team == NULL || team->forks != lenet5c_forks) return;
    lenet5c_lock();
    team->next = lenet5c_idle;
    lenet5c_idle = team;
    lenet5c_unlock();
}

#else
static inline int lenet5c_thread(void) { return 0; }
static inline lenet5c_team *lenet5c_take_team(int threads)
{
    (void)threads;
    return NULL;
}
static inline void lenet5c_run(
    lenet5c_team *team, lenet5c_watch *watch, lenet5c_next_loop next_loop, void *job)
{
    (void)team;
    lenet5c_begin_watch(watch);
    lenet5c_run_alone(watch, next_loop, job);
}
static inline void lenet5c_share(
    lenet5c_team *team, lenet5c_watch *watch, int count, lenet5c_task task, const void *job)
{
    (void)team;
    lenet5c_begin_watch(watch);
    lenet5c_share_alone(watch, count, task, job);
}
static inline void lenet5c_give_back(lenet5c_team *team) { (void)team; }
#endif

#endif
