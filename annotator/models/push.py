"""Residual push in compiled code: (I - alpha P) G = B for a few changed rows of B. Knows no labels and no dataset.

P = D^-1 W. A row holds a residual R = B - (I - alpha P) G; pushing row i adds omega R_i to G_i and passes
alpha omega R_i W_ij / d_j on to the residual of every neighbour j, so R is exact at every moment, to rounding
(Andersen, Chung & Lang, "Local graph partitioning using PageRank vectors", FOCS 2006; omega > 1 is successive
over-relaxation). Sweeps run over the rows in memory order, forwards and backwards in turn, in blocks of eight rows. A
block is pushed as a whole when one of its rows is above a level that falls from sweep to sweep: that is faster than a
branch for each row. Blocks without a change are skipped, so a call costs what it moves, and reads one word for every
64 rows.

Sixteen classes are pushed together: in single precision their residuals are one line of the cache, and what a
neighbour receives is one vector instruction (numba emits none for an array expression this short; see `_add_scaled`).

The compiled functions release the interpreter's lock, start no threads and share no state: any number may run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from annotator.types import FloatArray, IntArray

LANES = 16
"""Classes that are pushed together."""
BLOCK = 8
GROUP = 8
"""Blocks whose flags are read together, as one word."""
OVER_RELAXATION = 1.4  # the best for alpha = 0.9: 2 / (1 + sqrt(1 - alpha**2))
FALL = 0.3  # of the level from sweep to sweep
HIGHEST = 0.3  # the first level, relative to the evidence
MAX_SWEEPS = 10_000
PAGE = 64

Bytes = NDArray[np.uint8]
AnyFloats = NDArray[np.floating[Any]]
"""float32 where the tolerance allows it, else float64."""


def flags(n_rows: int) -> Bytes:
    """Zeros, one byte for every block of rows, rounded up to whole groups."""
    return np.zeros(-(-n_rows // (BLOCK * GROUP)) * GROUP, dtype=np.uint8)


def lanes(n_classes: int, n_rows: int, kind: type[np.floating[Any]]) -> AnyFloats:
    """Zeros (n_sets, n_rows, 16) for `n_classes`, every row aligned to a cache line."""
    shape = (-(-n_classes // LANES), n_rows, LANES)
    n_bytes = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory = np.empty(n_bytes + PAGE, dtype=np.uint8)
    memory.fill(0)  # unlike np.zeros this may lie on large pages
    start = -memory.ctypes.data % PAGE
    return memory[start : start + n_bytes].view(kind).reshape(shape)


# ---- vectors of LANES numbers; Any: numba's and LLVM's own types throughout

_intrinsic = cast("Callable[[Callable[..., Any]], Callable[..., Any]]", intrinsic)


@_intrinsic
def _add_scaled(_: Any, to: Any, row: Any, scale: Any, moving: Any) -> Any:
    """to[row] += scale * moving[0], each (LANES,)."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        to_type, _, scale_type, moving_type = signature.args
        place = _vector_at(context, builder, to_type, given[0], given[1])
        added = builder.load(_vector_at(context, builder, moving_type, given[3], None), align=4)
        before = builder.load(place, align=4)
        if added.type != before.type:
            added = builder.fpext(added, before.type)
        factor = _spread(builder, context.cast(builder, given[2], scale_type, to_type.dtype))
        product = builder.fmul(added, factor, flags=("contract",))
        builder.store(builder.fadd(before, product, flags=("contract",)), place, align=4)
        return context.get_dummy_value()

    return types.void(to, row, scale, moving), generate


@_intrinsic
def _take_scaled(_: Any, moving: Any, scale: Any, source: Any, row: Any) -> Any:
    """moving[0] = scale * source[row], and source[row] -= moving[0]."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        moving_type, scale_type, source_type, _ = signature.args
        place = _vector_at(context, builder, source_type, given[2], given[3])
        factor = _spread(builder, context.cast(builder, given[1], scale_type, source_type.dtype))
        before = builder.load(place, align=4)
        taken = builder.fmul(before, factor)
        builder.store(taken, _vector_at(context, builder, moving_type, given[0], None), align=4)
        builder.store(builder.fsub(before, taken), place, align=4)
        return context.get_dummy_value()

    return types.void(moving, scale, source, row), generate


@_intrinsic
def _size(_: Any, array: Any, row: Any) -> Any:
    """Sum of the absolute values of array[row]."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        vector = builder.load(_vector_at(context, builder, signature.args[0], *given), align=4)
        name = f"llvm.fabs.v{LANES}f{8 * np.dtype(str(signature.args[0].dtype)).itemsize}"
        absolute = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(vector.type, [vector.type]))
        return _sum(builder, builder.call(absolute, [vector]))

    return array.dtype(array, row), generate


@_intrinsic
def _total(_: Any, array: Any, row: Any) -> Any:
    """Sum of the values of array[row]."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _sum(builder, builder.load(_vector_at(context, builder, signature.args[0], *given), align=4))

    return array.dtype(array, row), generate


def _vector_at(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    """Address of row `row` of a (n, LANES) array; of its first row without `row`."""
    start = context.make_array(array_type)(context, builder, array).data
    if row is not None:
        start = builder.gep(start, [builder.mul(row, ir.Constant(row.type, LANES))])
    return builder.bitcast(start, ir.VectorType(context.get_data_type(array_type.dtype), LANES).as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    """The number in every lane."""
    vector = ir.VectorType(number.type, LANES)
    nothing, zero = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(nothing, number, zero)
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _sum(builder: Any, vector: Any) -> Any:
    """Sum by adding halves until one number is left, so the order of additions is always the same."""
    for half in (8, 4, 2, 1):
        nothing = ir.Constant(vector.type, ir.Undefined)
        lower, upper = (
            ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(start, start + half))) for start in (0, half)
        )
        low = builder.shuffle_vector(vector, nothing, lower)
        vector = builder.fadd(low, builder.shuffle_vector(vector, nothing, upper))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


# ---- kernels


def _compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:  # Any: whatever the kernel takes
    """Compile to machine code, cached beside the module or, where that is read-only, in the user's cache directory."""
    flags = {"reassoc", "contract", "nsz"}
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=flags)(kernel)
    except RuntimeError:  # no writable cache: compiled again in every process
        return numba.njit(nogil=True, error_model="numpy", fastmath=flags)(kernel)


