"""tanh and the logistic function in single precision.

tanh is a rational function of degree 13 over 6, clamped where it is 1 to the last bits, with the
coefficients of Eigen (`generic_fast_tanh_float`, MPL 2.0): its error is below 4e-7.
"""

from beam_rnn.nn.fused.simd import Vector

_LIMIT = 7.90531110763549805
_ODD = (
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_FIRST_ODD = -2.76076847742355e-16
_EVEN = (1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
_FIRST_EVEN = 1.19825839466702e-06


def tanh(x: Vector) -> Vector:
    """Return the hyperbolic tangent; NaN stays NaN."""
    x = x.where_above(_LIMIT, _LIMIT, x)
    x = (0.0 - x).where_above(_LIMIT, -_LIMIT, x)
    x2 = x * x
    p = x2.times_plus(_FIRST_ODD, _ODD[0])
    for coefficient in _ODD[1:]:
        p = x2.times_plus(p, coefficient)
    q = x2.times_plus(_FIRST_EVEN, _EVEN[0])
    for coefficient in _EVEN[1:]:
        q = x2.times_plus(q, coefficient)
    return x * p / q


def sigmoid(x: Vector) -> Vector:
    """Return the logistic function, 1 / (1 + exp(-x))."""
    return tanh(0.5 * x).times_plus(0.5, 0.5)
