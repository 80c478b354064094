"""The n-gram language model with interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, section 3).

A probability is the discounted share of a word after its context, plus what the discounts freed times the same question with
a context one shorter:

    p(w | h) = (c(h w) - D(c(h w))) / c(h .) + gamma(h) p(w | h')        h' = h without its first word

c is the plain count for the highest order and for n-grams that begin a document; for all others it is the number of
different words seen before the n-gram, which is what makes this Kneser-Ney: "Francisco" is frequent but follows one word
only. Below the unigrams stands the uniform distribution, so that every id of the vocabulary has a probability after every
context. These are the definitions of KenLM's lmplz (with --vocab_pad at the size of the vocabulary).

N-grams are numbered in the order of (number of their first n-1 words, last word): an order is one sorted array of integers
`prefix * V + word`, all steps are array operations, and a model is what an ARPA file holds (`arpa.py`).
Shapes: N tokens, V vocabulary, M n-grams of an order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.core.files import write_bytes
from cairn.core.progress import say

FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # lmplz --discount_fallback


@dataclass(frozen=True)
class NgramConfig:
    """`order` words at a time over ids 0 .. vocab_size - 1, documents led by `bos`."""

    order: int = option(3, "words of the longest n-gram", minimum=1)
    vocab_size: int = option(2048, "ids of the vocabulary", minimum=2)
    bos: int = option(0, "id that begins a document and is never predicted", minimum=0)

    def __post_init__(self) -> None:
        if self.order < 1 or self.vocab_size < 2:
            raise UserError(f"an n-gram model needs order >= 1 and 2 ids, got {self.order} and {self.vocab_size}")
        if not 0 <= self.bos < self.vocab_size:
            raise UserError(f"bos ({self.bos}) must be an id of the vocabulary, 0 to {self.vocab_size - 1}")


@dataclass(frozen=True)
class Table:
    """The n-grams of one order: sorted keys (M,) `prefix * V + word`, natural logs of p(w | h) and of gamma(n-gram), the
    weight of shorter contexts after this n-gram (0 where it is no context). Row w of order 1 is id w."""

    keys: np.ndarray
    logprob: np.ndarray
    backoff: np.ndarray

    def find(self, keys_N: np.ndarray) -> np.ndarray:
        """Row of each key, -1 where it was not seen."""
        if not len(self.keys):
            return np.full(len(keys_N), -1)
        rows = np.searchsorted(self.keys, keys_N).clip(max=len(self.keys) - 1)
        return np.where(self.keys[rows] == keys_N, rows, -1)


class NgramLM:
    """`tables[n - 1]` holds order n. `discounts[n - 1]` are its D_1, D_2, D_3+ (empty for a model read from a file)."""

    def __init__(self, config: NgramConfig, tables: list[Table], discounts: list[np.ndarray] | None = None):
        assert len(tables) == config.order
        self.config, self.tables, self.discounts = config, tables, discounts or []

    @classmethod
    def train(cls, tokens_N: np.ndarray, config: NgramConfig) -> "NgramLM":
        """Count `tokens_N` (integers; each document led by bos, as token shards hold them) and smooth.

        Memory: about 170 bytes a token at the peak for order 5. An order whose discounts come out
        impossible (small or artificial data) takes 0.5, 1, 1.5 and says so.
        """
        tokens = _checked(tokens_N, config)
        if not (tokens != config.bos).any():
            raise UserError("there is nothing to count: no token besides the beginnings of documents")
        return _smooth(_count(tokens, config), config)

    def log_probs(self, ids_N: np.ndarray) -> np.ndarray:
        """Natural log of each id's probability given what stands before it in its document (N,); 0 where bos is given.

        Without a bos at the start the first ids have shorter contexts.
        """
        ids = _checked(ids_N, self.config)
        logprob = self.tables[0].logprob[ids].astype(np.float64)
        at = ids  # row of the n-gram that ends here, n = 1, 2, ...; -1 where there is none
        for order in range(2, self.config.order + 1):
            context = np.append(-1, at[:-1])
            context[ids == self.config.bos] = -1  # n-grams do not reach over the border of documents
            known = context >= 0
            if not known.any():
                break
            logprob[known] += self.tables[order - 2].backoff[context[known]]
            table = self.tables[order - 1]
            at = np.where(known, table.find(context * self.config.vocab_size + ids), -1)
            logprob[at >= 0] = table.logprob[at[at >= 0]]
        logprob[ids == self.config.bos] = 0.0
        return logprob

    def perplexity(self, ids_N: np.ndarray) -> float:
        """exp of the mean surprise over all ids but the given bos."""
        predicted = int((np.asarray(ids_N) != self.config.bos).sum())
        if not predicted:
            raise UserError("perplexity needs at least one id besides bos")
        return float(np.exp(-self.log_probs(ids_N).sum() / predicted))

    def distribution(self, context: np.ndarray | list[int]) -> np.ndarray:
        """Probabilities of all ids after `context` (V,); they sum to 1, and bos has none."""
        V = self.config.vocab_size
        ids = _checked(context, self.config)
        starts = np.flatnonzero(ids == self.config.bos)
        ids = ids[starts[-1] if len(starts) else 0 :]
        logprob = self.tables[0].logprob.astype(np.float64)
        for length in range(1, min(self.config.order, len(ids) + 1)):
            row = self._row(ids[len(ids) - length :])
            if row < 0:
                break  # a context that was not seen has no longer one that was
            logprob += self.tables[length - 1].backoff[row]
            table = self.tables[length]
            low, high = np.searchsorted(table.keys, [row * V, (row + 1) * V])
            logprob[table.keys[low:high] - row * V] = table.logprob[low:high]
        return np.exp(logprob)

    def _row(self, words: np.ndarray) -> int:
        row = int(words[0])
        for table, word in zip(self.tables[1:], words[1:]):
            row = int(table.find(np.array([row * self.config.vocab_size + int(word)]))[0])
            if row < 0:
                break
        return row

    def generate(self, prompt: np.ndarray | list[int], count: int, seed: int = 0) -> list[int]:
        """`count` ids drawn one after another from `distribution`; the same seed draws the same ids."""
        rng, ids = np.random.default_rng(seed), [int(i) for i in prompt]
        for _ in range(count):
            cumulative = np.cumsum(self.distribution(ids[-self.config.order :]))
            ids.append(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")))
        return ids[len(prompt) :]

    def ngrams(self, order: int) -> np.ndarray:
        """The words of all n-grams of an order, row by row (M, order)."""
        V, table = self.config.vocab_size, self.tables[order - 1]
        words = np.empty((len(table.keys), order), dtype=np.int64)
        rows = np.arange(len(table.keys))
        for place in range(order - 1, -1, -1):
            keys = self.tables[place].keys[rows]
            words[:, place], rows = keys % V, keys // V
        return words

    def parameter_count(self) -> int:
        """Stored probabilities and weights of shorter contexts."""
        return sum(len(t.keys) * (2 if n < self.config.order else 1) for n, t in enumerate(self.tables, 1))

    def save(self, path: Path | str) -> None:
        """One safetensors file; `load` reads it back."""
        from safetensors.numpy import save

        tensors = {}
        for n, table in enumerate(self.tables, 1):
            tensors |= {f"{n}.keys": table.keys, f"{n}.logprob": table.logprob, f"{n}.backoff": table.backoff}
        tensors |= {f"{n}.discounts": np.asarray(d) for n, d in enumerate(self.discounts, 1)}
        c = self.config
        metadata = {"order": str(c.order), "vocab_size": str(c.vocab_size), "bos": str(c.bos)}
        write_bytes(path, save(tensors, metadata))

    @classmethod
    def load(cls, path: Path | str) -> "NgramLM":
        """Raises UserError where the file is none of `save`'s."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                config = NgramConfig(**{key: int(value) for key, value in (file.metadata() or {}).items()})
                read = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no iterator of its own)
            tables = [
                Table(*(read[f"{n}.{part}"] for part in ("keys", "logprob", "backoff")))
                for n in range(1, config.order + 1)
            ]
            _check_tables(tables, config)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist") from None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not an n-gram model that cairn saved: {error}") from None
        return cls(
            config, tables, [read[f"{n}.discounts"] for n in range(1, config.order + 1) if f"{n}.discounts" in read]
        )


