"""The few loops that must be fast, in numba, each tested equal to its plain twin.

Nothing here imports another room, and no room imports this one at its top: numba takes half a second to load, so a
function that needs a kernel imports it when it is called. Compiled code is kept in `__pycache__` beside the source.
"""
