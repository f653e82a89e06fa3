"""tanh and the logistic function in single precision, by fused multiply-adds.

tanh is a rational function of degree 13 over 6, clamped where it is 1 to the last bit, with the
coefficients of Eigen (`generic_fast_tanh_float`, MPL 2.0, which Eigen's authors fitted by
Remez): its error is below 4e-7. The same operations are done in the same order everywhere, so
that the bits do not depend on where a number stands in a vector.
"""

from typing import Any

from llvmlite import ir
from numba import float32, types
from numba.core import cgutils
from numba.extending import intrinsic

from beam_rnn.fused.compiling import inlined

_LIMIT = float32(7.90531110763549805)
_ODD = tuple(
    float32(c)
    for c in (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
)
_EVEN = tuple(
    float32(c)
    for c in (
        1.19825839466702e-06,
        1.18534705686654e-04,
        2.26843463243900e-03,
        4.89352518554385e-03,
    )
)
_HALF = float32(0.5)


@intrinsic
def multiply_add(_: Any, a: Any, b: Any, c: Any) -> Any:
    """A b + c, rounded once; float32."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        number = ir.FloatType()
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(number, [number] * 3), "llvm.fma.f32"
        )
        return builder.call(fma, arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@inlined
def tanh(x):
    """The hyperbolic tangent; NaN stays NaN."""
    x = min(x, _LIMIT)
    x = max(x, -_LIMIT)
    x2 = x * x
    p = _ODD[0]
    p = multiply_add(x2, p, _ODD[1])
    p = multiply_add(x2, p, _ODD[2])
    p = multiply_add(x2, p, _ODD[3])
    p = multiply_add(x2, p, _ODD[4])
    p = multiply_add(x2, p, _ODD[5])
    p = multiply_add(x2, p, _ODD[6])
    q = _EVEN[0]
    q = multiply_add(x2, q, _EVEN[1])
    q = multiply_add(x2, q, _EVEN[2])
    q = multiply_add(x2, q, _EVEN[3])
    return x * p / q


@inlined
def sigmoid(x):
    """The logistic function, 1 / (1 + exp(-x))."""
    return multiply_add(_HALF, tanh(_HALF * x), _HALF)
