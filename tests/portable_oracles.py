"""The specification of portable arithmetic, written with fractions: slow but easy to check."""

import math
import operator
from fractions import Fraction

import numpy as np

from pydnn.numerics.portable.products import FEW

FORMATS = {np.float32: (24, -126, 128), np.float64: (53, -1022, 1024)}


def rounded(x, dtype=np.float64):
    """Return the float nearest to a fraction, with ties to even and positive zeros."""
    bits, least, most = FORMATS[dtype]
    if x == 0:
        return 0.0
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    if Fraction(2) ** exponent > abs(x):
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, least) - bits + 1)
    value = round(x / unit) * unit  # Python rounds ties of fractions to even
    if abs(value) >= Fraction(2) ** most:
        return math.inf if x > 0 else -math.inf
    return float(value) + 0.0


def over_one_denominator(line):
    """Return a list of floats as integers over their least common denominator."""
    ratios = [x.as_integer_ratio() for x in line]
    denominator = max((d for _, d in ratios), default=1)  # the largest: all are powers of 2
    return [n * (denominator // d) for n, d in ratios], denominator


def dot(row, column):
    """Return the exact dot product of two lists of integers over one denominator each."""
    (a, d), (b, e) = row, column
    return Fraction(sum(map(operator.mul, a, b)), d * e)


def nearest_product(a, b):
    """Return the product whose entries are the float32 nearest to the exact dot products."""
    rows, columns = (list(map(over_one_denominator, x.tolist())) for x in (a, b.T))
    places = [[rounded(dot(row, column), np.float32) for column in columns] for row in rows]
    return np.array(places, np.float32).reshape(len(a), b.shape[1])


def tree(numbers):
    """Return the sum of a list of floats by halving."""
    numbers = list(numbers)
    while len(numbers) > 1:
        c = -(-len(numbers) // 2)
        numbers = [
            x + numbers[c + i] if c + i < len(numbers) else x for i, x in enumerate(numbers[:c])
        ]
    return (numbers[0] if numbers else 0.0) + 0.0


def product(a, b, *, first=None):
    """Return the first rows, or all, of the float64 product, by the tree or by slices."""
    m, k = a.shape
    if m * k <= FEW:
        places = [
            [tree(x * y for x, y in zip(r, c, strict=True)) for c in b.T.tolist()]
            for r in a[:first].tolist()
        ]
        return np.array(places).reshape(-1, b.shape[1])
    spent = math.ceil(math.log2(k)) if k > 1 else 0
    p_left, p_right = (54 - spent) // 2, (53 - spent) // 2
    s = next(s for s in range(1, 9) if s * (p_right + 1) - 1 >= 44)
    rows = [slices(row, p_left, s) for row in a[:first].tolist()]
    columns = [slices(column, p_right, s) for column in b.T.tolist()]
    return np.array([[_place(row, column, s) for column in columns] for row in rows])


def nearest_integer(n, d):
    """Return the integer nearest to n / d, with ties to even."""
    whole, rest = divmod(n, d)
    return whole + (2 * rest > d or (2 * rest == d and whole % 2))


def slices(line, p, s):
    """Return the slices of a line, scaled by 2**-e, as integers over a denominator, and e."""
    e = max(math.frexp(max(map(abs, line)))[1], -960)
    rest, denominator = over_one_denominator(line)
    finest = 2 ** (p + s * (p + 1) + 2200)  # so large that every quotient below is a whole number
    rest = [x * finest // denominator * 2**960 // 2 ** (e + 960) for x in rest]
    parts = []
    for i in range(s):
        unit = finest // 2 ** (p + i * (p + 1))
        parts.append([nearest_integer(x, unit) for x in rest])
        rest = [x - q * unit for x, q in zip(rest, parts[-1], strict=True)]
    return [(part, 2 ** (p + i * (p + 1))) for i, part in enumerate(parts)], e


def _place(row, column, s):
    (left, e), (right, f) = row, column
    levels = []
    for level in range(2, s + 2):
        total = None
        for j in range(1, level):
            exact = dot(left[level - j - 1], right[j - 1])
            assert Fraction(rounded(exact)) == exact  # exact within the budget of bits
            total = exact if total is None else Fraction(rounded(total + exact))
        levels.append(total)
    total = levels.pop()
    while levels:
        total = Fraction(rounded(levels.pop() + total))
    return rounded(total * Fraction(2) ** (e + f))
