"""The compiled part of the package: one source, one core for each instruction set.

Environment
-----------
LENET5C_OPENMP : auto (default), 1 or 0
    Whether to compile with OpenMP: if the compiler has it, always (fail without),
    never. Without it there are threads all the same.
LENET5C_CORES : comma-separated names
    Which cores to build instead of all that fit the machine.
LENET5C_LANES : 4, 8 or 16
    Images in one register, whatever the instruction set. Slow; for testing what another
    machine would run.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What the cores differ in. -O3 is what unrolls a tile of accumulators into registers;
# no -ffast-math, which changes results, and no -march=native, which breaks other
# machines.
if platform.machine().lower() in ("x86_64", "amd64"):
    CORES = {
        "avx512": [
            "-mavx512f",
            "-mavx512vl",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx2",
            "-mfma",
            "-mprefer-vector-width=512",
        ],
        "avx2": ["-mavx2", "-mfma"],
        "baseline": [],
    }
else:
    CORES = {"baseline": []}

# What the cores are made of beside core/network.pyx, and embed.pyx as well.
HEADERS = [f"csrc/{name}.h" for name in ("elementary", "lanes", "team", "team_system")]
PARTS = sorted(Path("lenet5c/core").rglob("*.pxd"))

WANTED = os.environ.get("LENET5C_CORES")
if WANTED:
    for name in WANTED.split(","):
        if name not in CORES:
            sys.exit(f"LENET5C_CORES: expected some of {','.join(CORES)}, got {name!r}")
    CORES = {name: CORES[name] for name in WANTED.split(",")}

# Beside the cores: without the tables that debuggers unwind stacks with, 14 KB of the
# wheel.
SMALL = ["-O2", "-g0", "-fvisibility=hidden", "-fno-asynchronous-unwind-tables"]
COMPILE = ["-O3", "-g0", "-fvisibility=hidden", "-fno-math-errno", "-ffp-contract=fast"]
# What gcc needs to keep tiles in registers, where the compiler knows it: unroll up to
# 24 accumulators (16 by default), make no memcpy of a loop that copies them, and leave
# apart the functions that are: in one large function loops run out of registers.
GCC = [
    "--param=max-completely-peel-times=32",
    "--param=max-completely-peeled-insns=800",
    "-fno-tree-loop-distribute-patterns",
    "-fno-predictive-commoning",
    "-fno-inline-functions-called-once",
]
MACROS = [("CYTHON_INLINE", "inline __attribute__((always_inline))")]
if os.environ.get("LENET5C_LANES"):
    MACROS.append(("LENET5C_LANES", os.environ["LENET5C_LANES"]))
    COMPILE.append("-Wno-psabi")

SHARED = "lenet5c._cython"  # what Cython's modules share: one copy of its memoryviews

EMPTY = "int main(void) { return 0; }"  # a program, to try the compiler


class BuildCores(build_ext):
    """Compile the cores in parallel, with the flags that this compiler takes."""

    def build_extensions(self):
        self.check_tools()
        self.parallel = self.parallel or os.cpu_count()
        optional = [flag for flag in GCC if self.compiles([flag])]
        threads = self.openmp_flags()
        if self.compiles(["-pthread"]):
            threads.append("-pthread")
        if sys.platform == "win32":
            threads.append("-lsynchronization")  # WaitOnAddress
        macros = [
            ("LENET5C_VERSION", f'"{self.distribution.get_version()}"'),
            ("CYTHON_CLINE_IN_TRACEBACK", "0"),  # lines of the sources alone
        ]
        for extension in self.extensions:
            if extension.name not in ("lenet5c._cpu", SHARED):
                extension.define_macros += macros
                extension.extra_compile_args += optional + threads
                extension.extra_link_args += threads
            if sys.platform == "linux" and "_core" not in extension.name:
                extension.extra_link_args.append("-Wl,-s")  # 15 KB of names
        super().build_extensions()

    def check_tools(self):
        """Say in one line what is missing, before a compiler says it in hundreds."""
        compiler = getattr(self.compiler, "compiler", None)
        if compiler is None:  # not a Unix compiler
            return
        if not self.compiles([]):
            sys.exit(
                f"lenet5c needs a C compiler, and {compiler[0]!r} is none that works. "
                "Debian, Ubuntu: apt install gcc python3-dev. Fedora: dnf install gcc "
                "python3-devel. CC=... names another one."
            )
        include = [f"-I{folder}" for folder in self.include_dirs]
        if not self.compiles(include, f"#include <Python.h>\n{EMPTY}"):
            sys.exit(
                f"lenet5c needs the headers of Python {platform.python_version()}, and "
                f"Python.h is not in {', '.join(self.include_dirs)}. Debian, Ubuntu: "
                "apt install python3-dev. Fedora: dnf install python3-devel."
            )

    def openmp_flags(self):
        wanted = os.environ.get("LENET5C_OPENMP", "auto")
        if wanted not in ("auto", "0", "1"):
            sys.exit(f"LENET5C_OPENMP: expected auto, 1 or 0, got {wanted!r}")
        if wanted == "0":
            return []
        if self.compiles(["-fopenmp"], f"#include <omp.h>\n{EMPTY}"):
            return ["-fopenmp"]
        if wanted == "1":
            sys.exit("LENET5C_OPENMP=1, but the compiler has no OpenMP")
        return []

    def compiles(self, flags, source=EMPTY):
        """Whether the compiler takes these flags and links a program."""
        compiler = getattr(self.compiler, "compiler", None)
        if compiler is None:  # not a Unix compiler
            return False
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source)
            command = [*compiler, *flags, str(path), "-o", str(path.with_suffix(""))]
            try:
                done = subprocess.run(command, capture_output=True, check=False)
            except OSError:
                return False
            return done.returncode == 0


def core(name, flags, source):
    """A core from its own copy of the C file, so that its object file is its own."""
    copy = Path(source).with_name(f"network_{name}.c")
    shutil.copyfile(source, copy)
    return Extension(
        f"lenet5c._core_{name}",
        [str(copy)],
        depends=[*HEADERS, source, *map(str, PARTS)],
        include_dirs=["csrc"],
        define_macros=[*MACROS, ("PyInit_network", f"PyInit__core_{name}")],
        extra_compile_args=[*COMPILE, *flags],
    )


def extensions():
    """The extensions: the cores are one Cython module, compiled once for each."""
    directives = {
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "initializedcheck": False,
        "cdivision": True,
        "embedsignature": True,
    }
    network, cpu, embed, cython = cythonize(
        [
            Extension("lenet5c.core.network", ["lenet5c/core/network.pyx"]),
            Extension("lenet5c._cpu", ["lenet5c/core/cpu.pyx"]),
            Extension("lenet5c.embed", ["lenet5c/embed.pyx"]),
            Extension(SHARED, [SHARED.replace(".", "/") + ".c"]),
        ],
        compiler_directives=directives,
        build_dir="build/cython",
        shared_utility_qualified_name=SHARED,
    )
    for extension in (cpu, embed, cython):
        extension.extra_compile_args = [*SMALL]
    embed.sources.append("csrc/lenet5c.c")
    embed.depends += [*HEADERS, "csrc/lenet5c.h", "csrc/lenet5c_api.h"]
    embed.depends += sorted(map(str, Path("csrc/runtime").iterdir()))
    embed.include_dirs = ["csrc"]
    embed.define_macros = [
        ("LENET5C_OPEN_PARTS", "1"),
        ("LENET5C_API", ""),  # no other module shall see the runtime's own names
        ("LENET5C_MAX_LANES", "lenet5c_max_lanes"),
    ]
    cores = [core(name, flags, network.sources[0]) for name, flags in CORES.items()]
    return [*cores, cpu, embed, cython]


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildCores})
