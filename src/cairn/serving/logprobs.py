"""Log-probabilities in OpenAI's two forms."""

import codecs
from collections.abc import Sequence
from typing import Any

from cairn.inference import TokenLogprob
from cairn.tokenizers import Tokenizer


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token's text; one without whole characters is written `bytes:\\xe2\\x80`, so that no two look alike."""
    content = tokenizer.token_bytes(token)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{b:02x}" for b in content)


class CompletionLogprobs:
    """Builds `logprobs` of /v1/completions; text offsets go on from one call to the next (a stream sends parts).

    A token's own entry in `top_logprobs` is the same float as in `token_logprobs`: lm-eval compares them for equality.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def part(self, tokens: Sequence[TokenLogprob]) -> dict[str, list]:
        names = [token_text(self._tokenizer, t.id) for t in tokens]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(self._tokenizer.token_bytes(token.id)))
        top = [
            None
            if t.logprob is None
            else {token_text(self._tokenizer, i): p for i, p in t.top.items()} | {name: t.logprob}
            for name, t in zip(names, tokens)
        ]
        return {
            "tokens": names,
            "token_logprobs": [t.logprob for t in tokens],
            "top_logprobs": top,
            "text_offset": offsets,
        }


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenLogprob]) -> dict[str, list]:
    """`logprobs` of /v1/chat/completions."""

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        content = tokenizer.token_bytes(token)
        return {"token": content.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(content)}

    return {
        "content": [entry(t.id, t.logprob) | {"top_logprobs": [entry(i, p) for i, p in t.top.items()]} for t in tokens]
    }
