"""Which compiler made this core, of which version of the package."""

cdef extern from *:
    """
    #if defined(__clang__)
    #define LENET5C_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define LENET5C_COMPILER "gcc " __VERSION__
    #else
    #define LENET5C_COMPILER "unknown"
    #endif
    """
    const char *LENET5C_COMPILER
    const char *LENET5C_VERSION  # setup.py takes it from pyproject.toml
