"""What a compiled program does, read from its text in XLA's HLO.

`Program(text)` knows the instructions of each computation and how often one is run.
Loops of unknown length, such as the trainer's loop over steps, count once; of a
conditional's branches all are counted, which is too many.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

WIDTHS = {"pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4}
WIDTHS |= {"s64": 8, "u64": 8, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16}
WIDTHS |= {"f8e4m3fn": 1, "f8e5m2": 1, "token": 0}
COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast"),
)
# Instructions that only move or convert values: a program made of useful ones has none
# by themselves. Of TPUs, copy-start moves buffers between memories, and is none of these.
MOVES = ("transpose", "copy", "pad", "convert")
FREE = ("parameter", "constant", "bitcast", "reshape", "tuple", "get-tuple-element", "iota")


class Shape(NamedTuple):
    """An array of an instruction."""

    dtype: str
    dims: tuple[int, ...]
    layout: str = ""  # such as "3,2,1,0:T(8,128)(2,1)"

    @property
    def bytes(self) -> int:
        """Size without padding."""
        return WIDTHS.get(self.dtype, 4) * math.prod(self.dims)

    @property
    def padded_bytes(self) -> int:
        """Size in a TPU's memory, whose tiles pad the two minor dimensions."""
        tile = re.search(r"T\(([\d,]+)\)", self.layout)
        if not tile or not self.dims:
            return self.bytes
        order = [int(axis) for axis in self.layout.split(":")[0].split(",") if axis]
        dims = [self.dims[axis] for axis in order]  # minor to major
        for index, size in enumerate(reversed([int(n) for n in tile[1].split(",")])):
            if index < len(dims):
                dims[index] = -(-dims[index] // size) * size
        return WIDTHS.get(self.dtype, 4) * math.prod(dims)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of the result; several for a tuple
    operands: tuple[str, ...]
    attributes: str

    def called(self) -> list[str]:
        """Names of the computations that it calls."""
        pattern = r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
        names = re.findall(pattern, self.attributes)
        if branches := re.search(r"branch_computations=\{([^}]*)\}", self.attributes):
            names += [name.strip().lstrip("%") for name in branches[1].split(",")]
        return names

    def trips(self) -> int:
        """How often a loop's body runs; 1 for anything else, or if it is unknown."""
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', self.attributes)
        return int(known[1]) if known else 1


def parse(text: str) -> dict[str, list[Instruction]]:
    """The instructions of each computation; that of the program is "ENTRY"."""
    computations: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if opening := re.match(r"(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$", line):
            current = computations.setdefault("ENTRY" if opening[1] else opening[2], [])
        elif match := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$", line):
            current.append(_instruction(match[1], match[2]))
    return computations


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else _end_of_shape(rest)
    shapes = tuple(
        Shape(dtype, tuple(int(n) for n in dims.split(",") if n), layout or "")
        for dtype, dims, layout in re.findall(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?", rest[:end])
    )
    opcode, _, _ = rest[end:].strip().partition("(")
    start = rest.index("(", end)
    stop = _closing(rest, start)
    operands = tuple(
        operand.split()[-1].lstrip("%")
        for operand in _split(rest[start + 1 : stop])
        if operand.strip()
    )
    return Instruction(name, opcode.strip(), shapes, operands, rest[stop + 1 :])


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _end_of_shape(text: str) -> int:
    match = re.match(r"\w+\[[\d,]*\](?:\{[^}]*\})?", text)
    return match.end() if match else 0


def _closing(text: str, start: int) -> int:
    """The position of the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if not depth:
            return position
    return len(text)


class Program:
    """A compiled program."""

    def __init__(self, text: str):
        self.computations = parse(text)
        self.shapes = {
            name: {instruction.name: instruction.shapes for instruction in instructions}
            for name, instructions in self.computations.items()
        }

    @functools.cached_property
    def runs(self) -> Counter[str]:
        """How often each computation runs, those inside of fusions included."""
        runs: Counter[str] = Counter()

        def visit(name: str, times: int) -> None:
            runs[name] += times
            for instruction in self.computations.get(name, ()):
                for inner in instruction.called():
                    if inner in self.computations:
                        visit(inner, times * instruction.trips())

        visit("ENTRY", 1)
        return runs

    @functools.cached_property
    def fused(self) -> set[str]:
        """Names of the computations inside of fusions, reductions and the like."""
        inner: set[str] = set()

        def visit(name: str) -> None:
            if name not in inner:
                inner.add(name)
                for instruction in self.computations.get(name, ()):
                    for called in instruction.called():
                        visit(called)

        for instructions in self.computations.values():
            for instruction in instructions:
                if instruction.opcode not in ("while", "conditional", "call", "async-start"):
                    for called in instruction.called():
                        visit(called)
        return inner

    def instructions(self) -> Iterator[tuple[str, Instruction, int]]:
        """(computation, instruction, runs of it) of all that is run."""
        for name, instructions in self.computations.items():
            if times := self.runs[name]:
                yield from ((name, instruction, times) for instruction in instructions)

    def operand(self, computation: str, instruction: Instruction, index: int) -> Shape:
        """The shape of an operand."""
        return self.shapes[computation][instruction.operands[index]][0]

    def products(self) -> list[tuple[str, float, Instruction]]:
        """(dtype, operations, instruction) of each convolution and matrix product.

        The dtype is that of the wider operand. Operations are multiplications and
        additions, without those on padding and on zeros of dilation.
        """
        found = []
        for name, instruction, times in self.instructions():
            operations = 0.0
            if instruction.opcode == "convolution" or "__cudnn$conv" in instruction.attributes:
                operations = self._convolution(name, instruction)
            elif instruction.opcode == "dot" or "__cublas$" in instruction.attributes:
                operations = self._dot(name, instruction)
            if operations:
                operands = [self.operand(name, instruction, index) for index in (0, 1)]
                dtype = max(operands, key=lambda shape: WIDTHS.get(shape.dtype, 4)).dtype
                found.append((dtype, times * operations, instruction))
        return found

    def _dot(self, computation: str, instruction: Instruction) -> float:
        left = self.operand(computation, instruction, 0)
        pattern = r'lhs_contracting_dim(?:ension)?s"?[=:]\s*[\{\[]([^\}\]]*)'
        axes = re.search(pattern, instruction.attributes)
        contracted = [int(axis) for axis in re.findall(r"\d+", axes[1])] if axes else []
        return (
            2.0
            * math.prod(instruction.shapes[0].dims)
            * math.prod(left.dims[axis] for axis in contracted)
        )

    def _convolution(self, computation: str, instruction: Instruction) -> float:
        numbers = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
        if not numbers:
            return 0.0
        left, right, out = numbers.groups()
        shapes = [self.operand(computation, instruction, index).dims for index in (0, 1)]
        image, kernel, result = *shapes, instruction.shapes[0].dims
        if "convBackwardInput" in instruction.attributes:  # operands: gradient and kernel
            image, result = result, image
        elif "convBackwardFilter" in instruction.attributes:  # operands: image and gradient
            kernel, result = result, kernel
        window = dict(re.findall(r"(\w+)=([\dx_\-]+)", _window(instruction.attributes)))
        spatial = [label for label in out if label.isdigit()]
        pairs = 1.0
        for index, label in enumerate(spatial):
            option = lambda key, default, index=index: (
                window[key].split("x")[index] if key in window else default
            )
            low = int(option("pad", "0_0").split("_")[0])
            pairs *= _valid(
                image[left.index(label)],
                int(option("size", "1")),
                result[out.index(label)],
                int(option("stride", "1")),
                low,
                int(option("lhs_dilate", "1")),
                int(option("rhs_dilate", "1")),
            )
        groups = re.search(r"batch_group_count=(\d+)", instruction.attributes)
        batch = image[left.index("b")] / (int(groups[1]) if groups else 1)
        return 2.0 * pairs * batch * kernel[right.index("i")] * kernel[right.index("o")]

    def moves(self, entry: bool = True) -> list[tuple[str, int, Instruction]]:
        """(kind, bytes, instruction) of transposes, copies, pads and converts that stand
        alone: what is fused with arithmetic costs little. Bytes are read and written.

        `entry` includes what is run once, outside of all loops.
        """
        found = []
        for name, instruction, times in self.instructions():
            if name in self.fused or (name == "ENTRY" and not entry):
                continue
            kinds = {instruction.opcode}
            if instruction.opcode == "fusion":
                inner = [i for called in instruction.called() for i in self.computations[called]]
                kinds = {i.opcode for i in inner} - set(FREE)
            if kinds and kinds <= set(MOVES):
                kind = next(kind for kind in MOVES if kind in kinds)
                shapes = self.shapes[name]
                arrays = [*instruction.shapes]
                arrays += [s for operand in instruction.operands for s in shapes.get(operand, ())]
                found.append((kind, times * sum(array.bytes for array in arrays), instruction))
        return found

    def accessed(self) -> int:
        """Bytes that all instructions read and write, without what slices leave alone.

        Inside of a fusion every operand counts whole, which is too much where it is
        sliced.
        """
        total = 0
        ignored = (*FREE, "while", "conditional", "call", "after-all", "copy-done")
        for name, instruction, times in self.instructions():
            if name in self.fused or instruction.opcode in ignored:
                continue
            size = sum(shape.bytes for shape in instruction.shapes)
            if instruction.opcode in ("gather", "dynamic-slice", "slice"):
                total += times * 2 * size
                continue
            shapes = self.shapes[name]
            operands = [s for operand in instruction.operands for s in shapes.get(operand, ())]
            if instruction.opcode == "dynamic-update-slice":
                operands, size = operands[1:], operands[1].bytes
            total += times * (size + sum(operand.bytes for operand in operands))
        return total

    def padding(self) -> tuple[int, int]:
        """Bytes of the convolutions' and products' operands: without, and with padding."""
        plain = padded = 0
        for name, instruction, times in self.instructions():
            if instruction.opcode in ("convolution", "dot"):
                shapes = [self.operand(name, instruction, index) for index in (0, 1)]
                for shape in (*shapes, *instruction.shapes):
                    plain += times * shape.bytes
                    padded += times * shape.padded_bytes
        return plain, padded

    def collectives(self) -> dict[str, dict[str, float]]:
        """Number and bytes of the results of each kind of collective, on one device."""
        traffic: dict[str, dict[str, float]] = {}
        for _, instruction, times in self.instructions():
            kind = instruction.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                shapes = instruction.shapes
                if instruction.opcode == "all-gather-start":  # operands, then results
                    shapes = shapes[len(shapes) // 2 :]
                elif instruction.opcode == "collective-permute-start":
                    shapes = shapes[1:2]
                counts = traffic.setdefault(kind, {"count": 0, "bytes": 0})
                counts["count"] += times
                counts["bytes"] += times * sum(shape.bytes for shape in shapes)
        return traffic


def _window(attributes: str) -> str:
    match = re.search(r"window=\{([^}]*)\}", attributes)
    return match[1] if match else ""


def _valid(
    size: int, kernel: int, out: int, stride: int, low: int, dilate: int, kernel_dilate: int
) -> int:
    """Pairs (output, kernel) of one axis that meet an input, not padding or a zero."""
    positions = stride * np.arange(out)[:, None] + kernel_dilate * np.arange(kernel)[None] - low
    inside = (positions >= 0) & (positions <= (size - 1) * dilate) & (positions % dilate == 0)
    return int(np.sum(inside))
