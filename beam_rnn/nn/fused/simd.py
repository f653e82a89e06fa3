"""Equations over rows of numbers, written in Python and compiled to vector instructions.

A compiler vectorizes a loop only if it can prove that the rows it writes are not rows that it
reads; with the rows of a cell it cannot. So the instructions are written here: `rowwise` calls a
function of `Vector` once, while the code is generated, and each +, -, * and / in it becomes one
instruction on a whole vector, or on one number at the end of a row. Each operation is rounded
separately (IEEE 754), so that a number has the same bits at every place.
"""

from collections.abc import Callable
from typing import Any, Union

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from beam_rnn.nn.fused.compile import inlined

FLOAT = 4
"""Bytes of a number."""
LANES = 16 if llvm.get_host_cpu_features().get("avx512f") else 8
"""Numbers in a vector of the machine, or in two of them."""

_NUMBER, _WHOLE = ir.FloatType(), ir.IntType(64)


@inlined
def address_of(array):
    """Return the address of an array; signed, as numba makes a float of signed and unsigned."""
    return np.intp(array.ctypes.data)


Operand = Union["Vector", float]


class Vector:
    """A vector of single-precision numbers, or one number, in code that is being generated."""

    def __init__(self, builder: ir.IRBuilder, value: Any):
        self._builder = builder
        self.value = value

    def _as_this(self, other: Operand) -> Any:
        if isinstance(other, Vector):
            return other.value
        kind = self.value.type
        return kind([other] * LANES if isinstance(kind, ir.VectorType) else other)

    def __add__(self, other: Operand) -> "Vector":
        return Vector(self._builder, self._builder.fadd(self.value, self._as_this(other)))

    def __sub__(self, other: Operand) -> "Vector":
        return Vector(self._builder, self._builder.fsub(self.value, self._as_this(other)))

    def __rsub__(self, other: Operand) -> "Vector":
        return Vector(self._builder, self._builder.fsub(self._as_this(other), self.value))

    def __mul__(self, other: Operand) -> "Vector":
        return Vector(self._builder, self._builder.fmul(self.value, self._as_this(other)))

    def __truediv__(self, other: Operand) -> "Vector":
        return Vector(self._builder, self._builder.fdiv(self.value, self._as_this(other)))

    __radd__, __rmul__ = __add__, __mul__

    def times_plus(self, factor: Operand, summand: Operand) -> "Vector":
        """Return self * factor + summand, rounded once (fused multiply-add)."""
        kind = self.value.type
        name = f"llvm.fma.v{LANES}f32" if isinstance(kind, ir.VectorType) else "llvm.fma.f32"
        fma = cgutils.get_or_insert_function(
            self._builder.module, ir.FunctionType(kind, [kind] * 3), name
        )
        arguments = [self.value, self._as_this(factor), self._as_this(summand)]
        return Vector(self._builder, self._builder.call(fma, arguments))

    def where_above(self, bound: Operand, then: Operand, otherwise: Operand) -> "Vector":
        """Return `then` where this is above the bound; else, and for NaN, `otherwise`."""
        above = self._builder.fcmp_ordered(">", self.value, self._as_this(bound))
        chosen = self._builder.select(above, self._as_this(then), self._as_this(otherwise))
        return Vector(self._builder, chosen)


def rowwise(function: Callable[..., tuple[Vector, ...]], inputs: int, outputs: int) -> Any:
    """Return the compiled form of a function of vectors, over rows.

    Args:
        function: Takes `inputs` vectors and returns `outputs` vectors.
        inputs: The number of rows read.
        outputs: The number of rows written; a row that is read may be one of them.

    Returns:
        For numba: (address of each row that is read, of each that is written, length).
    """
    rows = inputs + outputs
    signature = types.void(types.UniTuple(types.intp, rows), types.intp)

    def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
        addresses, length = arguments
        bases = [builder.extract_value(addresses, i) for i in range(rows)]
        whole_vectors = builder.and_(length, _WHOLE(-LANES))

        def at(base: Any, index: Any, kind: Any) -> Any:
            address = builder.add(base, builder.mul(index, _WHOLE(FLOAT)))
            return builder.inttoptr(address, kind.as_pointer())

        for kind, start, stop in (
            (ir.VectorType(_NUMBER, LANES), _WHOLE(0), whole_vectors),
            (_NUMBER, whole_vectors, length),
        ):
            step = LANES if isinstance(kind, ir.VectorType) else 1
            with cgutils.for_range_slice(builder, start, stop, _WHOLE(step)) as (index, _count):
                read = [
                    Vector(builder, builder.load(at(base, index, kind), align=FLOAT))
                    for base in bases[:inputs]
                ]
                for base, made in zip(bases[inputs:], function(*read), strict=True):
                    builder.store(made.value, at(base, index, kind), align=FLOAT)
        return context.get_dummy_value()

    @intrinsic
    def compiled(_, addresses, length):
        """Compute the rows at the addresses, from left to right."""
        return signature, generate

    return compiled
