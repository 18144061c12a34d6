"""What one step of a compiled program does: its operations and the bytes that they move, read from XLA's own text.

A step is one pass through the body of the loop over steps. Every fusion, product or copy in it is an operation, which a
GPU launches as a kernel. An operation reads its arguments from memory, of a slice or a gather only the rows taken, and
writes its results; of an update in place only what is new. Arrays that the compiler keeps in on-chip memory (a TPU's
VMEM, the space S(1) of a layout) move no bytes. Tiles of a TPU are counted whole, with their padding.
"""

import math
import re
from typing import NamedTuple

__all__ = ["Computation", "Counts", "Operation", "parsed", "step_counts"]

_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota", "partition-id"}
_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")


class Operation(NamedTuple):
    """One instruction of a computation."""

    name: str
    opcode: str
    sizes: tuple[int, ...]  # the bytes of its results in main memory
    elements: int
    operands: tuple[str, ...]
    attributes: str  # what follows the bracket of the operands, and these


class Computation(NamedTuple):
    """The instructions of a computation in order, by name; the last one that is marked as its root."""

    operations: dict[str, Operation]
    root: str


class Counts(NamedTuple):
    """How many operations a step has, how many bytes of main memory they move, and the names of those counted."""

    operations: int
    bytes: int
    names: tuple[str, ...]


def step_counts(text: str, n_steps: int | None = None) -> Counts:
    """Return the counts of one of `n_steps` passes through a loop; without it, of the whole program.

    Raises a ValueError if there is not exactly one loop of so many passes.
    """
    computations, entry = parsed(text)
    body = entry
    if n_steps is not None:
        loops = [
            _called(each, "body")
            for computation in computations.values()
            for each in computation.operations.values()
            if each.opcode == "while" and n_steps in _constants(computations, _called(each, "condition"))
        ]
        if len(loops) != 1:
            raise ValueError(f"the program must have one loop of {n_steps} steps, got {len(loops)}")
        (body,) = loops
    names, moved = [], 0
    for each in computations[body].operations.values():
        if each.opcode in _FREE or each.opcode.endswith("-done") or (each.elements <= 1 and each.opcode != "fusion"):
            continue  # a lone number is computed beside the operations, by the scalar unit
        names.append(each.name)
        moved += _moved(computations, computations[body], each)
    return Counts(len(names), moved, tuple(names))


def parsed(text: str) -> tuple[dict[str, Computation], str]:
    """Return the computations of a module by name, and the name of its entry."""
    computations: dict[str, Computation] = {}
    name, entry, operations, root = "", "", {}, ""
    for line in text.splitlines():
        if (header := _HEADER.match(line)) and " = " not in line.split(" (")[0]:
            name, operations, root = header[1], {}, ""
            entry = name if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            computations[name] = Computation(operations, root)
        elif found := _INSTRUCTION.match(line):
            operations[found[2]] = _operation(found[2], line[found.end() :])
            root = found[2] if found[1] else root
    return computations, entry


def _operation(name: str, text: str) -> Operation:
    end = _closing(text) if text.startswith("(") else text.index(" ")
    arrays = _ARRAY.findall(text[:end])
    opcode, _, rest = text[end:].strip().partition("(")
    inside = _closing("(" + rest) - 1
    sizes = tuple(_bytes(*array) for array in arrays)
    elements = sum(math.prod(_dimensions(array[1])) for array in arrays)
    return Operation(name, opcode, sizes, elements, tuple(re.findall(r"%([\w.\-]+)", rest[:inside])), rest)


def _closing(text: str) -> int:
    """Return the place after the bracket that closes the first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place + 1
    raise ValueError(f"no closing bracket in {text[:80]!r}")


def _dimensions(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def _bytes(dtype: str, shape: str, layout: str) -> int:
    """Return the bytes of an array in main memory; 0 if its layout has another memory space."""
    if re.search(r"S\([1-9]\)", layout):
        return 0
    order, _, tiling = layout.partition(":")
    dimensions, sizes = _dimensions(shape), []
    for place in _dimensions(order)[::-1]:
        sizes.append(dimensions[place])
    sizes = sizes or dimensions
    if tile := re.match(r"T\(([\d,]+)\)", tiling):
        for back, size in enumerate(_dimensions(tile[1])[::-1], 1):
            if back <= len(sizes):
                sizes[-back] = -(-sizes[-back] // size) * size
    bits = _BITS.get(dtype) if dtype in _BITS else int(re.search(r"\d+", dtype)[0])  # type: ignore[index]
    return math.prod(sizes) * bits // 8


def _called(operation: Operation, attribute: str) -> str:
    found = re.search(rf"\b{attribute}=%?([\w.\-]+)", operation.attributes)
    return found[1] if found else ""


def _constants(computations: dict[str, Computation], name: str) -> set[int]:
    """Return the whole numbers that a computation, and those that it calls, hold."""
    found: set[int] = set()
    for each in computations[name].operations.values() if name in computations else ():
        if each.opcode == "constant" and (number := re.match(r"(\d+)\)", each.attributes)):
            found.add(int(number[1]))
        if called := _called(each, "calls"):
            found |= _constants(computations, called)
    return found


def _moved(computations: dict[str, Computation], within: Computation, operation: Operation) -> int:
    """Return the bytes that an operation reads and writes."""
    opcode = operation.opcode.removesuffix("-start")
    of = [sum(within.operations[name].sizes) if name in within.operations else 0 for name in operation.operands]
    if opcode == "while":
        return 0  # a loop within the step, counted by itself
    if opcode == "fusion":
        inner = computations[_called(operation, "calls")]
        read = sum(min(size, _read(computations, inner, place, size)) for place, size in enumerate(of))
        return read + _written(computations, inner, operation)
    if opcode in ("dynamic-slice", "gather", "slice"):
        return 2 * sum(operation.sizes[-1:]) if operation.opcode == opcode else sum(of)
    if opcode == "dynamic-update-slice":
        return 2 * of[1]
    if opcode == "copy":
        return of[0] + operation.sizes[0]
    return sum(of) + sum(operation.sizes)


def _read(computations: dict[str, Computation], inner: Computation, place: int, size: int) -> int:
    """Return how many bytes of a parameter a fused computation reads."""
    names = {
        each.name
        for each in inner.operations.values()
        if each.opcode == "parameter" and each.attributes.startswith(f"{place})")
    }
    total, pending = 0, list(names)
    while pending:
        name = pending.pop()
        for user in inner.operations.values():
            if name not in user.operands:
                continue
            where = user.operands.index(name)
            if user.opcode == "bitcast":
                pending.append(user.name)
            elif user.opcode in ("dynamic-slice", "gather", "slice") and where == 0:
                total += sum(user.sizes)
            elif user.opcode == "fusion":
                total += _read(computations, computations[_called(user, "calls")], where, size)
            elif not (user.opcode == "dynamic-update-slice" and where == 0):
                return size
    return total


def _written(computations: dict[str, Computation], inner: Computation, operation: Operation) -> int:
    """Return how many bytes a fused computation writes: of an update in place only what is new."""
    root = inner.operations[inner.root]
    parts = root.operands if root.opcode == "tuple" else (root.name,)
    total = 0
    for size, name in zip(operation.sizes, parts, strict=False):
        part = inner.operations[name]
        while part.opcode == "bitcast":
            part = inner.operations[part.operands[0]]
        new = sum(inner.operations[part.operands[1]].sizes) if part.opcode == "dynamic-update-slice" else size
        total += min(size, new)
    return total
