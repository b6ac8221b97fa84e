"""Mutants that survive since they change nothing that can be seen, each with the reason."""

AT_ZERO = "both sides give the same number at 0, where alone they are exchanged"
UNUSED = "what is made of these numbers is not used"
OVERLAP = "both forms hold there to the last digit"
SCALED = "scaled by a power of two or not, numbers of such sizes have the same length to the bit"
SAME_ORDER = "both ways add in the same order, in other times"
LIMIT = "no matrix is known whose error is just that: it is 1e-15 or near 1"
BEYOND = "it is beyond any digit, or exponent, of a float64"

# By file, and a part of what the mutant is called.
EQUIVALENT = {
    ("pydnn/stages/activations.py", "np.where(Z > 0, scale * -> np.where(Z >= 0"): AT_ZERO,
    ("pydnn/stages/activations.py", "np.where(Z > 0, Z, slope -> np.where(Z >= 0"): AT_ZERO,
    ("pydnn/stages/activations.py", ".minimum(Z, 0)) -> .minimum(Z, 1))"): UNUSED,
    ("pydnn/losses.py", "min(initial=0.0) >= 0: -> min(initial=1.0)"): (
        "a least weight below 0 is below both"
    ),
    ("pydnn/losses.py", "np.ceil(Y) == Y"): "whole numbers are their own floor and ceiling",
    ("pydnn/losses.py", "if smoothing: Y = Y -> if True:"): "labels smoothed by 0 are the labels",
    ("pydnn/losses.py", "if smoothing: T = T -> if True:"): "labels smoothed by 0 are the labels",
    ("pydnn/optimizers/momentum.py", "-> ined = g if False else g * s"): (
        "gradients times 1 are the gradients"
    ),
    (
        "pydnn/optimizers/momentum.py",
        "-> if share == 2 else g * s",
    ): "gradients times 1 are the gradients",
    ("pydnn/optimizers/fused.py", "if factors else update -> updates) if True"): (
        "a stretch is made that is not used"
    ),
    ("pydnn/numerics/portable/scalars.py", "abs(term) >= _LEAST_TERM"): BEYOND,
    ("pydnn/numerics/portable/scalars.py", "-> ntext(prec=41"): BEYOND,
    ("pydnn/numerics/portable/scalars.py", "-> EVEN, Emin=-1000000"): BEYOND,
    ("pydnn/numerics/portable/scalars.py", "-> 99999, Emax=1000000"): BEYOND,
    ("pydnn/numerics/portable/scalars.py", "-> ls=1, clamp=1"): BEYOND,
    ("pydnn/numerics/portable/sums.py", "a.size <= BLOCK: work, -> if False"): SAME_ORDER,
    ("pydnn/numerics/portable/sums.py", "-> 0 < a.size < BLOCK"): SAME_ORDER,
    ("pydnn/numerics/portable/sums.py", "-> if 1 < a.size <="): SAME_ORDER,
    ("pydnn/numerics/portable/sums.py", "if n <= BLOCK: work, -> if True"): SAME_ORDER,
    ("pydnn/numerics/portable/sums.py", "if n <= BLOCK: work, -> if False"): SAME_ORDER,
    ("pydnn/numerics/portable/sums.py", "-> tree_of((n, 2), 0, 'd')"): (
        "a second column is added up that nobody reads"
    ),
    ("pydnn/numerics/portable/sums.py", "-> if n < BLOCK"): SAME_ORDER,
    ("pydnn/numerics/portable/sums.py", "<= square <= 2.0 ** (2 * _PLAIN - 1): |"): SCALED,
    ("pydnn/numerics/portable/sums.py", "_PLAIN = 200 -> _PLAIN = 201"): SCALED,
    ("pydnn/numerics/portable/sums.py", "-> < largest <= math.inf:"): "inf is its own length",
    ("pydnn/numerics/portable/sums.py", "-> if not 0.0 <= largest"): "0 is its own length",
    ("pydnn/numerics/portable/sums.py", "< math.inf: return -> if False"): "so are both",
    ("pydnn/numerics/threads.py", "-> if True: os.reg"): "tests fork only where it exists",
    ("pydnn/numerics/threads.py", "OST_THREADS - 1, thread_n -> OST_THREADS + 1"): (
        "there are threads with nothing to do"
    ),
    ("pydnn/numerics/threads.py", "// vectors[1].itemsize"): "vectors are of one dtype",
    ("pydnn/numerics/small_products.py", "READS_WORK < a.size * b. -> READS_WORK <= a.size * b."): (
        "what is just the work of one thread is one piece"
    ),
    ("pydnn/numerics/fast.py", "-> if 1e-30 <= square"): OVERLAP,
    ("pydnn/numerics/fast.py", "-> if 1.01e-30 < squar"): OVERLAP,
    ("pydnn/numerics/fast.py", "itial=0.0) > 1e-13: -> itial=0.0) >= 1e-13"): LIMIT,
    ("pydnn/numerics/fast.py", "ial=0.0) > 1e-13: re -> ial=0.0) > 1.01e-13"): LIMIT,
    ("pydnn/numerics/fast.py", "RF_IS_ONE = 6.0 ->"): "the function is 1 there to all digits",
    ("pydnn/numerics/fast.py", "IS_ONE = 6.0 ->"): "the function is 1 there to all digits",
    ("pydnn/numerics/fast.py", "small = a <= 0.46875 -> small = a < 0.46875"): OVERLAP,
    ("pydnn/numerics/fast.py", "l = a <= 0.46875 -> l = a <= 0.4734375"): OVERLAP,
    ("pydnn/numerics/fast.py", "near = np.where(small, a, 0) |"): UNUSED,
    ("pydnn/numerics/fast.py", "far = np.where(small, 1, a) |"): UNUSED,
    ("pydnn/numerics/fast.py", "np.where(Z >= 0, 1, e) / -> np.where(Z > 0, 1, e) /"): AT_ZERO,
}
