"""Mutants that survive since they change nothing that can be seen, each with the reason."""

RECORD = "the record that it goes into makes a read-only view of every array"
CHEAP = "a cheap look, before the same question is asked in full: the other way takes more time"
AT_ZERO = "both sides give the same number at 0, where alone they are exchanged"
UNUSED = "what is made of these numbers is not used"
WAYS = "it is chosen by size between ways that give the same, to rounding, in other times"

# By file, "" being all of them, and a part of what the mutant is called.
EQUIVALENT = {
    ("pydnn/stages/activations.py", "np.where(Z > 0, scale * Z, below) |"): AT_ZERO,
    ("pydnn/stages/activations.py", "np.where(Z > 0, Z, slope * Z), |"): AT_ZERO,
    ("pydnn/stages/activations.py", ".minimum(Z, 0)) -> .minimum(Z, 1))"): UNUSED,
    ("pydnn/stages/base.py", "wants_dA_prev: bool = True"): (
        "a stage that is not thrifty makes dA_prev in any case, and the keyword is not looked at"
    ),
    ("pydnn/stages/batch_norm.py", "_as_it_is("): RECORD,
    ("pydnn/stages/layer_norm.py", "Z_norm = freeze("): RECORD,
    ("pydnn/stages/layer_norm.py", "NormCache(Z_norm, freeze(deviation)"): RECORD,
    ("pydnn/stages/dense.py", "grads = DenseGrads(freeze(dW)"): RECORD,
    ("pydnn/stages/dropout.py", "D = freeze(kept"): RECORD,
    ("pydnn/stages/dense.py", "len(A_prev) != W.shape[1]: n_in = -> if True:"): CHEAP,
    ("pydnn/stages/dense.py", "if A_prev.dtype is not W.dtype: expec -> if True:"): CHEAP,
    ("pydnn/stages/dense.py", "if A_prev.flags.writeable: A_pre -> if True:"): CHEAP,
    ("pydnn/stages/dense.py", "self.W.ndim != 2: expect -> if True:"): CHEAP,
    ("pydnn/stages/dense.py", "self.W.ndim == 2:"): CHEAP,
    ("pydnn/stages/dense.py", "-> .shape[:1], 2) or self.W."): CHEAP,
    ("pydnn/stages/dense.py", "-> lf.W.shape[:2], 1) or sel"): CHEAP,
    ("pydnn/stages/layer_norm.py", "len(params.gamma): hint = -> if True:"): CHEAP,
    ("pydnn/stages/parallel.py", "-> below(i) if True else conte"): (
        "a place is made for a stage that does not look at it"
    ),
    ("pydnn/stages/serial.py", "-> below(i) if True else conte"): (
        "a place is made for a stage that does not look at it"
    ),
    ("pydnn/stages/serial.py", "i = 0 | i = 0 -> i = 1"): "the loop sets it before anything raises",
    ("pydnn/stages/serial.py", "an activation has nothing to save: no detour"): (
        "the detour gives the same, in more time"
    ),
    ("pydnn/losses.py", "if np.count_nonzero(hot) != Y.size: _expe -> if True:"): CHEAP,
    ("pydnn/losses.py", "if Y.shape != AL.shape: expec -> if True:"): CHEAP,
    ("pydnn/losses.py", "if Y.shape != Z.shape: expec -> if True:"): CHEAP,
    ("pydnn/losses.py", "if Y.shape != Z.shape: _diff -> if True:"): CHEAP,
    ("pydnn/losses.py", "min(initial=0.0) >= 0: -> min(initial=1.0)"): (
        "a least weight below 0 is below both"
    ),
    ("pydnn/losses.py", "0, keepdims=False)"): (
        "m numbers are taken from m columns in the same way as a row of them is"
    ),
    ("pydnn/optimizers.py", "return _as_it_is(np.zeros_li"): RECORD,
    ("pydnn/optimizers.py", "State(_as_it_is("): RECORD,
    ("pydnn/optimizers.py", "damState(t, _as_it_is("): RECORD,
    ("pydnn/optimizers.py", "radState(t, _as_it_is("): RECORD,
    ("pydnn/optimizers.py", "eeze(mean), _as_it_is(square)"): RECORD,
    ("pydnn/optimizers.py", "ze(square), _as_it_is(largest)"): RECORD,
    ("pydnn/optimizers.py", "gained = g if share == 1 else"): (
        "gradients times 1 are the gradients"
    ),
    ("pydnn/passes.py", "if steps and work.kernel is multiply: kernel -> if False"): (
        "it is one product more, to the same numbers but for rounding"
    ),
    ("pydnn/passes.py", "if factors else update -> updates) if True"): (
        "a stretch is made that is not used"
    ),
    ("pydnn/transformations.py", "if inside != [()] else None"): (
        "an empty tuple has no average in it, either"
    ),
    ("pydnn/transformations.py", "if norm <= limit else -> ds if norm < limit else"): (
        "a vector of just that length is multiplied by 1"
    ),
    ("pydnn/transformations.py", "np.ones(0) if at ="): "there is no number in it",
    ("pydnn/transformations.py", "(_as_it_is(state.total"): RECORD,
    ("pydnn/transformations.py", "_as_it_is(average)"): RECORD,
    ("pydnn/numerics/fast.py", "_FEW_ROWS, _MANY, _SMALL ="): WAYS,
    ("pydnn/numerics/fast.py", "if b.size < _SMALL and a.size < _SMALL: |"): WAYS,
    ("pydnn/numerics/fast.py", "few = len(a) <= _FEW_ROWS |"): WAYS,
    ("pydnn/numerics/fast.py", "if few and b.size >= _MANY: |"): WAYS,
    ("pydnn/numerics/fast.py", "if few and _ONE_THREADS_WORK < "): WAYS,
    ("pydnn/numerics/fast.py", "_ONE_THREADS_WORK, _LITTLE_WORK ="): WAYS,
    ("pydnn/numerics/fast.py", "if out is None and b.flags.f_contiguous: |"): WAYS,
    ("pydnn/numerics/fast.py", "a = np.asfortranarray(a) if a.size < b.size // 100 else a |"): WAYS,
    ("pydnn/numerics/fast.py", "a.dtype) if out is None else out) -> a.dtype) if False"): WAYS,
    ("pydnn/numerics/fast.py", "if room is None: |"): WAYS,
    ("pydnn/numerics/fast.py", "_ROWS_OF_A_BLOCK = 4096"): WAYS,
    ("pydnn/numerics/fast.py", "if count > 1: |"): (
        "the basis of one block is turned within its own span"
    ),
    ("pydnn/numerics/fast.py", "return _as_it_is(np.zeros("): "nobody else gets hold of it",
    ("pydnn/numerics/fast.py", "if a.size < _TINY and axis == 1 and a.shape[1] <="): WAYS,
    ("pydnn/numerics/fast.py", "if 1e-30 < square < math.inf: |"): WAYS,
    ("pydnn/numerics/fast.py", "return _as_it_is(np.ones((m,"): "nobody else gets hold of it",
    ("pydnn/numerics/fast.py", "_ERF_IS_ONE = 6.0"): "it is 1 there to all digits",
    ("pydnn/numerics/fast.py", "small = a <= 0.46875 |"): (
        "both approximations hold there to the last digit"
    ),
    ("pydnn/numerics/fast.py", "near = np.where(small, a, 0) |"): UNUSED,
    ("pydnn/numerics/fast.py", "far = np.where(small, 1, a) |"): UNUSED,
    ("pydnn/numerics/fast.py", "np.where(Z >= 0, 1, e) / -> np.where(Z > 0, 1, e) /"): AT_ZERO,
    ("pydnn/numerics/fast.py", "_TINY, _FEW_COLUMNS ="): WAYS,
    ("pydnn/losses.py", "np.ceil(Y) == Y"): "whole numbers are their own floor and ceiling",
    ("pydnn/losses.py", "if smoothing: Y = Y -> if True:"): "labels smoothed by 0 are the labels",
    ("pydnn/losses.py", "if smoothing: T = T -> if True:"): "labels smoothed by 0 are the labels",
    ("pydnn/losses.py", "if not dearer: return -> if False:"): (
        "the general form, which gives the same for weights of 1, in more time"
    ),
}
