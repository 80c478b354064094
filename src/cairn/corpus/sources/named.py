"""Corpora known by name: where they lie, how large they are, and the checksums that prove them.

Sizes and checksums are those of the given revision; a file without them is trusted on its first download.
"""

import re
import urllib.parse
from dataclasses import dataclass

from cairn.core.config import option
from cairn.core.errors import UserError

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web. Where no checksum is stated, the first download's is stored and holds from then on."""

    url: str = option("", "where the file lies: https (http only on this machine)")
    sha256: str = option("", "SHA-256 of the file, in hexadecimal; empty: trust the first download")
    bytes: int = option(0, "size of the file; 0: not known", minimum=0)

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.sha256 and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise UserError(f"sha256 of {self.url} must be 64 hexadecimal digits in lower case, got {self.sha256!r}")
        if not re.fullmatch(r"[\w.-]+", self.name) or self.name.startswith("."):
            raise UserError(f"{self.url} does not end in a plain file name")

    @property
    def name(self) -> str:
        return urllib.parse.unquote(urllib.parse.urlsplit(self.url).path).rpartition("/")[2]


@dataclass(frozen=True)
class NamedCorpus:
    name: str
    files: tuple[RemoteFile, ...]
    licence: str = "unknown"
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-][\w.-]*", self.name):
            raise UserError(f"a corpus' name may hold letters, digits, '.', '-' and '_', got {self.name!r}")
        if len({file.name for file in self.files}) != len(self.files) or not self.files:
            raise UserError(f"corpus {self.name} needs at least one file, and every file its own name")


def check_url(url: str) -> None:
    """UserError unless it is https, or http on this machine."""
    parts = urllib.parse.urlsplit(url)
    if not (parts.scheme == "https" and parts.hostname) and not (
        parts.scheme == "http" and parts.hostname in LOCAL_HOSTS
    ):
        raise UserError(f"only https URLs are downloaded (http only from this machine), got {url!r}")


_HUB = "https://huggingface.co/datasets"
_STORIES = f"{_HUB}/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
_WIKITEXT = f"{_HUB}/Salesforce/wikitext/resolve/b08601e04326c79dfdd32d625aee71d232d685c3/wikitext-103-raw-v1"

CORPORA = {
    corpus.name: corpus
    for corpus in (
        NamedCorpus(
            "tinyshakespeare",
            (
                RemoteFile(
                    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    1_115_394,
                ),
            ),
            "public domain",
            "parts of Shakespeare's plays: 1 MB, for a first run",
        ),
        NamedCorpus(
            "tinystories",
            (
                RemoteFile(
                    f"{_STORIES}/TinyStories-train.txt",
                    "c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f",
                    1_924_281_556,
                ),
            ),
            "CDLA-Sharing-1.0",
            "stories in the words of a small child, written by GPT-3.5 and GPT-4 (arXiv 2305.07759)",
        ),
        NamedCorpus(
            "tinystories-valid",
            (
                RemoteFile(
                    f"{_STORIES}/TinyStories-valid.txt",
                    "94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4",
                    19_447_282,
                ),
            ),
            "CDLA-Sharing-1.0",
            "the held-out stories of TinyStories: 19 MB, enough to try a recipe",
        ),
        NamedCorpus(
            "wikitext-103",
            (
                RemoteFile(
                    f"{_WIKITEXT}/train-00000-of-00002.parquet",
                    "74da360f23826045b3e6ac6375411fdb15f003030aa74f2596ed08b857cb9212",
                    156_987_808,
                ),
                RemoteFile(
                    f"{_WIKITEXT}/train-00001-of-00002.parquet",
                    "ba090ac30dbf5461e8dcbdd1a1b8e6f3cf9c2c756d64f0c1220450acd514f720",
                    157_088_770,
                ),
            ),
            "CC BY-SA 3.0 and GFDL",
            "good and featured articles of Wikipedia, raw (arXiv 1609.07843); a row is a paragraph",
        ),
        NamedCorpus(
            "fineweb-edu-sample",
            (RemoteFile(f"{_HUB}/HuggingFaceFW/fineweb-edu/resolve/main/sample/10BT/000_00000.parquet"),),
            "ODC-By 1.0",
            "educational web pages: the first of the files of the 10-billion-token sample (arXiv 2406.17557)",
        ),
    )
}
