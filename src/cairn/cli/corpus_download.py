"""Fetch a corpus by name, or a file by URL and checksum. A download that was cut off goes on where it stopped.

cairn corpus download                       (lists what is known)
cairn corpus download tinyshakespeare --out data
cairn corpus download --url https://example.org/texts.jsonl.zst --sha256 ... --out data
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_json, finish, print_table
from cairn.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a named corpus; without one, the list of them")
    parser.add_argument("--out", type=Path, default=Path("data"), metavar="DIR", help="folder to write (default: data)")
    parser.add_argument("--url", metavar="URL", help="a file instead of a named corpus")
    parser.add_argument("--sha256", metavar="HEX", help="its checksum; without one the first download decides it")
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.corpus.download import CORPORA, NamedCorpus, RemoteFile, download

    if arguments.url:
        name = arguments.name or Path(arguments.url.rstrip("/")).name.split(".")[0]
        corpus = NamedCorpus(name, (RemoteFile(arguments.url, arguments.sha256 or ""),))
    elif not arguments.name:
        rows = [[c.name, c.licence, c.description] for c in CORPORA.values()]
        print_table("Named corpora", ["name", "licence", "what it is"], rows)
        finish(arguments, {c.name: {"licence": c.licence, "description": c.description} for c in CORPORA.values()})
        return
    elif arguments.name not in CORPORA:
        raise UserError(f"the corpus {arguments.name!r} is not known; known: {', '.join(CORPORA)} (or give --url)")
    else:
        corpus = CORPORA[arguments.name]
    folder = download(corpus, arguments.out)
    print(folder)
    finish(arguments, {"folder": str(folder)})
