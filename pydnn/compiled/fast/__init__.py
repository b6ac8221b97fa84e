"""Steps in `fast` arithmetic: kernels that call the functions which NumPy would call.

Products are those of BLAS, functions such as exp and sums are the loops inside NumPy. So all bits
are those of the NumPy path on this machine, with the same libraries and number of threads.
"""
