"""How large a model and how many tokens a budget buys, by the Chinchilla law.

    cairn plan budget --flops 1e21
    cairn plan budget --dollars 500 --hardware h100
    cairn plan budget --hours 24 --hardware rtx-4090 --devices 2 --law fit.json     # constants of cairn scaling fit

The budget is given as FLOPs, or as dollars or hours on hardware. The law's constants are Hoffmann et al. 2022 (approach 3, as
published), Besiroglu et al. 2024 (the same data fitted again), the rule of 20 tokens a parameter, and those of a file.
"""

import argparse

from cairn.cli.options import add_json, finish, print_table
from cairn.cli.plan import add_hardware, amount


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--flops", type=float, metavar="N", help="the budget in FLOPs")
    what.add_argument("--dollars", type=float, metavar="N", help="the budget in money, on --hardware")
    what.add_argument("--hours", type=float, metavar="N", help="the budget in hours of --devices of --hardware")
    add_hardware(parser)
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="devices (default: 1)")
    parser.add_argument("--mfu", type=float, default=0.35, metavar="SHARE", help="of the peak reached (default: 0.35)")
    parser.add_argument("--law", metavar="FILE", help="JSON with E, A, B, alpha, beta: what cairn scaling fit writes")
    parser.add_argument("--vocabulary", type=int, default=32768, metavar="N", help="of the shape (default: 32768)")
    parser.add_argument("--context", type=int, default=2048, metavar="N", help="of the shape (default: 2048)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.planning.budget import best_models, spend

    flops, told = spend(
        arguments.flops, arguments.dollars, arguments.hours, arguments.hardware, arguments.price, arguments.devices,
        arguments.mfu,
    )  # fmt: skip
    print(told)
    found = best_models(flops, arguments.law, arguments.vocabulary, arguments.context)
    rows = []
    for entry in found:
        shape = entry["shape"]
        told = f"dim {shape['dim']}, layers {shape['layers']}, heads {shape['heads']}/{shape['kv_heads']}, ffn {shape['ffn_dim']}"
        loss = f"{entry['loss']:.3f}" if entry["loss"] is not None else "-"
        rows.append([entry["law"], amount(entry["parameters"]), amount(entry["tokens"]), loss, told])
    columns = ["law", "parameters", "tokens", "loss", f"a Llama-like shape, vocabulary {arguments.vocabulary:,}"]
    print_table(f"The best model of {flops:.3g} FLOPs", columns, rows)
    finish(arguments, {"flops": flops, "models": found})
