"""Memory inside kernels: copies of pieces, by the functions that the compiler has for them.

A loop would do the same, but takes much longer to compile: the compiler has to find out whether the
pieces overlap, and which indices are negative.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

__all__ = ["clear", "copy", "to_read"]


def _copy(context: Any, source: Any, at: Any, target: Any, to: Any, n: Any) -> Any:
    """Copy numbers `at` to `at + n` of a vector to where another one has `to`, in a kernel.

    Both have one dtype, and the pieces must not overlap.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, at, target, to, n = arguments
        from_ = _place(context, builder, signature.args[0], source, at)
        into = _place(context, builder, signature.args[2], target, to)
        size = builder.mul(n, _bytes(context, signature.args[0]))
        cgutils.raw_memcpy(builder, into, from_, size, 1)
        return context.get_dummy_value()

    return types.void(source, types.int64, target, types.int64, types.int64), generate


def _clear(context: Any, target: Any, to: Any, n: Any) -> Any:
    """Set numbers `to` to `to + n` of a vector to 0, in a kernel."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, to, n = arguments
        into = _place(context, builder, signature.args[0], target, to)
        cgutils.memset(builder, into, builder.mul(n, _bytes(context, signature.args[0])), 0)
        return context.get_dummy_value()

    return types.void(target, types.int64, types.int64), generate


def _to_read(context: Any, array: Any) -> Any:
    """Return the same array as one that cannot be written to, in a kernel.

    Numba compiles a kernel again for each combination of arrays of both kinds. So all operands of
    some kernels are of this kind, whether they come from outside or were filled a moment ago.
    """
    result = array.copy(readonly=True)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return impl_ret_borrowed(context, builder, signature.return_type, arguments[0])

    return result(array), generate


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _bytes(context: Any, kind: Any) -> Any:
    return ir.IntType(64)(context.get_abi_sizeof(context.get_value_type(kind.dtype)))


copy: Any = intrinsic(_copy)
clear: Any = intrinsic(_clear)
to_read: Any = intrinsic(_to_read)
