"""Runs exported C code on other machines, which QEMU and simavr play."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SOURCES = Path(__file__).parent / "deploy" / "chips"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-fno-common"]
COLOURS = re.compile(r"\x1b\[[\d;]*m")  # of simavr


@dataclass(frozen=True)
class Chip:
    """A machine that is not this one.

    Attributes
    ----------
    compiler, size : str
        Commands: gcc for it, and what says how large a program is.
    flags : tuple of str
        Of the compiler.
    sources : tuple of str
        Beside main.c, which `main` renames.
    runner : tuple of str
        The command before the program.
    tick : float
        What the clock counts: so many instructions, or cycles.
    """

    compiler: str
    size: str
    flags: tuple[str, ...]
    sources: tuple[str, ...]
    runner: tuple[str, ...]
    tick: float = 0

    @property
    def missing(self) -> list[str]:
        """Commands that are not installed."""
        tools = (self.compiler, self.size, self.runner[0])
        return [tool for tool in tools if shutil.which(tool) is None]


def _cortex_m(cpu, machine, megahertz, flash, ram):
    flags = (
        *(f"-mcpu={cpu}", "-mthumb", "-O2", "-nostartfiles"),
        *(f"-Wl,--defsym=FLASH_SIZE={flash}", f"-Wl,--defsym=RAM_SIZE={ram}"),
        f"-T{SOURCES / 'cortex_m.ld'}",
    )
    runner = (
        *("qemu-system-arm", "-machine", machine, "-icount", "shift=0"),
        *("-display", "none", "-monitor", "none", "-serial", "none"),
        *("-chardev", "stdio,id=console"),
        *("-semihosting-config", "enable=on,target=native,chardev=console"),
        "-kernel",
    )
    tools = ("arm-none-eabi-gcc", "arm-none-eabi-size")
    return Chip(*tools, flags, ("cortex_m.c",), runner, 1000 / megahertz)


def _avr(mcu):
    flags = (f"-mmcu={mcu}", "-Os", "-std=gnu99", "-Dmain=classify")
    runner = ("simavr", "-m", mcu, "-f", "16000000")
    return Chip("avr-gcc", "avr-size", flags, ("avr.c",), runner, 1024)


MPS2 = (25, 4 << 20, 64 << 10)  # memory for the images that a test brings along
CHIPS = {
    "Cortex-M0": _cortex_m("cortex-m0", "microbit", 16, 256 << 10, 16 << 10),
    "Cortex-M3": _cortex_m("cortex-m3", "mps2-an385", *MPS2),
    "Cortex-M4": _cortex_m("cortex-m4", "mps2-an386", *MPS2),
    "Cortex-M7": _cortex_m("cortex-m7", "mps2-an500", *MPS2),
    "ATmega328P": _avr("atmega328p"),
    "ATmega2560": _avr("atmega2560"),
    "s390x": Chip(
        *("s390x-linux-gnu-gcc", "s390x-linux-gnu-size"),
        *(("-O2", "-static"), ("hosted.c",), ("qemu-s390x",)),
    ),
}


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )
    said = f"{done.stdout[:2000]}{done.stderr[:2000]}"
    assert done.returncode == 0, f"{command}: {said}"
    return done.stdout + done.stderr


def build(chip, folder, images, *flags):
    """The program of folder/net.h and these images."""
    rows = ",\n".join("{" + ",".join(map(str, image.ravel())) + "}" for image in images)
    (folder / "images.h").write_text(
        f"#define IMAGES {len(images)}\n"
        "static const uint8_t images[IMAGES]"
        f"[{images[0].size}] PROGMEM = {{\n{rows}}};\n"
    )
    program = folder / "program"
    objects = []
    for source in (
        "main.c",
        *chip.sources,
    ):  # `main` has another name in the first alone
        objects.append(folder / f"{source}.o")
        renamed = [
            flag
            for flag in chip.flags
            if source == "main.c" or not flag.startswith("-Dmain")
        ]
        options = [flag for flag in renamed if not flag.startswith(("-T", "-Wl"))]
        given = (*options, *WARNINGS, *flags, f"-I{folder}", "-c", SOURCES / source)
        run(chip.compiler, *given, "-o", objects[-1])
    run(chip.compiler, *chip.flags, *flags, *objects, "-o", program)
    return program


def classify(chip, folder, images, *flags, result="int32_t", unit="1"):
    """Classes (N,), results (N, classes) and ticks (N,) of folder/net.h."""
    given = ("-DCOUNTED", f"-DRESULT={result}", f"-DUNIT={unit}", *flags)
    out = run(*chip.runner, build(chip, folder, images, *given))
    lines = [COLOURS.sub("", line) for line in out.splitlines()]
    numbers = [
        [int(word) for word in re.findall(r"-?\d+", line)]
        for line in lines
        if re.match(r"\d+ ", line)
    ]
    assert len(numbers) == len(images), out[:2000]
    rows = np.array(numbers)
    return rows[:, 0], rows[:, 1:-1], rows[:, -1]


def compiled(chip, folder, *flags):
    """folder/net.h as an object file, and the stack that its functions take."""
    (folder / "net.c").write_text(
        '#define NET_IMPLEMENTATION\n#include "net.h"\nnet_workspace workspace;\n'
    )
    options = [flag for flag in chip.flags if not flag.startswith(("-T", "-Wl", "-D"))]
    options += [*flags, *WARNINGS, "-fstack-usage", "-c"]
    command = [chip.compiler, *options, "net.c", "-o", "net.o"]
    run(*command, cwd=folder)
    lines = (folder / "net.su").read_text().splitlines()
    return folder / "net.o", [int(line.split("\t")[1]) for line in lines]
