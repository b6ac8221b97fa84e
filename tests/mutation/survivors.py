"""Mutants that survive since they change nothing that can be seen, each with the reason."""

AT_ZERO = "both sides give the same number at 0, where alone they are exchanged"
UNUSED = "what is made of these numbers is not used"
OVERLAP = "both forms hold there to the last digit"
SCALED = "scaled by a power of two or not, numbers of such sizes have the same length to the bit"
SAME_ORDER = "both ways add in the same order, in other times"
LIMIT = "no matrix is known whose error is just that: it is 1e-15 or near 1"
BEYOND = "it is beyond any digit, or exponent, of a float64"
WORK = "who does the work, in pieces of which size, and on how many threads, changes no bit"
SETTLED = "sums in doubt are settled to the same bits, and so are more of them"
PROVEN = "a proof needs this bound, but the errors of all sums that are known are far smaller"
ENDS = "beyond such numbers all results are the same: 0, 1, -1 or infinite"
EQUAL = "both sides are the same number there"
NEVER = "there is no such case"
ANY_SIZE = "NumPy takes any negative size for the one that is left"
ROOM = "more room is made than is used"
ITS_OWN = "each part of the work sets its own"

COMPILED = "pydnn/compiled/"
PORTABLE = COMPILED + "portable/"

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
    (PORTABLE + "elementary.py", "-> NTEGER = 1.5150000000000001"): (
        "adding it rounds to an integer, too"
    ),
    (PORTABLE + "elementary.py", "-> w(np.int64) + _BITS_OF_TO"): (
        "only the last 12 bits of n count, and these are zeros in the bits of _TO_INTEGER"
    ),
    (PORTABLE + "elementary.py", "half = n >> 1 -> half = n >> 2"): (
        "the first of both products is exact"
    ),
    **{
        (PORTABLE + "elementary.py", line): ENDS
        for line in (
            "limited = x if x > -746.0 else -746.0 |",
            "limited = limited if limited < 710.0 else 710.0 |",
            "limited = x if x > -50.0 else -50.0 |",
            "_reduced(double if double < 44.0 else 44.0) |",
            "_reduced(below if below > -746.0 else -746.0) |",
        )
    },
    **{
        (PORTABLE + "elementary.py", part): EQUAL
        for part in (
            "-> ), n) if x >= 40.0 else m",
            "-> tiny = x <= _NORMAL",
            "-> = (u if x <= 0.0 else v)",
            "-> a = a if a <= _ERF_IS_ONE",
        )
    },
    (PORTABLE + "elementary.py", "-> n) if x > 41.0 else midd"): OVERLAP,
    (PORTABLE + "elementary.py", "-> ) if x > 40.4 else middle"): OVERLAP,
    (PORTABLE + "elementary.py", "number = x if usual else 1.0 |"): UNUSED,
    (PORTABLE + "elementary.py", "near = a if small else 0.0 |"): UNUSED,
    (PORTABLE + "elementary.py", "far = 1.0 if small else a |"): UNUSED,
    **{
        (COMPILED + file, line): WORK
        for file, lines in {
            "portable/sums.py": ["_WORTH_A_CALL =", "> _WORTH_A_CA", "-> d n and (q >= 1) and"],
            "portable/products.py": ["_WORTH_A_CALL =", "_WIDE = 64", "-> b.shape[1] <= _WORTH"],
            "portable/forms.py": ["view.flags.writeable = False |"],
            "portable/blocks.py": ["COLUMNS_OF_A_BLOCK, _ROWS =", "if n < COLUMNS_OF_A_BLOCK:"],
            "portable/nearest.py": [
                "_FEW = 256",
                "_SMALL = 1 <<",
                "_PACKED = 1 <<",
                "_WORTH_A_THREAD = 1 <<",
                "if a.size * b.shape[1] > _SMALL:",
                "at_once = max(LINES,",
                "-> if True: packe",
                "threads = threads_for(",
                "-> 0 <= count < _FEW",
                "if left_turned or right_turned",
                "-> if False: start",
            ],
            "portable/slices.py": [
                "_PACKED = 1 <<",
                "at_once = min(max(",
                "at_once = max(at_once //",
                "threads = threads_for(",
                "-> if True: low, h",
                "-> high = (k, 1)",
                "-> rm), term + 2)",
                "-> in((group + 2) * WIDE, n)",
            ],
            "pooling.py": ["_LEAST = 1 <<", "_LANES = 2048", "dA_prev.nbytes >= max(1, _LEAST)"],
            "keys.py": [
                "_AT_ONCE = 1 <<",
                "_WORTH_A_THREAD = 1 <<",
                "_IN_A_BUCKET = 4",
                "if far: #",
                "far = False |",
                "kept += 1 |",
                "count, kept = bits.size, 1 |",
            ],
        }.items()
        for line in lines
    },
    **{
        (PORTABLE + "dense.py", part): SETTLED
        for part in (
            "-> _ULP = 2.0 * -53",
            "-> _ULP = 2.02 **",
            "-> P = 2.0 ** (+53)",
            "-> ) * _ULP if True else 0.0",
            "-> _ULP if k >= 1 else 0.0",
            "-> e = (k + 8) / _ULP",
            "-> k > 1 else 1.0",
            "-> _one = (k + 9)",
            "-> if True: for j",
            "-> doubts -= np.float32",
            "-> und_of_one, 1)",
            "columns[j] = 0.0 |",
            "total = 0.0 |",
            "-> if False: contin",
            "-> not bound <= math.inf:",
        )
    },
    (PORTABLE + "dense.py", "-> = 2.0 ** (-54)"): PROVEN,
    (PORTABLE + "losses.py", "-> if Z[k, j] >= largest[j]"): EQUAL,
    (PORTABLE + "losses.py", "-> label != np.ceil(label):"): (
        "whole numbers are their own floor and ceiling"
    ),
    (PORTABLE + "sums.py", "reshape(-1)"): ANY_SIZE,
    (COMPILED + "pooling.py", "reshape(-1)"): ANY_SIZE,
    **{
        (PORTABLE + "nearest.py", part): SETTLED
        for part in (
            "-> _ULP = 2.0 * -53",
            "-> _ULP = 2.02 **",
            "-> P = 2.0 ** (+53)",
            "has_terms(left, left_turned, i, right, right_turned, j): |",
            "if doubts: |",
            "doubts = 0 |",
            "-> doubts -= lower",
            "size - 1) // size + 8) * _ULP | / size",
            "-> if True: neares",
            "-> if False: contin",
            "-> (m, k)), np.ones(m))",
            "-> (k, n)), np.ones(n))",
            "-> itions + 8) / _ULP",
            "-> additions + 9)",
            "-> _lengths[i] / ((additions",
            "bounds[i] *= unit |",
            "-> ) // size + 9) *",
        )
    },
    **{
        (PORTABLE + "nearest.py", part): PROVEN
        for part in (
            "-> = 2.0 ** (-54)",
            "left_out *= 1.0625",
            "-> r left_out < abs(high)",
            "-> ((additions - 8)",
            "unit = (size + (k + size - 1) // size + 8)",
        )
    },
    (PORTABLE + "nearest.py", "-> 1 if (low >= 0.0)"): NEVER,
    (PORTABLE + "nearest.py", "-> ) == (high >= 0.0)"): NEVER,
    (PORTABLE + "nearest.py", "total = 0.0 |"): "a sum is infinite, or is not, with 1 more, too",
    (PORTABLE + "nearest.py", "return -1 |"): "any number below 0 says the same",
    (PORTABLE + "nearest.py", "counts = [0] * threads"): ITS_OWN,
    (PORTABLE + "nearest.py", "finite = [False] * threads"): ITS_OWN,
    (PORTABLE + "nearest.py", "if count: |"): "no places are added of none",
    (PORTABLE + "slices.py", "done = [False] * threads"): ITS_OWN,
    (PORTABLE + "slices.py", "filled = [False] * threads"): ITS_OWN,
    (PORTABLE + "slices.py", "-> = 2 ** 63 - 2"): "only the exponents of magnitudes count",
    (PORTABLE + "slices.py", "-> 0 or least < magnitude"): SCALED,
    (PORTABLE + "slices.py", "-> magnitude <= most):"): SCALED,
    (PORTABLE + "slices.py", "products = np.empty("): ROOM,
    (PORTABLE + "slices.py", "-> * WIDE + j] - 0.0"): "a sum that begins with 0 is never -0.0",
    (COMPILED + "keys.py", "-> low = m <= _ROOT_HALF"): NEVER,
    (COMPILED + "keys.py", "-> if abs(q) < 0.425"): NEVER,
    (COMPILED + "keys.py", "-> far |= r >= 5.0"): NEVER,
    (COMPILED + "keys.py", "-> if r >= 5.0"): NEVER,
    (COMPILED + "keys.py", "-> (2 ** 52 - 2, 1022 << 52"): (
        "these numbers below 1/2 have no bit in the last place"
    ),
    (COMPILED + "keys.py", "-> k in range(13)))"): BEYOND,
    (COMPILED + "keys.py", "-> nt64(start / 4) + one"): "it is a multiple of 4",
}
