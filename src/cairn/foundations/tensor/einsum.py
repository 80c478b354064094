"""Einstein's notation for sums of products: "bij,bjk->bik" says all that there is to say about a product of matrices.

Every letter is an axis; letters that the result leaves out are summed over. Any such product of two arrays is a stack of
matrix products once their axes are sorted into four kinds: in both and in the result (the stack), in both and summed
(multiplied along), in one alone. So einsum needs no rule of its own: it is transpose, reshape and matmul, and their rules
make its gradients, of any order.

>>> from cairn.foundations.tensor import Tensor
>>> a = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
>>> einsum("ij,kj->ik", a, a).data
array([[ 5., 14.],
       [14., 50.]])
>>> float(einsum("ii", np.ones((4, 4))))  # the trace
4.0
"""

import math
from collections import Counter
from typing import Any

import numpy as np

from cairn.foundations.tensor.graph import Variable, plain
from cairn.foundations.tensor.indexing import getitem
from cairn.foundations.tensor.products import matmul
from cairn.foundations.tensor.reductions import sum
from cairn.foundations.tensor.shapes import reshape, transpose

_SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # names for the axes under an ellipsis


def einsum(subscripts: str, *operands: Any) -> Any:
    """Sum of products as `numpy.einsum` defines it, for any number of operands.

    Without "->" the result has the letters that occur once, in alphabetical order. "..." stands for axes in front that are
    broadcast. A letter twice in one operand is its diagonal.
    """
    operands = tuple(x if isinstance(x, Variable) else np.asarray(x) for x in operands)
    shapes = [x.shape for x in map(plain, operands)]
    names, result = _parse(subscripts, shapes)
    sizes = _sizes(names, shapes, subscripts)
    plain_terms = map(_diagonal, names, operands)  # no letter twice in one of them
    terms = [_without_stretched(name, x, sizes) for name, x in plain_terms]
    while len(terms) > 1:
        first, second = _cheapest(terms, sizes)
        (a_name, a), (b_name, b) = terms.pop(second), terms.pop(first)
        kept = {*result, *(letter for name, _ in terms for letter in name)}
        terms.append(_multiply(b_name, b, a_name, a, kept))
    name, y = _sum_out(*terms[0], set(result))
    return _order(y, name, result)


def _parse(subscripts: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str]:
    """A letter for each axis of each operand, and those of the result."""
    text = subscripts.replace(" ", "")
    left, arrow, result = text.partition("->")
    names = left.split(",")
    if len(names) != len(shapes):
        raise ValueError(f"einsum {subscripts!r} has {len(names)} terms, but {len(shapes)} operands were given")
    spare = [letter for letter in _SPARE if letter not in text]
    hidden = ""
    for i, (name, shape) in enumerate(zip(names, shapes)):
        extra = len(shape) - len(name.replace("...", ""))
        if extra < 0 or (extra and "..." not in name) or name.count("...") > 1:
            raise ValueError(
                f"einsum {subscripts!r}: term {name!r} does not name the {len(shape)} axes of shape {shape}"
            )
        own = "".join(spare[:extra][::-1])  # the last of them is always the same letter
        names[i] = name.replace("...", own)
        hidden = own if len(own) > len(hidden) else hidden
    if not arrow:
        once = Counter("".join(name.replace("...", "") for name in left.split(",")))
        result = "..." * bool(hidden) + "".join(sorted(letter for letter, n in once.items() if n == 1))
    result = result.replace("...", hidden)
    letters = "".join(names)
    if set(result) - set(letters) or len(set(result)) != len(result) or (letters and not letters.isalpha()):
        raise ValueError(
            f"einsum {subscripts!r}: axes are letters, and each of the result stands there once and in a term"
        )
    return names, result


def _sizes(names: list[str], shapes: list[tuple[int, ...]], subscripts: str) -> dict[str, int]:
    """The size of each letter; an axis of 1 is stretched to that of others."""
    sizes: dict[str, int] = {}
    for name, shape in zip(names, shapes):
        for letter, size in zip(name, shape):
            known = sizes.setdefault(letter, size)
            twin = shape[name.index(letter)]  # of a diagonal neither axis is stretched
            if size != twin or (size != known and 1 not in (size, known)):
                other = twin if size != twin else known
                raise ValueError(f"einsum {subscripts!r}: {letter!r} is an axis of {other} and one of {size}")
            sizes[letter] = size if known == 1 else known
    return sizes


def _diagonal(name: str, x: Any) -> tuple[str, Any]:
    """Without repeated letters: x[..., i, i] in place of both axes."""
    for letter, times in Counter(name).items():
        for _ in range(times - 1):
            first, second = name.index(letter), name.rindex(letter)
            rest = [i for i in range(len(name)) if i not in (first, second)]
            x = transpose(x, (*rest, first, second))
            i = np.arange(x.shape[-1])
            x = getitem(x, (Ellipsis, i, i))
            name = "".join(name[j] for j in rest) + letter
    return name, x


def _without_stretched(name: str, x: Any, sizes: dict[str, int]) -> tuple[str, Any]:
    """Axes of size 1 are left out: what is stretched is the same everywhere. Their sum is done where the others are."""
    kept = [i for i, letter in enumerate(name) if np.shape(plain(x))[i] == sizes[letter]]
    if len(kept) == len(name):
        return name, x
    return "".join(name[i] for i in kept), reshape(x, tuple(sizes[name[i]] for i in kept))


def _cheapest(terms: list[tuple[str, Any]], sizes: dict[str, int]) -> tuple[int, int]:
    """The two terms whose product has the fewest multiplications: a greedy order is mostly a good one."""
    pairs = [(i, j) for j in range(len(terms)) for i in range(j)]
    return min(pairs, key=lambda pair: math.prod(sizes[x] for x in {*terms[pair[0]][0], *terms[pair[1]][0]}))


def _multiply(a_name: str, a: Any, b_name: str, b: Any, kept: set[str]) -> tuple[str, Any]:
    """One product: a as (stack, m, k), b as (stack, k, n), whose product is (stack, m, n)."""
    a_name, a = _sum_out(a_name, a, kept | set(b_name))
    b_name, b = _sum_out(b_name, b, kept | set(a_name))
    stack = "".join(x for x in a_name if x in b_name and x in kept)
    along = "".join(x for x in a_name if x in b_name and x not in kept)
    rows = "".join(x for x in a_name if x not in b_name)
    columns = "".join(x for x in b_name if x not in a_name)
    size = dict(zip(a_name, a.shape)) | dict(zip(b_name, b.shape))

    def count(letters: str) -> int:
        return math.prod(size[x] for x in letters)

    a = reshape(_order(a, a_name, stack + rows + along), (count(stack), count(rows), count(along)))
    b = reshape(_order(b, b_name, stack + along + columns), (count(stack), count(along), count(columns)))
    name = stack + rows + columns
    y = matmul(a, b) if stack else matmul(reshape(a, a.shape[1:]), reshape(b, b.shape[1:]))
    return name, reshape(y, tuple(size[x] for x in name))


def _sum_out(name: str, x: Any, kept: set[str]) -> tuple[str, Any]:
    """Sum over the letters that are needed no more."""
    axes = tuple(i for i, letter in enumerate(name) if letter not in kept)
    return "".join(letter for letter in name if letter in kept), sum(x, axes) if axes else x


def _order(x: Any, name: str, wanted: str) -> Any:
    """The axes in the wanted order."""
    return x if name == wanted else transpose(x, tuple(name.index(letter) for letter in wanted))
