"""Splitting a text into the chunks that no merge crosses."""

import functools

import regex

from cairn.core.errors import UserError

# The published patterns. They are data, the same strings that stand in the models' tokenizer files.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Qwen2's: words keep one leading non-letter, every digit stands alone (so that a small model can learn to add).
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MAX_PATTERN = 2000  # characters; a pattern comes from a file that somebody else wrote


@functools.cache
def compiled(pattern: str) -> regex.Pattern:
    if len(pattern) > MAX_PATTERN:
        raise UserError(f"the tokenizer's split pattern has {len(pattern)} characters; at most {MAX_PATTERN} are read")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise UserError(f"the tokenizer's split pattern is not a regular expression: {error}") from None


def split(text: str, pattern: str) -> list[str]:
    """The chunks of `text`; what the pattern leaves unmatched stays as chunks of its own, nothing is lost.

    >>> split("It's 42 words", QWEN2)
    ['It', "'s", ' ', '4', '2', ' words']
    """
    chunks, end = [], 0
    for match in compiled(pattern).finditer(text):
        if match.start() > end:
            chunks.append(text[end : match.start()])
        if match.end() > match.start():
            chunks.append(match.group())
        end = match.end()
    if end < len(text):
        chunks.append(text[end:])
    return chunks
