"""The specification of portable arithmetic in fractions: slow, and plain to see."""

import math
from fractions import Fraction

import numpy as np

from pydnn.numerics.portable.products import FEW

FORMATS = {np.float32: (24, -126, 128), np.float64: (53, -1022, 1024)}


def rounded(x, dtype=np.float64):
    """The float nearest to a fraction, ties to even; zero is positive, too much is infinite."""
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


def nearest_product(a, b):
    """Each place the float32 nearest to the true dot product."""
    rows, columns = ([list(map(Fraction, line)) for line in x.tolist()] for x in (a, b.T))
    return np.array(
        [
            [
                rounded(sum(map(Fraction.__mul__, row, column), Fraction(0)), np.float32)
                for column in columns
            ]
            for row in rows
        ],
        np.float32,
    ).reshape(len(a), b.shape[1])


def tree(numbers):
    """The sum of a list of floats by halving."""
    numbers = list(numbers)
    while len(numbers) > 1:
        c = -(-len(numbers) // 2)
        numbers = [
            x + numbers[c + i] if c + i < len(numbers) else x for i, x in enumerate(numbers[:c])
        ]
    return (numbers[0] if numbers else 0.0) + 0.0


def product(a, b, *, first=None):
    """The first rows, or all, of the float64 product, by the tree or by slices."""
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


def slices(line, p, s):
    """The slices of a line as fractions, scaled by 2**-e, and e."""
    e = max(math.frexp(max(map(abs, line)))[1], -960)
    parts, rest = [], [Fraction(x) / Fraction(2) ** e for x in line]
    for i in range(s):
        unit = Fraction(1, 2 ** (p + i * (p + 1)))
        parts.append([round(x / unit) * unit for x in rest])
        rest = [x - q for x, q in zip(rest, parts[-1], strict=True)]
    return parts, e


def _place(row, column, s):
    (left, e), (right, f) = row, column
    levels = []
    for level in range(2, s + 2):
        total = None
        for j in range(1, level):
            exact = sum(map(Fraction.__mul__, left[level - j - 1], right[j - 1]), Fraction(0))
            assert Fraction(rounded(exact)) == exact  # the budget
            total = exact if total is None else Fraction(rounded(total + exact))
        levels.append(total)
    total = levels.pop()
    while levels:
        total = Fraction(rounded(levels.pop() + total))
    return rounded(total * Fraction(2) ** (e + f))
