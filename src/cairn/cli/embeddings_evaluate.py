"""Do word vectors find alike what people do, and do they answer analogies?

    cairn embeddings evaluate runs/vectors --pairs EN-WS-353-ALL.txt EN-SIMLEX-999.txt
    cairn embeddings evaluate runs/vectors --analogies questions-words.txt

A file of pairs has two words and people's score a line; a file of analogies has ": section" lines and four words a line.
Pairs and questions with a word that has no vector are left out: look at how many are known before comparing figures.
fastText composes vectors of unknown words from their parts; pairs that needed one are counted under "composed".
"""

import argparse
import math
from pathlib import Path
from typing import Any

from cairn.cli.embeddings_neighbours import add_vectors
from cairn.cli.options import add_json, finish, print_table
from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.embeddings.analogies import METHODS, AnalogyScore, evaluate, read_questions
from cairn.embeddings.formats import open_vectors
from cairn.embeddings.similarity import RESTRICTED, Correlation, correlate, read_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_vectors(parser)
    parser.add_argument("--pairs", nargs="+", type=Path, default=[], metavar="FILE", help="word pairs with scores")
    parser.add_argument("--analogies", type=Path, metavar="FILE", help="questions in the form of questions-words.txt")
    parser.add_argument(
        "--method", choices=METHODS, default="add", help="of analogies: 3CosAdd or 3CosMul (default: add)"
    )
    parser.add_argument(
        "--restrict",
        type=int,
        default=RESTRICTED,
        metavar="N",
        help=f"only the N most frequent words count (default: {RESTRICTED})",
    )
    parser.add_argument("--case-sensitive", action="store_true", help="tell capitals apart")
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    if not arguments.pairs and not arguments.analogies:
        raise UserError("nothing to evaluate on: give --pairs FILE or --analogies FILE")
    if arguments.restrict < 1:
        raise UserError(f"--restrict must be at least 1, got {arguments.restrict}")
    vectors = open_vectors(arguments.vectors)
    quarantine = Quarantine()
    settings: dict[str, Any] = {"restrict": arguments.restrict, "fold": not arguments.case_sensitive}
    files = {path: read_pairs(path, quarantine) for path in arguments.pairs}
    sections = read_questions(arguments.analogies, quarantine) if arguments.analogies else {}
    correlations = [correlate(vectors, pairs, path.stem, **settings) for path, pairs in files.items()]
    scores = evaluate(vectors, sections, arguments.method, **settings) if sections else []
    if correlations:
        columns = ["pairs", "Spearman", "95 %", "Pearson", "known", "composed"]
        print_table("Similarity (chance: 0)", columns, [_pairs_row(found) for found in correlations])
    if scores:
        chance = scores[-1].score.chance
        title = f"Analogies, 3Cos{arguments.method.capitalize()} (chance: {chance:.2%})"
        print_table(title, ["section", "right", "95 %", "known"], [_analogy_row(found) for found in scores])
    if quarantine.counts:
        print(f"Left out: {quarantine.summary()}")
    result = {
        "similarity": [_plain(vars(found)) for found in correlations],
        "analogies": [{"section": s.section, "asked": s.asked, **vars(s.score)} for s in scores],
        "quarantine": quarantine.to_dict(),
    }
    finish(arguments, result)


def _pairs_row(found: Correlation) -> list[str]:
    parts = str(found.composed) if found.composed else ""
    if math.isnan(found.spearman):
        return [found.name, "none", "", "", f"{found.known} of {found.pairs}", parts]
    spread = f"{found.low:.3f} .. {found.high:.3f}"
    known = f"{found.known} of {found.pairs}"
    return [found.name, f"{found.spearman:.3f}", spread, f"{found.pearson:.3f}", known, parts]


def _analogy_row(found: AnalogyScore) -> list[str]:
    score = found.score
    known = f"{score.n:,} of {found.asked:,}"
    if not score.n:
        return [found.section, "none", "", known]
    return [found.section, f"{score.score:.2%}", f"{score.low:.2%} .. {score.high:.2%}", known]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what could not be computed is null."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