def _push_row(
    starts: NDArray[np.int64],
    neighbors: NDArray[np.int32],
    passed_on: AnyFloats,
    solution: AnyFloats,
    residual: AnyFloats,
    evidence: FloatArray,
    active: Bytes,
    moving: AnyFloats,
    row: np.uint64,
) -> None:
    """Push one row: add its residual to its solution, and pass its share on to the neighbours' residuals."""
    _take_scaled(moving, OVER_RELAXATION, residual, row)
    _add_scaled(solution, row, 1.0, moving)
    evidence[row] += _total(moving, np.uint64(0))
    for edge in range(np.uint64(starts[row]), np.uint64(starts[row + np.uint64(1)])):
        other = np.uint64(neighbors[edge])
        _add_scaled(residual, other, passed_on[edge], moving)
        active[other // np.uint64(BLOCK)] = 1


_push = _compiled(_push_row)


def _settle(
    starts: NDArray[np.int64],
    neighbors: NDArray[np.int32],
    passed_on: AnyFloats,
    solution: AnyFloats,
    residual: AnyFloats,
    evidence: FloatArray,
    active: Bytes,
    touched: Bytes,
    tolerance: float,
    floor: float,
) -> int:
    """Push a set of classes until each row's residual, summed over them, is at most tolerance * (its evidence + floor).

    All arrays are changed in place: `solution` and `residual` (n, 16) of the set; `evidence` (n,), the sum of all
    classes' solutions; `active` (see `flags`), the blocks to check; `touched` (n,), set to 1 where the solution
    changes. Returns the number of sweeps, or -1 after MAX_SWEEPS.
    """
    n_rows = len(solution)
    groups = active.view(np.uint64)
    n_groups = len(groups)
    moving = np.zeros((1, LANES), dtype=residual.dtype)
    level = max(HIGHEST, tolerance)
    for sweep in range(MAX_SWEEPS):
        forward = sweep % 2 == 0
        n_moved = 0
        for group_turn in range(n_groups):
            group = group_turn if forward else n_groups - 1 - group_turn
            if groups[group] == 0:
                continue
            for turn in range(GROUP):
                block = group * GROUP + (turn if forward else GROUP - 1 - turn)
                if active[block] == 0:
                    continue
                active[block] = 0
                first, end = block * BLOCK, min(n_rows, (block + 1) * BLOCK)
                worst = 0.0
                for row in range(np.uint64(first), np.uint64(end)):
                    worst = max(worst, _size(residual, row) / (max(evidence[row], 0.0) + floor))
                active[block] = worst > tolerance
                if worst <= level:
                    continue
                n_moved += 1
                for step in range(end - first):
                    pushed = np.uint64(first + step if forward else end - 1 - step)
                    _push(starts, neighbors, passed_on, solution, residual, evidence, active, moving, pushed)
                    touched[pushed] = 1
        if level <= tolerance and n_moved == 0:
            return sweep + 1
        level = max(tolerance, level * FALL)
    return -1


def _recheck(
    residual: AnyFloats, evidence: FloatArray, touched: Bytes, active: Bytes, tolerance: float, floor: float
) -> int:
    """Mark in `active` the blocks of touched rows whose residual is too large now; returns the number of such rows."""
    n_found = 0
    for row in range(np.uint64(len(touched))):
        if touched[row] != 0 and _size(residual, row) > tolerance * (max(evidence[row], 0.0) + floor):
            active[row // np.uint64(BLOCK)] = 1
            n_found += 1
    return n_found


def _publish(
    solution: AnyFloats,
    roots: FloatArray,
    order: IntArray,
    touched: Bytes,
    probabilities: FloatArray,
    evidence: FloatArray,
) -> None:
    """Write rows that were touched as probabilities and evidence, in the dataset's order; 0 where there is no mass."""
    n_classes = probabilities.shape[1]
    for row in range(len(touched)):
        if touched[row] != 0:
            total = 0.0
            for code in range(n_classes):
                total += max(solution[code // LANES, row, code % LANES], 0.0)
            to = order[row]
            evidence[to] = total * roots[row]
            for code in range(n_classes):
                mass = max(solution[code // LANES, row, code % LANES], 0.0)
                probabilities[to, code] = mass / total if total > 0 else 0.0


settle = _compiled(_settle)
recheck = _compiled(_recheck)
publish = _compiled(_publish)


def compile_now(kind: type[np.floating[Any]]) -> None:
    """Compile the kernels for this precision, or read them from the cache, by solving a system of one row."""
    one, byte, nowhere = np.zeros(1), np.zeros(1, dtype=np.uint8), np.zeros(2, dtype=np.int64)
    solution, residual = lanes(1, 1, kind), lanes(1, 1, kind)[0]
    edges = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=kind)
    settle(nowhere, *edges, solution[0], residual, one, flags(1), byte, 1e-2, 1.0)
    recheck(residual, one, byte, flags(1), 1e-2, 1.0)
    publish(solution, one, nowhere[:1], byte, np.zeros((1, 1)), one)
