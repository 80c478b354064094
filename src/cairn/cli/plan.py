"""What a training run will take before it starts: memory, time, money, and the layout that fits.

    cairn plan --model gpt2-124m                                          # on this machine
    cairn plan --model llama-3.1-8b --hardware h100 --devices 8 --tokens 1e11
    cairn plan --model path/to/model-directory --hardware rtx-4090 --optimizer adamw8bit --context 2048

--model is a preset, a published shape, a file of settings (TOML or JSON, also a config.json), or a model directory, of which
no weight is read. What is left open (layout, micro rows, recomputation) is chosen: the fastest estimated way that fits. What
cannot fit is refused with exit code 2 and a word about what would. Prices are guesses: set --price.

cairn plan inference: serving a model.   cairn plan budget: the model that a budget buys.
"""

import argparse
from typing import Any

from cairn.cli.options import add_json, finish, print_table, read_settings

MODEL_HELP = "preset, published shape (llama-3.1-8b, ...), .toml or .json file, or model directory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.cli.options import add_settings
    from cairn.planning.settings import Training

    parser.add_argument("--model", required=True, metavar="NAME", help=MODEL_HELP)
    add_hardware(parser)
    add_settings(parser, Training())
    add_json(parser)


def add_hardware(parser: argparse.ArgumentParser) -> None:
    from cairn.planning.hardware import PRICES_OF

    parser.add_argument(
        "--hardware", default="here", metavar="NAME", help="device of docs/planning.md's table, or here (default: here)"
    )
    parser.add_argument(
        "--price", type=float, metavar="DOLLARS", help=f"of one device for an hour (default: a guess of {PRICES_OF})"
    )


def run(arguments: argparse.Namespace) -> None:
    from cairn.planning import Training, count_flops, find_device, plan_training, read_shape

    config = read_shape(arguments.model)
    device = find_device(arguments.hardware, arguments.price)
    setting = read_settings(arguments, Training())
    plan = plan_training(config, device, setting)
    flops = count_flops(config, plan.setting.context)
    print_parameters(arguments.model, plan.found, flops)
    print_memory(plan)
    print_run(plan)
    finish(arguments, report(plan))


def print_parameters(model: str, found: Any, flops: Any) -> None:
    rows = [[part, f"{total:,}", f"{active:,.0f}"] for part, (total, active) in found.by_part.items()]
    rows.append(["all", f"{found.total:,}", f"{found.active:,.0f}"])
    print_table(f"Parameters of {model}", ["part", "total", "a token meets"], rows)
    rows = [["forward", amount(flops.forward)], ["training", amount(flops.training)]]
    rows.append(["of it attention", f"{flops.attention / flops.forward:.1%}"])
    print_table("FLOPs a token", ["pass", "FLOPs"], rows)


def print_memory(plan: Any) -> None:
    memory, setting = plan.choice.memory, plan.setting
    rows = [
        ["weights (float32)", size(memory.weights)],
        ["gradients", size(memory.gradients)],
        [f"optimizer ({setting.optimizer})", size(memory.optimizer)],
    ]
    rows += [["average of weights", size(memory.average)]] if memory.average else []
    rows += [["16-bit copies of matrices", size(memory.casts)]] if memory.casts else []
    rows += [["weights of blocks, gathered", size(memory.gathered)]] if memory.gathered else []
    rows += [[f"activations: {name}", size(value)] for name, value in memory.activations.items() if value >= 2**20]
    rows.append(["loss: logits of a chunk, gradients", size(memory.loss)])
    rows += [
        [f"held at the fullest moment ({name})" if name == memory.fullest else f"held at: {name}", size(value)]
        for name, value in memory.moments.items()
    ]
    rows.append(["runtime (torch, libraries)", size(memory.runtime)])
    rows += [["holes between tensors in the heap", size(memory.fragments)]] if memory.fragments else []
    rows.append([f"needed, of {size(plan.room)} usable", size(memory.peak)])
    print_table(f"Memory of each device ({plan.device.title})", ["part", "GiB"], rows)
    print(f"checkpoints copy {size(memory.checkpoint_copy)} GiB a device to the host's memory before they are written")


