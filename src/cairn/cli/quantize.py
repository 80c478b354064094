"""Store a model's linear layers in 8 or 4 bits.

    cairn quantize runs/journey/dpo --bits 4 --out runs/journey/int4

The result is a model directory like any other: cairn, transformers and vLLM open it (compressed-tensors,
pack-quantized). Embeddings and norms are kept in 16 bits; in INT4, layers whose inputs are no multiple of 32 are kept
in INT8.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="DIR", help="model directory to quantize")
    parser.add_argument("--bits", type=int, choices=(8, 4), required=True, help="bits of a weight")
    parser.add_argument("--out", metavar="DIR", required=True, help="where the quantized model directory goes")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as JSON as well")


def run(arguments: argparse.Namespace) -> None:
    from cairn.core.files import write_json
    from cairn.quantization import quantize_directory

    result = quantize_directory(arguments.model, arguments.out, arguments.bits)
    print(f"{'layer':<20}{'bits':>6}{'relative error':>16}")
    for kind, row in result["layers"].items():
        print(f"{kind:<20}{row['bits']:>6}{row['relative_error']:>16.4f}")
    before, after = result["bytes_before"], result["bytes_after"]
    print(
        f"\nweights: {before:,} bytes before, {after:,} after ({before / after:.2f} times smaller) in {arguments.out}"
    )
    if arguments.json:
        write_json(arguments.json, result)
