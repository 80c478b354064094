"""Scaling laws from finished runs: what a larger one will reach, and how to share a budget between size and text.

    cairn scaling fit runs/scaling --predict runs/larger --svg laws.svg
    cairn scaling fit runs.jsonl --hold-out 2 --budget 1e21 --predict 7e9,1.4e11 --json laws.json

RUNS: the folder of a sweep, model directories (or a folder of them), or JSON Lines with {"parameters", "tokens", "loss"}
and, where known, "flops", "embedding_parameters", "curve". Fitted are Chinchilla's law by its three approaches and Kaplan's
laws, with 95 % intervals from a bootstrap over runs.
"""

import argparse
from pathlib import Path
from typing import Any

from cairn.cli.options import add_json, add_settings, finish, print_table, read_settings
from cairn.core.errors import UserError
from cairn.planning.scaling.fit import FitConfig, Point


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="files and folders of finished runs")
    parser.add_argument(
        "--predict",
        action="append",
        default=[],
        metavar="N,D",
        help="predict the loss at N parameters and D tokens, or of the runs of a file or folder; may be repeated",
    )
    parser.add_argument(
        "--budget", type=float, action="append", default=[], metavar="FLOPS", help="best N and D for these FLOPs"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw curves, profiles, agreement and residuals")
    add_settings(parser, FitConfig())
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.core.files import write_bytes
    from cairn.core.progress import say
    from cairn.corpus.documents import Quarantine
    from cairn.planning.scaling import fit_laws, points_of, read_runs, record

    config = read_settings(arguments, FitConfig())
    if not all(0 < flops < float("inf") for flops in arguments.budget):
        raise UserError("--budget takes FLOPs above 0")
    quarantine = Quarantine()
    runs = read_runs(arguments.runs, config.count, quarantine)
    asked = [point for text in arguments.predict for point in _points(text, config.count)]
    if quarantine.counts:
        say(f"left out {quarantine.summary()}")
    laws = fit_laws(runs, config)
    result = record(laws, config, [*points_of(laws), *asked], arguments.budget)
    result["quarantine"] = quarantine.to_dict()
    _print(result, config)
    if arguments.svg:
        from cairn.planning.scaling.plots import plot

        write_bytes(arguments.svg, plot(laws, "png" if arguments.svg.suffix == ".png" else "svg"))
    finish(arguments, result)


def _points(text: str, count: str) -> list[Point]:
    """`7e9,1.4e11`, or a path of runs whose losses are known."""
    from cairn.planning.scaling import read_runs

    if Path(text).exists():
        return [Point(run.name, run.parameters, run.tokens, run.loss) for run in read_runs([text], count)]
    try:
        parameters, tokens = (float(part) for part in text.split(","))
    except ValueError:
        parameters = tokens = 0.0
    if not (0 < parameters < float("inf") and 0 < tokens < float("inf")):
        raise UserError(f"--predict {text!r} is neither N,D (as 7e9,1.4e11) nor a file or folder of runs")
    return [Point(text, parameters, tokens)]


def _print(result: dict[str, Any], config: FitConfig) -> None:
    fit, intervals = result["fit"], result["intervals"]
    count = "out embeddings" if config.count == "non-embedding" else " embeddings"
    cost = f" made in {result['seconds'] / 60:.2f} minutes" if result["seconds"] else ""
    rows = [[n, _number(result[n]), _range(*intervals[n])] for n in intervals]
    print_table("E + A/N^alpha + B/D^beta", ["", "fitted", "95 % interval"], rows)
    print(
        f"{result['runs']} runs{cost}, N with{count}. "
        f"R2 of ln L {fit['r2']:.4f}; residuals {fit['rmse']:.2%} (largest {fit['largest']:.2%}), "
        f"of runs left out one by one {fit['left_out_rmse']:.2%}"
    )
    rows = [
        [name, *(cell for e in pair.values() for cell in (f"{e['value']:.3f}", _range(e["low"], e["high"])))]
        for name, pair in result["exponents"].items()
    ]
    print_table("N_opt ~ C^a, D_opt ~ C^b", ["approach", "a", "95 %", "b", "95 %"], rows)
    _print_kaplan(result["kaplan"])
    rows = []
    for place in result["optimal"]:
        for name in ("parametric", "isoflop", "envelope"):
            if name in place:
                cells = [(_number(e["value"]), _range(e["low"], e["high"])) for e in place[name].values()]
                loss = place["loss"] if name == "parametric" else None
                lost = f"{loss['value']:.4f}  {_range(loss['low'], loss['high'])}" if loss else ""
                rows.append([f"{place['flops']:.3g}", name, *cells[0], *cells[1], lost])
    print_table("Best use of a budget", ["FLOPs", "approach", "N", "95 %", "D", "95 %", "loss"], rows)
    if result["predictions"]:
        rows = [
            [p["name"], _number(p["parameters"]), _number(p["tokens"]), f"{p['loss']['value']:.4f}"]
            + [_range(p["loss"]["low"], p["loss"]["high"])]
            + ([f"{p['observed']:.4f}", f"{p['error']:+.2%}"] if "observed" in p else ["", ""])
            + [f"{p['kaplan']:.4f}" if p["kaplan"] else ""]
            for p in result["predictions"]
        ]
        columns = ["run", "N", "D", "predicted", "95 % for a run", "observed", "error", "Kaplan"]
        print_table("Predicted losses", columns, rows)
    for name, reason in result["skipped"].items():
        print(f"not fitted: {name}: {reason}")


def _print_kaplan(laws: dict[str, Any]) -> None:
    rows = []
    for name, law in laws.items():
        if name == "L(N, D)":
            rows += [[f"{name} {key}", _number(e["value"]), _range(e["low"], e["high"]), ""]
                     for key, e in law.items() if key != "rmse"]  # fmt: skip
        else:
            alpha = law["alpha"]
            rows.append([f"{name} alpha", _number(alpha["value"]), _range(alpha["low"], alpha["high"]), law["runs"]])
    if rows:
        print_table("Kaplan's laws, without an irreducible loss", ["", "fitted", "95 % interval", "runs"], rows)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _range(low: float, high: float) -> str:
    return f"{low:.3g} .. {high:.3g}"
