r"""N-gram models as ARPA files, the text format of SRILM and KenLM: base-10 logarithms, one n-gram a line.

    \data\
    ngram 1=4
    \1-grams:
    -0.845<TAB>stone<TAB>-0.301        log10 p(w | h), the words, log10 of the weight of shorter contexts (may be absent)
    \end\

Words are separated by a blank, so names of ids must hold no white space; `<s>` begins a sentence. KenLM refuses files without
`<s>`, `</s>` and `<unk>`: where no id has such a name, the word is written with a probability of (practically) zero.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cairn.core.errors import UserError
from cairn.core.files import atomic_file
from cairn.models.ngram import NgramConfig, NgramLM, Table

LN10 = math.log(10)
ZERO = -99.0  # the format's log of zero
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"


def write_arpa(model: NgramLM, path: Path | str, names: Sequence[str] | None = None) -> None:
    """names: a word for each id (its number by default); that of bos is `<s>` whatever `names` says."""
    words = list(names) if names is not None else [str(i) for i in range(model.config.vocab_size)]
    if len(words) != model.config.vocab_size:
        raise UserError(f"{len(words)} names for {model.config.vocab_size} ids")
    words[model.config.bos] = BEGIN
    bad = next((w for w in words if not w or w.split() != [w]), None)
    if bad is not None or len(set(words)) < len(words):
        raise UserError(
            f"names of an ARPA file must differ and hold no white space; at fault: {bad or 'a name twice'!r}"
        )
    markers = [w for w in (END, UNKNOWN) if w not in words]
    with atomic_file(path) as file:

        def write(text: str) -> None:
            file.write(text.encode())

        write("\\data\\\n")
        for order, table in enumerate(model.tables, 1):
            write(f"ngram {order}={len(table.keys) + (len(markers) if order == 1 else 0)}\n")
        for order, table in enumerate(model.tables, 1):
            write(f"\n\\{order}-grams:\n")
            logs = np.maximum(table.logprob.astype(np.float64) / LN10, ZERO)
            backoffs = table.backoff.astype(np.float64) / LN10
            last = order == model.config.order
            for log, ids, backoff in zip(logs.tolist(), model.ngrams(order).tolist(), backoffs.tolist()):
                weight = "" if last else f"\t{backoff:.8g}"
                write(f"{log:.8g}\t{' '.join(words[i] for i in ids)}{weight}\n")
            if order == 1:
                write("".join(f"{ZERO:g}\t{word}{'' if last else chr(9) + '0'}\n" for word in markers))
        write("\n\\end\\\n")


def read_arpa(path: Path | str) -> tuple[NgramLM, list[str]]:
    """The model and the word of each id, in the file's order of unigrams. Raises UserError naming the line at fault."""
    try:
        with open(path, encoding="utf-8") as file:
            return _Reader(path, file).read()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not an ARPA file: {error}") from None


class _Reader:
    def __init__(self, path: Path | str, lines: Iterator[str]):
        self.path, self.lines, self.number = path, lines, 0

    def fault(self, what: str) -> UserError:
        return UserError(f"{self.path}, line {self.number}: {what}")

    def line(self) -> str:
        """The next line that is not blank, without its end."""
        for text in self.lines:
            self.number += 1
            if text.strip():
                return text.rstrip("\r\n")
        raise self.fault("the file ends before \\end\\")

    def read(self) -> tuple[NgramLM, list[str]]:
        while self.line().strip() != "\\data\\":
            pass
        counts, text = [], self.line()
        while text.startswith("ngram "):
            order, _, count = text.removeprefix("ngram ").partition("=")
            if order.strip() != str(len(counts) + 1) or not count.strip().isdecimal():
                raise self.fault(f"'ngram {len(counts) + 1}=COUNT' is expected, got {text!r}")
            counts.append(int(count))
            text = self.line()
        if not counts:
            raise self.fault("no 'ngram 1=COUNT' follows \\data\\")
        ids: dict[str, int] = {}
        tables: list[Table] = []
        for order, count in enumerate(counts, 1):
            if text.strip() != f"\\{order}-grams:":
                raise self.fault(f"'\\{order}-grams:' is expected, got {text!r}")
            tables.append(self._order(order, count, ids, tables, order == len(counts)))
            text = self.line()
        if text.strip() != "\\end\\":
            raise self.fault(f"\\end\\ is expected after {counts[-1]} n-grams of order {len(counts)}, got {text!r}")
        config = NgramConfig(len(counts), len(ids), ids[BEGIN])
        return NgramLM(config, tables), list(ids)

    def _order(self, order: int, count: int, ids: dict[str, int], tables: list[Table], last: bool) -> Table:
        keys, logprob, backoff = [], [], []
        rows: list[list[int]] = []
        for _ in range(count):
            text = self.line()
            fields = text.split()
            if len(fields) not in ((order + 1,) if last else (order + 1, order + 2)):
                raise self.fault(f"a number, {order} words and at most one number are expected, got {text!r}")
            try:
                logprob.append(float(fields[0]))
                backoff.append(float(fields[order + 1]) if len(fields) > order + 1 else 0.0)
            except ValueError:
                raise self.fault(f"not a number in {text!r}") from None
            if not (logprob[-1] <= 0 and math.isfinite(logprob[-1]) and math.isfinite(backoff[-1])):
                raise self.fault(f"a log-probability must be at most 0 and finite, got {text!r}")
            words = fields[1 : order + 1]
            if order == 1:
                if ids.setdefault(words[0], len(ids)) != len(keys):
                    raise self.fault(f"{words[0]!r} stands twice among the 1-grams")
                keys.append(len(keys))
                continue
            unknown = next((w for w in words if w not in ids), None)
            if unknown is not None:
                raise self.fault(f"{unknown!r} is not among the 1-grams")
            rows.append([ids[w] for w in words])
        if order == 1:
            if BEGIN not in ids:
                raise self.fault(f"{BEGIN} is not among the 1-grams")
            table = np.array(keys, dtype=np.int64)
        else:
            table = self._keys(np.array(rows, dtype=np.int64).reshape(count, order), tables, len(ids))
        sorted_ = np.argsort(table, kind="stable")
        if (np.diff(table[sorted_]) == 0).any():
            raise self.fault(f"an n-gram of order {order} stands twice")
        natural = np.array(logprob, dtype=np.float64) * LN10
        if order == 1:
            natural[ids[BEGIN]] = -np.inf
        weights = np.array(backoff, dtype=np.float64) * LN10
        return Table(table[sorted_], natural[sorted_].astype(np.float32), weights[sorted_].astype(np.float32))

    def _keys(self, words: np.ndarray, tables: list[Table], V: int) -> np.ndarray:
        row = words[:, 0]
        for place, table in enumerate(tables[1:], 1):
            row = table.find(row * V + words[:, place])
            if (row < 0).any():
                raise self.fault(f"an n-gram of order {words.shape[1]} has a context that order {place + 1} lacks")
        return row * V + words[:, -1]
