"""What a demonstration is: a title, and a function that draws into a folder and says what it found.

>>> from pathlib import Path
>>> greeting = Demo("a greeting", lambda out: [f"hello from {out.name}"])
>>> greeting.draw(Path("pictures"))
['hello from pictures']
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Demo(NamedTuple):
    title: str  # one line: what is seen
    draw: Callable[[Path], list[str]]  # writes its pictures into the folder, returns the lines to print
