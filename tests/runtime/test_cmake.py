"""lenet5cConfig.cmake: a target that a project compiles for itself.

One project is built, in folders with blanks: project(... CXX), Debug, warnings that are
errors, the package asked for in two of its folders, a shared library and two programs.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lenet5c

CMAKE = shutil.which("cmake")
CXX = shutil.which(os.environ.get("CXX", "c++"))
NM = shutil.which("nm")
FILES = {  # of the project
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.16)
project(top CXX)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
add_compile_options(-Wall -Wextra -Werror -Wconversion -Wdouble-promotion)
add_subdirectory(plugin)
add_subdirectory(program)
""",
    "plugin/CMakeLists.txt": """
find_package(lenet5c REQUIRED)
add_library(plugin SHARED plugin.cpp)
target_link_libraries(plugin PRIVATE lenet5c::lenet5c)
""",
    "plugin/plugin.cpp": """
#include "lenet5c.h"
int plugin(int code);
int plugin(int code) { return lenet5c_strerror(code)[0]; }
""",
    "program/CMakeLists.txt": """
find_package(lenet5c REQUIRED)
add_executable(lenet5c lenet5c.cpp) # a name that projects use
target_link_libraries(lenet5c PRIVATE plugin)
add_executable(classify classify.cpp)
target_link_libraries(classify PRIVATE lenet5c::lenet5c)
""",
    "program/lenet5c.cpp": """
#include <cstdio>
int plugin(int code);
int main() { return std::putchar(plugin(-2)) == EOF; }
""",
    "program/classify.cpp": """
#include <cstdio>
#include <cstdlib>
#include "lenet5c.h"
int main()
{
    lenet5c_model *model;
    const int code = lenet5c_open("digits.lenet5c", &model);
    if (code) return std::puts(lenet5c_strerror(code)), 1;
    void *workspace = std::malloc(lenet5c_workspace_size(model));
    static unsigned char image[28 * 28];
    while (std::fread(image, 1, sizeof image, stdin) == sizeof image)
        std::puts(lenet5c_class_name(model, lenet5c_classify(model, workspace, image)));
    std::free(workspace);
    lenet5c_close(model);
}
""",
}

pytestmark = [
    pytest.mark.skipif(CMAKE is None, reason="needs cmake"),
    pytest.mark.skipif(CXX is None, reason="needs a C++ compiler"),
]


def cmake(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [CMAKE, *map(str, words)],
        # one instruction set is compiled in seconds
        env=os.environ | {"CFLAGS": "-DLENET5C_SCALAR"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The package's C files, in a folder with blanks."""
    folder = tmp_path_factory.mktemp("package") / "a  b"
    shutil.copytree(lenet5c.get_include(), folder)
    return folder


def configure(source: Path, build: Path, package: Path, *options: str, check=True):
    given = f"-Dlenet5c_DIR={package}/cmake"
    return cmake("-S", source, "-B", build, given, *options, check=check)


def c_command(build: Path) -> str:
    """How lenet5c.c is compiled in a project that was configured."""
    text = (build / "compile_commands.json").read_text("utf-8")
    (found,) = (c for c in re.findall('"command": "(.*)",', text) if "lenet5c.c.o" in c)
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory, package) -> Path:
    """The build folder of the project."""
    source = tmp_path_factory.mktemp("project") / "c d"
    for name, text in FILES.items():
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    build = source / "build here"
    configure(source, build, package, "-DCMAKE_BUILD_TYPE=Debug")
    cmake("--build", build)
    return build


def test_a_cpp_program_predicts_as_python_does(built, images, labels):
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=4, batch_size=4, threads=1)
    model.save("digits.lenet5c")
    program = str(built / "program" / "classify")
    done = subprocess.run([program], input=images.tobytes(), capture_output=True)
    expected = model.predict(images)
    assert len(np.unique(expected)) > 3
    assert [int(label) for label in done.stdout.split()] == expected.tolist()


def test_a_shared_library_holds_the_runtime_and_keeps_it_to_itself(built):
    program = str(built / "program" / "lenet5c")
    done = subprocess.run([program], capture_output=True, check=True)
    assert done.stdout == b"n"  # not enough memory
    if NM is None:
        pytest.skip("needs nm")
    library = str(built / "plugin" / "libplugin.so")
    listed = subprocess.run(
        [NM, "-D", "--defined-only", library],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "plugin" in listed.stdout
    assert "lenet5c" not in listed.stdout


@pytest.mark.parametrize(
    ("build_type", "flags"),
    [
        ("", ["-O2"]),
        ("Debug", ["-O2", "-g"]),
        ("Coverage", ["-O2"]),
        ("Release", ["-O3"]),
        ("RelWithDebInfo", ["-O2", "-g"]),
        ("MinSizeRel", ["-Os"]),
    ],
)
def test_it_is_optimised_in_every_build_type(built, package, build_type, flags):
    source = built.parent
    configure(source, built, package, f"-DCMAKE_BUILD_TYPE={build_type}")
    command = c_command(built)
    assert sorted(re.findall(r" (-O\w|-g)(?= )", command)) == flags
    assert " -fPIC " in command


def test_c_that_cannot_be_enabled_says_what_to_do(tmp_path, package):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.17)\nproject(top NONE)\nfunction(get)\n"
        "find_package(lenet5c REQUIRED)\nendfunction()\nget()\n"
    )
    done = configure(tmp_path, tmp_path / "build", package, check=False)
    assert done.returncode == 1
    if "3.17 or higher is required" in done.stderr:
        pytest.skip("needs cmake 3.17, which says whether it is in a function")
    assert "project(... C CXX)" in " ".join(done.stderr.split())


def fits(asked: str) -> bool:
    """Whether the version file says that find_package(lenet5c ASKED) takes it."""
    low, _, high = asked.removesuffix(" EXACT").partition("...")
    settings = {"FIND_VERSION": low, "FIND_VERSION_MAJOR": low.split(".")[0]}
    if high:
        end = "EXCLUDE" if high.startswith("<") else "INCLUDE"
        settings["FIND_VERSION_RANGE"] = asked
        settings["FIND_VERSION_RANGE_MAX"] = end
        settings["FIND_VERSION_MAX"] = high.removeprefix("<")
    words = [f"-DPACKAGE_{name}={value}" for name, value in settings.items()]
    version, compatible, exact = cmake(*words, "-P", "ask.cmake").stderr.split(":")
    assert version == "2.3.1"
    return (exact if asked.endswith(" EXACT") else compatible).strip() == "TRUE"


def test_versions_that_fit_are_taken_and_others_refused(package):
    for name in ("cmake", "pkgconfig"):
        shutil.copytree(package / name, name)
    pc = Path("pkgconfig", "lenet5c.pc")
    pc.write_text(pc.read_text().replace(f" {lenet5c.__version__}\n", " 2.3.1\n"))
    Path("ask.cmake").write_text(
        "cmake_minimum_required(VERSION 3.16)\n"
        "include(cmake/lenet5cConfigVersion.cmake)\n"
        'message("${PACKAGE_VERSION}:${PACKAGE_VERSION_COMPATIBLE}'
        ':${PACKAGE_VERSION_EXACT}")\n'
    )
    taken = ["2", "2.3", "2.3.1", "2.3.1 EXACT", "2...3", "1...2.3.1", "2.3.1...<2.3.2"]
    refused = [
        "2.3.2",
        "3",
        "1.9",
        "0.1",
        "2.3 EXACT",
        "2.4...3",
        "1...<2.3.1",
        "1...2",
    ]
    assert [asked for asked in taken + refused if fits(asked)] == taken
