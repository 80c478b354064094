"""How every kernel is compiled: kept on disk, and free of the interpreter lock so that threads run side by side."""

import functools

from numba import njit

# Trap: numba looks at a kernel's own file alone to see whether its compiled code is old. After a change to a kernel that
# others call, `make clean` (or delete the `__pycache__` of this folder).
kernel = functools.partial(njit, cache=True, nogil=True)
# A call costs as much as several characters' work: numba passes an array as seven values and counts references to it.
inlined = functools.partial(njit, inline="always", nogil=True)
