"""tiktoken's rank files: a line for each token, its bytes in base64 and its rank, which is its id.

A rank file has neither the split pattern nor the special tokens; for OpenAI's published vocabularies they are known by name.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from cairn.core.errors import UserError
from cairn.core.files import atomic_file
from cairn.tokenizers import bpe, pretokenize
from cairn.tokenizers.byte_level import ByteLevelBPE
from cairn.tokenizers.tokenizer import Tokenizer

END = "<|endoftext|>"
# name of the file -> (split pattern, special tokens)
PUBLISHED: dict[str, tuple[str, dict[str, int]]] = {
    "r50k_base": (pretokenize.GPT2, {END: 50256}),
    "p50k_base": (pretokenize.GPT2, {END: 50256}),
    "cl100k_base": (
        pretokenize.CL100K,
        {
            END: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": (pretokenize.O200K, {END: 199999, "<|endofprompt|>": 200018}),
}
MAX_TOKENS = 1 << 21


def load(path: Path | str, *, pattern: str | None = None, special: Mapping[str, int] | None = None) -> Tokenizer:
    """Read a rank file. `pattern` and `special` are needed for files whose name is not one of `PUBLISHED`."""
    path = Path(path)
    known = PUBLISHED.get(path.stem)
    if known is None and pattern is None:
        raise UserError(
            f"{path}: a rank file does not name its split pattern; give one (cairn tokenizer convert --pattern), "
            f"or name the file {', '.join(PUBLISHED)}"
        )
    ranks: dict[bytes, int] = {}
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                token, rank = line.split()
                data, value = base64.b64decode(token, validate=True), int(rank)
            except (ValueError, binascii.Error):
                raise UserError(f"{path}:{number}: a line is a token in base64 and its rank") from None
            if not data or not 0 <= value < 1 << 31 or number > MAX_TOKENS:
                raise UserError(f"{path}:{number}: an empty token, an impossible rank or too many tokens")
            if ranks.setdefault(data, value) != value:
                raise UserError(f"{path}:{number}: the token is given twice")
    special = dict(known[1] if special is None and known else special or {})
    vocab = {"".join(map(bpe.BYTE_TO_CHAR.__getitem__, data)): rank for data, rank in ranks.items()}
    model = ByteLevelBPE(vocab, None, pattern=pattern or known[0])  # type: ignore[index]
    return Tokenizer(model, special, names={role: END for role in ("bos", "eos") if END in special})


def save(tokenizer: Tokenizer, path: Path | str) -> int:
    """Write the ranks of a byte-level BPE: bytes first, then tokens in the order they were learned.

    tiktoken joins any two neighbours that together are a token; ours joins only the pairs it learned. Both agree where a
    token can be made in one way. Returns how many tokens can be made in others too: texts that do so get other ids there.
    Ranks leave out special tokens, so ids shift by those that came before.
    """
    model = tokenizer.model
    if not isinstance(model, ByteLevelBPE):
        raise UserError(f"tiktoken knows byte-level BPE alone, this is {model.kind}")
    order = sorted(model.bytes_of, key=lambda i: (len(model.bytes_of[i]) > 1, i))
    with atomic_file(path) as handle:
        for rank, token in enumerate(order):
            handle.write(base64.b64encode(model.bytes_of[token]) + f" {rank}\n".encode())
    if model.merges is None:
        return 0
    learned = {(a, b) for a, b in model.merges}
    return len({a + b for a, b in model.as_merges() if (a, b) not in learned})
