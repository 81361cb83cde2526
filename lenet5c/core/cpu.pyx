"""Which instruction sets this CPU has and the operating system lets programs use."""

cdef extern from *:
    """
    #if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    static int has_avx2(void)
    {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    static int has_avx512(void)
    {
        return has_avx2() && __builtin_cpu_supports("avx512f")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512dq");
    }
    #else
    static int has_avx2(void) { return 0; }
    static int has_avx512(void) { return 0; }
    #endif
    """
    int has_avx2()
    int has_avx512()


def instruction_sets():
    """Names of the cores that this machine can run, best first."""
    names = ["baseline"]
    if has_avx2():
        names.insert(0, "avx2")
    if has_avx512():
        names.insert(0, "avx512")
    return names
