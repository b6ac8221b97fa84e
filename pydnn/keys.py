"""Random keys: a seed and a path are the address of random numbers, which are never used up.

A draw depends on its key alone and not on the draws before it, so any step of a training can be
computed without the earlier ones. NumPy supplies only the raw bits of Philox, which it promises
never to change. Uniforms, normals and permutations are made from them here, with operations that
IEEE 754 rounds exactly, so a key gives the same bits on every machine.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import DTypeLike, NDArray

from pydnn.checks import MOST_BITS, MOST_SEED, BadInput, expect_count, plain_number
from pydnn.engines import in_use
from pydnn.numerics.quantiles import normal_quantile

__all__ = ["Key"]

Shape = int | Sequence[int]
_AT_ONCE = 1 << 16  # numbers made at a time, few enough that intermediate results stay in cache
_SORTED_AT_ONCE = 1 << 21  # numbers of a permutation that are sorted at a time
_FEW = 1 << 10  # numbers that are sorted as fast in any way
_ROUNDS = 8  # of the permutation that is computed number by number


def _seed(seed: object) -> int:
    if type(seed) is int and 0 <= seed < _TOO_LARGE:  # the usual case, fast: every step makes keys
        return seed
    return expect_count("seed", seed, least=0, most=MOST_SEED, hint="give e.g. Key(1)")


_TOO_LARGE = 1 << MOST_BITS


def _path(path: object) -> tuple[str | int, ...]:
    if type(path) is tuple and all([type(name) in _PLAIN for name in path]):  # the usual case
        return path
    names: list[str | int] = []
    for name in map(plain_number, path) if isinstance(path, tuple) else (path,):
        if not isinstance(path, tuple) or isinstance(name, bool) or not isinstance(name, str | int):
            raise BadInput(
                f"key path holds {name!r}, expected names and integers: "
                'give e.g. key.at("dropout", layer, iteration).'
            )
        names.append(name)
    return tuple(names)


_PLAIN = (str, int)


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(shape) if isinstance(shape, Sequence) else (int(shape),)


@attrs.frozen
class Key:
    """The address of random numbers: a seed, and a path of names and integers.

    Equal keys give equal numbers, on every machine. Keys with different paths give independent
    numbers.

    Raises:
        BadInput: If the seed is not an integer of 0 or more, or the path holds anything but names
            and integers.

    Example:
        >>> key = nn.Key(1)
        >>> key.at("X").normal(3).round(3)
        array([-0.134, -0.412,  0.039])
        >>> key.at("X").normal(3).round(3)  # the same key, the same numbers
        array([-0.134, -0.412,  0.039])
        >>> key.at("layer", 2)
        Key(seed=1, path=('layer', 2))
    """

    seed: int = attrs.field(converter=_seed)
    path: tuple[str | int, ...] = attrs.field(default=(), converter=_path)

    def at(self, *path: str | int) -> Key:
        """Return the key at `path` below this one, e.g. `key.at("dropout", layer, iteration)`."""
        return Key(self.seed, self.path + path)

    def bits(self, shape: Shape = ()) -> NDArray[np.uint64]:
        """Draw 64 random bits for each entry of an array of this shape.

        References:
            Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011 (Philox 4x64-10).
        """
        sizes = _sizes(shape)
        count, key, forms = math.prod(sizes), self._philox_key(), in_use.forms
        if forms is not None:
            drawn = np.empty(count, np.uint64)
            if forms.keys.bits(key, drawn):
                return drawn.reshape(sizes)
        return np.random.Philox(key=key).random_raw(count).reshape(sizes)

    def uniform(self, shape: Shape = (), *, low: float = 0.0, high: float = 1.0) -> _Floats:
        """Draw float64 numbers, uniform from `low` to below `high`, from 53 random bits each."""
        unit = self._drawn("uniform", shape, lambda bits: _floats(bits, 53) * 2.0**-53)
        # The default range needs no scaling, which would cost two roundings and a pass.
        return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit

    def normal(self, shape: Shape = ()) -> _Floats:
        """Draw float64 numbers from the standard normal distribution, from 52 random bits each.

        The quantile function is applied to uniform numbers. The largest magnitude is 8.21, which
        comes once in 2**52 draws.
        """
        # p is a midpoint of 2**52 equal cells, so it is never 0 or 1, and 1 - p is exact.
        return self._drawn(
            "normal", shape, lambda bits: normal_quantile((_floats(bits, 52) + 0.5) * 2.0**-52)
        )

    def integers(self, high: int, shape: Shape = ()) -> NDArray[np.int64]:
        """Draw integers from 0 to `high` - 1; their bias is below 2**-21 for `high` up to 2**32."""
        return np.floor(self.uniform(shape) * high).astype(np.int64)

    def permutation(self, count: int, *, dtype: DTypeLike = np.int64) -> NDArray[np.int64]:
        """Draw a random order of the integers from 0 to `count` - 1.

        Besides the result, it needs a few tens of megabytes, whatever `count` is.

        Args:
            count: The number of integers.
            dtype: The dtype of the result; uint32 takes half of the memory of int64.
        """
        if count <= _SORTED_AT_ONCE:
            return _order_of(self.bits(count)).astype(dtype, copy=False)
        # Those whose random bits lie in the first range come first, and so on. Drawing all bits
        # again for each range takes less time than sorting them, and no memory.
        order, filled = np.empty(count, dtype), 0
        ranges = -(-count // _SORTED_AT_ONCE)
        ends = [i * 2**64 // ranges for i in range(ranges + 1)]
        for least, end in itertools.pairwise(ends):
            numbers, bits = self._with_bits_in(count, least, end, np.dtype(dtype))
            stop = filled + len(numbers)
            order[filled:stop] = numbers[_order_of(bits)]
            filled = stop
        return order

    def _with_bits_in(
        self, count: int, least: int, end: int, dtype: np.dtype[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """The integers below `count` whose random bits lie from `least` to below `end`."""
        generator = np.random.Philox(key=self._philox_key())
        numbers, bits = [], []
        for start in range(0, count, _AT_ONCE):
            drawn = generator.random_raw(min(_AT_ONCE, count - start))
            # In one comparison, because the difference of smaller bits wraps around.
            inside = np.flatnonzero(drawn - np.uint64(least) < np.uint64(end - least))
            numbers.append((inside + start).astype(dtype))
            bits.append(drawn[inside])
        return np.concatenate(numbers), np.concatenate(bits)

    def permuted(self, count: int, which: NDArray[Any]) -> NDArray[np.int64]:
        """Some entries of a random order of the integers from 0 to `count` - 1.

        The order is another one than that of `permutation`: each entry is computed alone, in
        about 0.3 microseconds, so no order of billions of integers has to be in memory.

        Args:
            count: The number of integers, at most 2**62.
            which: The places in the order whose integers are returned, each below `count`.

        References:
            Black and Rogaway, Ciphers with arbitrary finite domains, 2002, section 5 (a Feistel
            network over two digits, and walking along cycles).

        Example:
            >>> np.sort(nn.Key(1).permuted(10, np.arange(10)))
            array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        """
        # An integer is two digits, high * low + its remainder. Adding to one digit a function of
        # the other, modulo the digit's base, can be undone whatever the function is.
        low = math.isqrt(max(0, count - 1)) + 1
        bases = (-(-count // low), low)
        secrets = self.bits(_ROUNDS)
        results, forms = np.array(which, np.uint64), in_use.forms
        if forms is not None:
            permuted = np.empty(results.shape, np.int64)
            if forms.keys.permuted(count, bases, secrets, results, permuted):
                return permuted
        left = np.arange(results.size)  # the places whose integer is still `count` or more
        while left.size:
            digits = list(np.divmod(results[left], np.uint64(low)))
            for i, secret in enumerate(secrets):
                changed, other = i % 2, 1 - i % 2
                base = np.uint64(bases[changed])
                digits[changed] = (digits[changed] + _mixed(digits[other], secret) % base) % base
            results[left] = digits[0] * np.uint64(low) + digits[1]
            left = left[results[left] >= count]
        return results.astype(np.int64)

    def _drawn(
        self, kind: str, shape: Shape, function: Callable[[NDArray[np.uint64]], _Floats]
    ) -> _Floats:
        """Apply `function` to 64 random bits per entry, block by block to save memory."""
        sizes = _sizes(shape)
        drawn = np.empty(math.prod(sizes))
        key, forms = self._philox_key(), in_use.forms
        if forms is not None and getattr(forms.keys, kind)(key, drawn):
            return drawn.reshape(sizes)
        generator = np.random.Philox(key=key)
        for start in range(0, drawn.size, _AT_ONCE):
            some = drawn[start : start + _AT_ONCE]
            some[:] = function(generator.random_raw(some.size))
        return drawn.reshape(sizes)

    def _philox_key(self) -> int:
        text = f"seed {self.seed}"
        for part in self.path:  # with the length of each name, no two paths have the same text
            text += f"/int {part}" if isinstance(part, int) else f"/str {len(part)} {part}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


_Floats = NDArray[np.float64]


def _order_of(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The order that sorts random bits, where equal ones keep their order.

    It is `np.argsort(bits, kind="stable")`, in a tenth of the time where NumPy's sort of plain
    numbers uses vector instructions.
    """
    forms = in_use.forms
    if forms is not None:
        order = np.empty(bits.size, np.int64)
        if forms.keys.order_of(bits, order):
            return order
    if bits.size < _FEW:
        return np.argsort(bits, kind="stable")
    low = np.uint64((bits.size - 1).bit_length())
    numbers = np.arange(bits.size, dtype=np.uint64)
    # The number of each entry takes the place of its last bits, so no two are equal.
    packed = bits >> low << low | numbers
    packed.sort()
    order = (packed & (np.uint64(1) << low) - np.uint64(1)).astype(np.int64)
    packed >>= low
    ties = np.flatnonzero(packed[1:] == packed[:-1])  # few, since most bits are left
    for group in np.split(ties, np.flatnonzero(np.diff(ties) > 1) + 1) if ties.size else ():
        tied = slice(group[0], group[-1] + 2)
        order[tied] = order[tied][np.argsort(bits[order[tied]], kind="stable")]
    return order


def _mixed(numbers: NDArray[np.uint64], secret: np.uint64) -> NDArray[np.uint64]:
    """Numbers of 64 bits, each of which depends on all bits of a number and of the secret.

    References:
        Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014 (its mixing
        function, in the variant 13 of Stafford).
    """
    mixed = numbers + secret
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _floats(bits: NDArray[np.uint64], count: int) -> _Floats:
    """Return the first `count` of each 64 bits, at most 53, as whole numbers."""
    return (bits >> np.uint64(64 - count)).astype(np.float64)
