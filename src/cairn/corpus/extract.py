"""The main text of a web page, without menus, footers and scripts, by trafilatura (extra `corpus`)."""

from functools import cache
from typing import Any

from cairn.core.errors import UserError

PAGE_BYTES = 4 << 20  # crawls cut pages at 1 to 5 MiB; beyond that stand data dumps, not articles
PAGE_ELEMENTS = 100_000  # extraction takes some 80 µs an element


class NoMainTextError(Exception):
    """A page that gives no document. The message is the reason that goes into the quarantine."""


@cache
def require_trafilatura() -> Any:
    """The module, or UserError naming the extra."""
    try:
        import trafilatura
    except ImportError as error:
        raise UserError(f"HTML and WARC files need the extra: pip install 'cairn[corpus]' ({error})") from None
    return trafilatura


def main_text(page: bytes | str) -> tuple[str, dict[str, str]]:
    """The main text of an HTML page and what it says about itself: url, language, licence.

    Bytes are decoded as the page or its statistics suggest; pass a string where the encoding is known. Precision is
    preferred to recall, and nothing is remembered between pages (trafilatura's own deduplication is off), so that the
    same page always gives the same text. Raises `NoMainTextError`.
    """
    trafilatura = require_trafilatura()
    if len(page) > PAGE_BYTES:
        raise NoMainTextError(f"page over {PAGE_BYTES >> 20} MiB")
    try:
        tree = trafilatura.load_html(page)
        if tree is None:
            raise NoMainTextError("not a readable HTML page")
        if sum(1 for _ in tree.iter()) > PAGE_ELEMENTS:
            raise NoMainTextError(f"page of over {PAGE_ELEMENTS:,} elements")
        meta = _stated(tree)
        text = trafilatura.extract(tree, favor_precision=True, include_comments=False, deduplicate=False)
    except NoMainTextError:
        raise
    except Exception:  # any page can be fed to a parser and rules of others; none may end a corpus of millions
        raise NoMainTextError("page that the extraction fails on") from None
    if not text or not text.strip():
        raise NoMainTextError("page without main text")
    return text, meta


def _stated(tree: Any) -> dict[str, str]:
    found = {
        "url": tree.xpath("//link[@rel='canonical']/@href"),
        "language": [tree.get("lang") or ""],
        "licence": tree.xpath("//link[@rel='license']/@href"),
    }
    return {name: str(values[0]) for name, values in found.items() if values and 0 < len(values[0]) < 2048}
