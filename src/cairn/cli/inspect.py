"""Look into a model: attention maps, logit lens, induction heads; for several also what changed between them.

    cairn inspect runs/journey/base runs/journey/sft runs/journey/dpo --out pictures

Attention maps and lens are drawn for the last model. Writes SVG pictures and inspect.json with the figures.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="DIR", nargs="+", help="model directories: the stages of one model, in order")
    parser.add_argument("--text", help="text to read (default: two sentences that repeat a name)")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="where pictures and figures go")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")


def run(arguments: argparse.Namespace) -> None:
    from cairn.core.files import write_json
    from cairn.interpretability import TEXT, inspect_models

    text = TEXT if arguments.text is None else arguments.text
    result = inspect_models(arguments.models, text, arguments.out, device=arguments.device)
    print(f"{'model':<16}{'best induction head':>20}{'score':>8}{'chance':>8}   probability of the next token by block")
    for name, figures in result["models"].items():
        scores = figures["induction"]["score"]
        best, layer, head = max((s, i, j) for i, row in enumerate(scores) for j, s in enumerate(row))
        lens = " ".join(f"{p:.3f}" for p in figures["next_probability"])
        print(f"{name:<16}{f'{layer}.{head}':>20}{best:>8.3f}{figures['induction']['chance']:>8.3f}   {lens}")
    for change in result["weights"]:
        moved = sum(change["changes"].values()) / len(change["changes"])
        print(f"{change['from']} -> {change['to']}: weights moved by {moved:.4f} of their size on average")
    print(f"pictures and inspect.json in {arguments.out}")
    if arguments.json:
        write_json(arguments.json, result)
