"""Whether the accumulators of the kernels live in registers: their compiled loops.

    python benchmarks/registers.py [core.so ...]

Disassembles the cores, those of the installed package if none is named, and prints the
innermost loops with at least 8 products: how many there are of a kind, their
instructions, and how many of these use a vector on the stack. An accumulator that is
not in its register is loaded and stored for each product. Exits with 1 if there are
two thirds as many on the stack as products. A loop with more than five instructions for
each product is no tile but a transform, whose elements may take more registers than
there are. Needs objdump, and a core for x86-64.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common import table

import lenet5c

MIN_PRODUCTS = 8
MAX_INSTRUCTIONS = 5  # of a tile, for each product
MODULES = r"^__pyx_f_7lenet5c_4core_(\d[a-z]+_(?=\d))?\d+"  # Cython's, of a function


def loops(core: str) -> Iterator[tuple[str, int, int, int]]:
    """Each innermost loop: its function, products, instructions, those on the stack."""
    command = ["objdump", "-d", "--no-show-raw-insn", core]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    function, lines = "", []
    for line in code.splitlines():
        if name := re.match(r"[0-9a-f]+ <(.*)>:", line):
            function, lines = re.sub(MODULES, "", name[1]), []
        if not (found := re.match(r"\s*([0-9a-f]+):\s+(.*)", line)):
            continue
        at, text = int(found[1], 16), found[2]
        lines.append((at, text))
        if not (jump := re.match(r"j\w+\s+([0-9a-f]+)", text)):
            continue
        loop = [text for start, text in lines if start >= int(jump[1], 16)]
        products = sum("fmadd" in text or "mulps" in text for text in loop)
        stack = sum("mm" in text and "(%rsp" in text for text in loop)
        if products >= MIN_PRODUCTS and sum(text[0] == "j" for text in loop) == 1:
            yield function.partition(".")[0], products, len(loop), stack


def main() -> None:
    cores = sys.argv[1:] or sorted(
        map(str, Path(lenet5c.__file__).parent.glob("_core_*.so"))
    )
    if not cores:
        sys.exit("registers.py: expected a compiled core, there is none")
    spilled = False
    for core in cores:
        found = Counter(loops(core))
        rows = [("function", "products", "instructions", "on the stack", "loops")]
        for loop, count in sorted(found.items()):
            rows.append((*map(str, loop), str(count)))
            _, products, instructions, stack = loop
            is_tile = instructions <= MAX_INSTRUCTIONS * products
            spilled |= is_tile and 3 * stack > 2 * products
        print(f"{Path(core).name}\n\n{table(rows)}\n")
    if spilled:
        sys.exit("registers.py: a loop keeps its numbers on the stack")


if __name__ == "__main__":
    main()