def _checked(ids: np.ndarray | list[int], config: NgramConfig) -> np.ndarray:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UserError(f"ids must be one row of integers, got an array of shape {array.shape} and type {array.dtype}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < config.vocab_size:
        raise UserError(
            f"ids run from {array.min()} to {array.max()}, the vocabulary from 0 to {config.vocab_size - 1}"
        )
    return array.astype(np.int64)


def _check_tables(tables: list[Table], config: NgramConfig) -> None:
    previous = 1
    for n, table in enumerate(tables, 1):
        if not table.keys.shape == table.logprob.shape == table.backoff.shape == (len(table.keys),):
            raise ValueError(f"order {n}: keys, logprob and backoff differ in shape")
        keys = table.keys
        if keys.dtype != np.int64 or (np.diff(keys) <= 0).any():
            raise ValueError(f"order {n}: keys must be rising integers")
        if len(keys) and not 0 <= keys[0] <= keys[-1] < previous * config.vocab_size:
            raise ValueError(f"order {n}: keys point outside order {n - 1}")
        previous = len(keys)
    if len(tables[0].keys) != config.vocab_size:
        raise ValueError(f"order 1 must hold all {config.vocab_size} ids")


@dataclass(frozen=True)
class _Counted:
    """n-grams of one order. keys as in Table; counts as Kneser-Ney takes them; prefix, suffix: rows in the order below."""

    keys: np.ndarray
    counts: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray


def _count(tokens: np.ndarray, config: NgramConfig) -> list[_Counted]:
    V, is_bos = config.vocab_size, tokens == config.bos
    # Of order 1 all ids have a row; bos occurs, but is not predicted: count 0.
    plain = np.bincount(tokens, minlength=V)
    plain[config.bos] = 0
    nothing = np.zeros(V, dtype=np.int64)
    tables = [_Counted(np.arange(V), plain, nothing, nothing)]
    begins = np.arange(V) == config.bos
    at = tokens
    for order in range(2, config.order + 1):
        context = np.append(-1, at[:-1])
        context[is_bos] = -1
        inside = context >= 0
        keys, rows, plain = np.unique(context[inside] * V + tokens[inside], return_inverse=True, return_counts=True)
        at = np.full(len(tokens), -1)
        at[inside] = rows
        below = tables[-1]
        prefix, word = keys // V, keys % V
        # The suffix of h w is (suffix of h) w, and that n-gram occurred wherever h w did.
        suffix = word if order == 2 else np.searchsorted(below.keys, below.suffix[prefix] * V + word)
        # Different words before an n-gram: how many n-grams of this order end in it.
        before = np.bincount(suffix, minlength=len(below.keys))
        tables[-1] = _Counted(below.keys, np.where(begins, below.counts, before), below.prefix, below.suffix)
        begins = begins[prefix]
        tables.append(_Counted(keys, plain, prefix, suffix))
    return tables


def discounts_of(counts_M: np.ndarray) -> np.ndarray | None:
    """[0, D_1, D_2, D_3+] from how many n-grams occurred once, twice, ... (Chen & Goodman 1998, equation 26).

    None where they are not defined: n_1, n_2 or n_3 is 0, or a discount lies outside [0, its count].
    """
    n = np.bincount(np.minimum(counts_M, 5), minlength=6).astype(np.float64)
    if (n[1:4] == 0).any():
        return None
    y, j = n[1] / (n[1] + 2 * n[2]), np.arange(1, 4)
    discounts = j - (j + 1) * y * n[j + 1] / n[j]
    return None if (discounts < 0).any() or (discounts > j).any() else np.append(0.0, discounts)


def _smooth(counted: list[_Counted], config: NgramConfig) -> NgramLM:
    uniform = 1.0 / (config.vocab_size - 1)  # over all ids but bos
    probability = np.empty(0)
    tables, discounts = [], []
    for order, c in enumerate(counted, 1):
        D = discounts_of(c.counts)
        if D is None:
            say(f"n-gram model: discounts of order {order} are not defined by so little data; 0.5, 1, 1.5 are taken")
            D = FALLBACK
        freed = D[np.minimum(c.counts, 3)]
        contexts = 1 if order == 1 else len(counted[order - 2].keys)
        total = np.bincount(c.prefix, c.counts, contexts)
        gamma = np.divide(np.bincount(c.prefix, freed, contexts), total, out=np.ones(contexts), where=total > 0)
        lower = uniform if order == 1 else probability[c.suffix]
        # A stream that does not begin with bos may hold a context whose words were never seen after another one: total 0.
        share = np.divide(c.counts - freed, total[c.prefix], out=np.zeros(len(c.keys)), where=total[c.prefix] > 0)
        probability = share + gamma[c.prefix] * lower
        if order == 1:
            probability[config.bos] = 0.0
        else:
            tables[-1].backoff[:] = np.log(gamma)  # what the order below hands on
        with np.errstate(divide="ignore"):
            logprob = np.log(probability).astype(np.float32)
        tables.append(Table(c.keys, logprob, np.zeros(len(c.keys), np.float32)))
        discounts.append(D[1:])
    return NgramLM(config, tables, discounts)
