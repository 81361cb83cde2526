/* OpenMP where the compiler has it, one thread where it has not; and fork made safe. */
#ifndef LENET5C_OPENMP_H
#define LENET5C_OPENMP_H

#ifdef _OPENMP
#include <omp.h>

static inline int lenet5c_max_threads(void) { return omp_get_max_threads(); }
static inline int lenet5c_thread(void) { return omp_get_thread_num(); }
static inline int lenet5c_has_openmp(void) { return 1; }

#if defined(__GNUC__) && (defined(__unix__) || defined(__APPLE__))
#include <pthread.h>

/* A child of fork inherits libgomp's record of a thread team, but not its threads: the
 * child's first parallel region waits for them for ever. Giving the team up before the fork
 * makes both sides start a new one. Weak: OpenMP 5.0, missing in older run-times. */
#pragma weak omp_pause_resource_all

static void lenet5c_before_fork(void)
{
    if (omp_pause_resource_all && !omp_in_parallel())
        omp_pause_resource_all(omp_pause_soft);
}

static inline int lenet5c_make_fork_safe(void)
{
    return pthread_atfork(lenet5c_before_fork, NULL, NULL);
}
#else
static inline int lenet5c_make_fork_safe(void) { return 0; }
#endif

#else
static inline int lenet5c_max_threads(void) { return 1; }
static inline int lenet5c_thread(void) { return 0; }
static inline int lenet5c_has_openmp(void) { return 0; }
static inline int lenet5c_make_fork_safe(void) { return 0; }
#endif

#endif
