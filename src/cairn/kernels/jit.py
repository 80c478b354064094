"""How every kernel is compiled: kept on disk, and free of the interpreter lock so that threads run side by side."""

import functools

from numba import njit

kernel = functools.partial(njit, cache=True, nogil=True)
