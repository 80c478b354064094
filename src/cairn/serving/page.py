"""The chat page and what a browser may do with it."""

import base64
import hashlib
import re
from importlib.resources import files


def chat_page() -> tuple[str, dict[str, str]]:
    """The page and its headers. The policy names the page's one script and one style sheet by their hashes: nothing that
    a model says, or a page of another site frames, can run here or load anything."""
    page = files("cairn.serving").joinpath("page.html").read_text(encoding="utf-8")
    script, style = (_hash(page, tag) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _hash(page: str, tag: str) -> str:
    found = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    assert len(found) == 1, f"the page has one <{tag}>"
    return "sha256-" + base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode("ascii")
