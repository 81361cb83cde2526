/* What team.h needs of the system: a clock, a lock, sleep until a word changes, threads.
 *
 * The threads are POSIX's, or Windows' where the compiler knows gcc's words, or none:
 * LENET5C_SYSTEM says whose, and LENET5C_HAS_THREADS whether there are any. The
 * preprocessor takes -DLENET5C_NO_THREADS, and -DLENET5C_NO_FUTEX for a Linux that sleeps
 * as others do; both are for tests.
 */
#ifndef LENET5C_TEAM_SYSTEM_H
#define LENET5C_TEAM_SYSTEM_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum {
    LENET5C_STACK = 1 << 20, /* bytes of a worker's; the tasks need a tenth of it */
    LENET5C_LINE = 64,       /* bytes of a cache line, or a multiple */
};

#if defined(__GNUC__) && defined(_WIN32) && !defined(LENET5C_NO_THREADS)
#define LENET5C_SYSTEM "Windows"
#define LENET5C_HAS_THREADS 1

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#if !defined(_WIN32_WINNT) || _WIN32_WINNT < 0x0602
#undef _WIN32_WINNT
#define _WIN32_WINNT 0x0602 /* Windows 8, the first with WaitOnAddress */
#endif
#include <windows.h>
#include <malloc.h>
#include <process.h>

/* Nanoseconds on a clock that never goes back. */
static inline int64_t lenet5c_now(void)
{
    LARGE_INTEGER second, now;
    QueryPerformanceFrequency(&second);
    QueryPerformanceCounter(&now);
    return now.QuadPart / second.QuadPart * 1000000000 +
           now.QuadPart % second.QuadPart * 1000000000 / second.QuadPart;
}

/* The same to some milliseconds, in a fraction of the time. */
static inline int64_t lenet5c_about_now(void)
{
    return (int64_t)GetTickCount64() * 1000000;
}

static inline void *lenet5c_new_lines(size_t size)
{
    return _aligned_malloc(size, LENET5C_LINE);
}

static inline void lenet5c_free_lines(void *lines) { _aligned_free(lines); }

/* Sleep if the word still has this value; may return before it has another. */
static inline void lenet5c_sleep(uint32_t *word, uint32_t value)
{
    WaitOnAddress(word, &value, sizeof value, INFINITE);
}

static inline void lenet5c_wake(uint32_t *word) { WakeByAddressSingle(word); }

static SRWLOCK lenet5c_key = SRWLOCK_INIT; /* of the teams that no call is using */
static inline void lenet5c_lock(void) { AcquireSRWLockExclusive(&lenet5c_key); }
static inline void lenet5c_unlock(void) { ReleaseSRWLockExclusive(&lenet5c_key); }

static inline void lenet5c_be_fork_safe(void) {} /* there is no fork */

/* of team.h */
static void lenet5c_worker_main(void *worker);

static unsigned __stdcall lenet5c_thread_main(void *worker)
{
    lenet5c_worker_main(worker);
    return 0;
}

/* Starts a thread that runs lenet5c_worker_main(worker); 0 if there can be none. */
static int lenet5c_start_worker(void *worker)
{
    const uintptr_t thread = _beginthreadex(NULL, LENET5C_STACK, lenet5c_thread_main,
        worker, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (thread == 0) return 0;
    CloseHandle((HANDLE)thread);
    return 1;
}

#else

/* Nanoseconds on a clock that never goes back. */
static inline int64_t lenet5c_now(void)
{
    struct timespec now;
#ifdef CLOCK_MONOTONIC
    clock_gettime(CLOCK_MONOTONIC, &now);
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The same to some milliseconds, in a fraction of the time where the system has that. */
static inline int64_t lenet5c_about_now(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#else
    return lenet5c_now();
#endif
}

#if defined(__GNUC__) && (defined(__unix__) || defined(__APPLE__)) &&                      \
    !defined(LENET5C_NO_THREADS)
#define LENET5C_SYSTEM "POSIX"
#define LENET5C_HAS_THREADS 1

#include <pthread.h>
#include <signal.h>

static inline void *lenet5c_new_lines(size_t size)
{
    void *lines;
    return posix_memalign(&lines, LENET5C_LINE, size) ? NULL : lines;
}

static inline void lenet5c_free_lines(void *lines) { free(lines); }

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(SYS_futex) && !defined(LENET5C_NO_FUTEX)
enum { LENET5C_FUTEX_WAIT = 128, LENET5C_FUTEX_WAKE = 129 }; /* in one process */

/* Sleep if the word still has this value; may return before it has another. */
static inline void lenet5c_sleep(uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, LENET5C_FUTEX_WAIT, value, NULL, NULL, 0);
}

static inline void lenet5c_wake(uint32_t *word)
{
    syscall(SYS_futex, word, LENET5C_FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline void lenet5c_wake_in_child(void) {}
#else
static pthread_mutex_t lenet5c_bed = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t lenet5c_bell = PTHREAD_COND_INITIALIZER;

static inline void lenet5c_sleep(uint32_t *word, uint32_t value)
{
    pthread_mutex_lock(&lenet5c_bed);
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
        pthread_cond_wait(&lenet5c_bell, &lenet5c_bed);
    pthread_mutex_unlock(&lenet5c_bed);
}

static inline void lenet5c_wake(uint32_t *word)
{
    (void)word;
    pthread_mutex_lock(&lenet5c_bed);
    pthread_cond_broadcast(&lenet5c_bell);
    pthread_mutex_unlock(&lenet5c_bed);
}

static inline void lenet5c_wake_in_child(void)
{
    lenet5c_bed = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    lenet5c_bell = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}
#endif

/* of the teams that no call is using */
static pthread_mutex_t lenet5c_key = PTHREAD_MUTEX_INITIALIZER;
static inline void lenet5c_lock(void) { pthread_mutex_lock(&lenet5c_key); }
static inline void lenet5c_unlock(void) { pthread_mutex_unlock(&lenet5c_key); }

/* of team.h */
static void lenet5c_forget_teams(void);
static void lenet5c_worker_main(void *worker);

static void lenet5c_in_child(void)
{
    lenet5c_key = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    lenet5c_wake_in_child();
    lenet5c_forget_teams();
}

static void lenet5c_handle_fork(void)
{
    pthread_atfork(lenet5c_lock, lenet5c_unlock, lenet5c_in_child);
}

/* From now on a child of fork calls lenet5c_forget_teams() first, with the lock open. */
static inline void lenet5c_be_fork_safe(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, lenet5c_handle_fork);
}

static void *lenet5c_thread_main(void *worker)
{
    lenet5c_worker_main(worker);
    return NULL;
}

/* Starts a thread that runs lenet5c_worker_main(worker) and leaves signals to the program's
 * own threads; 0 if there can be none. */
static int lenet5c_start_worker(void *worker)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes)) return 0;
    /* the default may be all the address space that a process is allowed; if this is too
     * little for the C library, it stays */
    pthread_attr_setstacksize(&attributes, LENET5C_STACK);
    sigfillset(&all);
    sigdelset(&all, SIGSEGV); /* faults are the thread's own */
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&thread, &attributes, lenet5c_thread_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failed) return 0;
    pthread_detach(thread);
    return 1;
}

#else
#define LENET5C_SYSTEM "none"
#define LENET5C_HAS_THREADS 0
#endif

#endif

#endif
