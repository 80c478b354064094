"""Serve a model over HTTP as OpenAI does, with a chat page at /.

    cairn serve runs/journey/dpo

Clients of OpenAI's API take http://127.0.0.1:8000/v1 as their base URL. Only this machine is served unless --host says
otherwise, and then a key is asked for. Ctrl-C ends the server; answers that are being written are finished first.
"""

import argparse
import os
from pathlib import Path

from cairn.cli.options import add_threads
from cairn.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="DIR", help="model directory")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--api-key", metavar="KEY", help="key that clients must send (default: CAIRN_API_KEY, else none)"
    )
    parser.add_argument("--allow-open", action="store_true", help="serve other machines without a key")
    parser.add_argument("--name", help="name of the model for clients (default: the directory's)")
    parser.add_argument(
        "--slots", type=int, default=16, metavar="N", help="answers at the same time (default: %(default)s)"
    )
    add_threads(parser)


def run(arguments: argparse.Namespace) -> None:
    from cairn.serving.server import check_host, names_of, open_socket, serve, url

    key = arguments.api_key if arguments.api_key is not None else os.environ.get("CAIRN_API_KEY") or None
    if arguments.slots < 1:
        raise UserError("--slots must be at least 1")
    check_host(arguments.host, key, arguments.allow_open)
    # What can go wrong at once is asked for before a model is loaded, which may take minutes.
    with open_socket(arguments.host, arguments.port) as opened:
        import cairn
        from cairn.core.compute import probe_threads
        from cairn.retrieval.tools import TOOLS
        from cairn.serving import create_app

        model, tokenizer = cairn.load(arguments.model)
        engine = cairn.Engine(model, tokenizer, slots=arguments.slots)
        app = create_app(
            engine,
            arguments.name or arguments.model.resolve().name,
            api_key=key,
            tools=TOOLS,
            hosts=names_of(arguments.host),
            threads=arguments.threads or probe_threads(),
        )
        print(
            f"serving {arguments.model} at {url(opened)} (OpenAI base URL {url(opened)}/v1); Ctrl-C ends it", flush=True
        )
        serve(app, opened)
