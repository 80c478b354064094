"""What serving a model takes: memory of weights and of keys and values, and how fast it can be at most.

    cairn plan inference --model llama-3.1-8b --hardware l4 --weights int4 --context 8192
    cairn plan inference --model runs/journey/dpo

Speeds are bounds: reading a prompt is bound by the rate, writing by the memory's bandwidth. Nothing is faster; good engines
reach about half to four fifths of them. What cannot fit is refused with a word about what would.
"""

import argparse
from dataclasses import asdict

from cairn.cli.options import add_json, add_settings, finish, print_table, read_settings
from cairn.cli.plan import MODEL_HELP, add_hardware, amount, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.planning.settings import Serving

    parser.add_argument("--model", required=True, metavar="NAME", help=MODEL_HELP)
    add_hardware(parser)
    add_settings(parser, Serving())
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.planning import Serving, count_parameters, find_device, plan_serving, read_shape
    from cairn.planning.inference import weight_bytes
    from cairn.planning.settings import FORMATS

    config = read_shape(arguments.model)
    device = find_device(arguments.hardware, arguments.price)
    setting = read_settings(arguments, Serving())
    plan = plan_serving(config, device, setting)
    found = count_parameters(config)
    rows = [[form, size(weight_bytes(found, form))] for form in FORMATS]
    print_table(f"Weights of {arguments.model}: {found.total:,} parameters", ["format", "GiB"], rows)
    rows = [
        [f"weights ({setting.weights})", size(plan.weight_bytes)],
        [f"keys and values of {setting.sequences} x {plan.context:,} tokens ({setting.cache})", size(plan.cache_bytes)],
        ["runtime (torch, libraries)", size(plan.runtime_bytes)],
        [f"needed, of {size(plan.memory)}", size(plan.total_bytes)],
    ]
    print_table(f"Memory of {setting.devices} x {device.title}", ["part", "GiB"], rows)
    rows = [
        ["bytes of keys and values a token", f"{plan.cache_bytes_per_token:,.0f}"],
        [f"texts of {plan.context:,} tokens that fit at once", f"{plan.most_sequences:,}"],
        ["prompt tokens a second, at most", amount(plan.prefill_tokens_per_second)],
        [
            f"written tokens a second, {setting.sequences} texts together, at most",
            amount(plan.decode_tokens_per_second),
        ],
        ["milliseconds a token of one text, at least", f"{plan.decode_step_seconds * 1000:.3g}"],
        ["dollars a million written tokens, at least", f"{plan.dollars_per_million(device.price):.3g}"],
    ]
    print_table("Bounds", ["figure", "value"], rows)
    finish(arguments, asdict(plan) | {"hardware": asdict(device), "parameters": found.total})
