/* Many loops of few and short tasks on more threads than there are CPUs, by several callers
 * at once and in children of fork: each task is done once, and seen when its loop ends.
 *
 *     cc -O1 -pthread -Icsrc tests/core/threads.c -o threads
 *     ./threads [loops [children]]
 *
 * Under gcc's ThreadSanitizer, -fsanitize=thread, there can be no children. For Windows:
 *
 *     x86_64-w64-mingw32-gcc -O1 -pthread -static -Icsrc tests/core/threads.c \
 *         -o threads.exe -lsynchronization
 */
#include "team.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifndef _WIN32
#include <sys/wait.h>
#endif

enum { CALLERS = 4, TASKS = 40 };

typedef struct {
    unsigned random;
    int loops, failed, threads;
    int done[TASKS]; /* how often each task of a loop was */
} caller;

static void count_task(const void *of, int number)
{
    caller *self = (caller *)of;
    if (lenet5c_thread() < 0 || lenet5c_thread() >= self->threads) self->failed = 1;
    for (int i = 0; i < number % 7 * 50; i++) lenet5c_pause();
    self->done[number]++;
}

static __thread int asked;

/* A watch that ends its call when it is asked the third time. */
static int ends(void) { return ++asked == 3; }

static unsigned next_random(caller *self)
{
    self->random = self->random * 1664525u + 1013904223u;
    return self->random >> 16;
}

/* Loops of one call, each of which reads what the others wrote in the last: `turn` of them
 * are over. */
typedef struct {
    int turn;
    unsigned value[2][TASKS];
} chain;

/* The next loop has all its tasks, fewer or, in between, none. */
static int tasks_of(int turn) { return turn % 5 == 4 ? 0 : TASKS - turn % 3; }

static void mix(const void *of, int number)
{
    chain *self = (chain *)of;
    const unsigned *from = self->value[self->turn % 2];
    unsigned *to = self->value[1 - self->turn % 2];
    to[number] = from[number] * 31 + from[(number + 7) % TASKS] + (unsigned)self->turn;
}

static int next_mix(void *of, lenet5c_task *task)
{
    chain *self = of;
    if (self->turn == 30) return -1;
    *task = mix;
    return tasks_of(++self->turn);
}

static int chain_fails(int threads)
{
    chain alone = {0}, shared = {0};
    lenet5c_task task;
    while (next_mix(&alone, &task) >= 0)
        for (int i = 0; i < tasks_of(alone.turn); i++) task(&alone, i);
    lenet5c_team *team = lenet5c_take_team(threads);
    lenet5c_run(team, NULL, next_mix, &shared);
    lenet5c_give_back(team);
    return memcmp(&alone, &shared, sizeof alone) != 0;
}

static void *run_loops(void *of)
{
    caller *self = of;
    for (int loop = 0; loop < self->loops;) {
        self->threads = 1 + (int)next_random(self) % 7;
        lenet5c_team *team = lenet5c_take_team(self->threads);
        for (int n = (int)next_random(self) % 9; n >= 0; n--, loop++) {
            const int tasks = (int)next_random(self) % TASKS;
            for (int i = 0; i < TASKS; i++) self->done[i] = 0;
            lenet5c_share(team, NULL, tasks, count_task, self);
            for (int i = 0; i < TASKS; i++) self->failed |= self->done[i] != (i < tasks);
            lenet5c_watch watch = lenet5c_new_watch(ends);
            asked = 0;
            for (int i = 0; i < TASKS; i++) self->done[i] = 0;
            lenet5c_share(team, &watch, TASKS, count_task, self);
            int done = 0;
            for (int i = 0; i < TASKS; i++) {
                self->failed |= self->done[i] > 1;
                done += self->done[i];
            }
            /* the others may have done all before the caller asked so often */
            self->failed |=
                lenet5c_is_over(&watch) ? asked != 3 || done == TASKS : done != TASKS;
            self->failed |= self->threads == 1 && done != 2;
        }
        lenet5c_give_back(team);
        self->failed |= chain_fails(self->threads);
        if (next_random(self) % 16 == 0) usleep(200); /* so that workers fall asleep */
    }
    return NULL;
}

static int run(unsigned seed, int loops)
{
    static caller callers[CALLERS];
    pthread_t threads[CALLERS];
    int failed = 0;
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.random = seed + 77u * (unsigned)i, .loops = loops};
        if (pthread_create(&threads[i], NULL, run_loops, &callers[i])) return 1;
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        failed |= callers[i].failed;
    }
    return failed;
}

/* The same in a child. */
static int run_forked(unsigned seed, int loops)
{
#ifdef _WIN32
    (void)seed, (void)loops; /* has no fork */
    return 0;
#else
    int status = 1;
    const pid_t child = fork();
    if (child == 0) _exit(run(seed, loops));
    return child < 0 || waitpid(child, &status, 0) != child || status != 0;
#endif
}

int main(int count, char **arguments)
{
    const int loops = count > 1 ? atoi(arguments[1]) : 2000;
    const unsigned children = count > 2 ? (unsigned)atoi(arguments[2]) : 5;
    int failed = run(1, loops);
    for (unsigned i = 0; i < children && !failed; i++)
        failed = run_forked(2 + i, loops / 20) || run(20 + i, loops / 20);
    puts(failed ? "wrong" : "right");
    return failed;
}