def print_run(plan: Any) -> None:
    setting, choice, time = plan.setting, plan.choice, plan.choice.time
    rows = [
        ["layout", choice.layout.describe()],
        ["micro rows, recompute", f"{choice.micro_rows}, {choice.recompute}"],
        ["precision, context", f"{setting.precision}, {setting.context:,}"],
        ["tokens", amount(setting.tokens)],
        ["steps", f"{plan.steps:,} of {setting.rows * setting.context:,} tokens"],
        ["seconds a step", f"{time.seconds:.3g}"],
        ["   arithmetic", f"{time.compute:.3g}"],
        ["   computed again", f"{time.recompute:.3g}"],
        ["   small micro-batches", f"{time.small:.3g}"],
        ["   waiting for others", f"{time.exposed + time.tensor + time.bubble:.3g}"],
        ["   update", f"{time.update:.3g}"],
        ["tokens a second", amount(setting.rows * setting.context / time.seconds)],
        ["share of the peak (MFU)", f"{time.mfu:.1%}, from an assumed {setting.mfu:.0%} in the arithmetic"],
        ["hours", f"{plan.hours:,.2f}"],
        ["dollars", f"{plan.dollars:,.2f} at {plan.device.price:.2f} a device and hour"],
        ["energy", f"{plan.kilowatt_hours:,.1f} kWh at full power of the boards"],
    ]
    print_table(f"The run on {setting.devices} x {plan.device.title}", ["", ""], rows)
    print(f"chosen: {plan.why}")
    others = [
        [
            other.layout.describe(),
            other.micro_rows,
            other.recompute,
            size(other.memory.peak),
            f"{other.time.seconds:.3g}",
        ]
        for other in plan.others
    ]
    if others:
        columns = ["layout", "micro rows", "recompute", "GiB a device", "seconds a step"]
        print_table("Other layouts that fit, each at its best", columns, others)


def size(value: float) -> str:
    """GiB with as many digits as a person needs.

    >>> size(3 * 2**30), size(5 * 2**20)
    ('3.00', '0.0049')
    """
    gib = value / 2**30
    return f"{gib:,.2f}" if gib >= 0.1 or not gib else f"{gib:.2g}"


def amount(value: float) -> str:
    """A large number in thousands, millions, ...

    >>> amount(1234), amount(5.6e10), amount(7)
    ('1.23 thousand', '56 billion', '7')
    """
    for power, name in ((18, "e18"), (15, "e15"), (12, "trillion"), (9, "billion"), (6, "million"), (3, "thousand")):
        if value >= 10**power:
            shown = f"{value / 10**power:.3g}"
            return f"{shown}{name}" if name[0] == "e" else f"{shown} {name}"
    return f"{value:.3g}"


def report(plan: Any) -> dict[str, Any]:
    """The plan as plain values, for --json."""
    from dataclasses import asdict

    memory, time = plan.choice.memory, plan.choice.time
    return {
        "parameters": {"total": plan.found.total, "active": plan.found.active}
        | {"by_part": {part: {"total": t, "active": a} for part, (t, a) in plan.found.by_part.items()}},
        "flops_per_token": {"training": time.model_flops / (plan.setting.rows * plan.setting.context)},
        "hardware": asdict(plan.device),
        "setting": asdict(plan.setting),
        "layout": asdict(plan.choice.layout),
        "micro_rows": plan.choice.micro_rows,
        "recompute": plan.choice.recompute,
        "memory": asdict(memory) | {"tensors": memory.tensors, "peak": memory.peak, "usable": plan.room},
        "time": asdict(time) | {"seconds": time.seconds, "mfu": time.mfu},
        "steps": plan.steps,
        "hours": plan.hours,
        "dollars": plan.dollars,
        "kilowatt_hours": plan.kilowatt_hours,
        "why": plan.why,
    }
