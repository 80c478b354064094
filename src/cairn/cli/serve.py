"""Serve a model over HTTP as OpenAI does, with a chat page at /.

    cairn serve runs/journey/dpo

Clients of OpenAI's API take http://127.0.0.1:8000/v1 as their base URL. Only this machine is served unless --host says
otherwise, and then a key is asked for: one a line in --api-key-file, or in CAIRN_API_KEY. Ctrl-C ends the server;
answers that are being written are finished first.
"""

import argparse
from pathlib import Path

from cairn.cli.options import add_settings, add_threads, read_settings
from cairn.core.errors import UserError

MAX_SLOTS = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from cairn.serving.config import ServerConfig

    parser.add_argument("model", type=Path, metavar="DIR", help="model directory")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="keys, one a line; a client must send one (default: those in CAIRN_API_KEY, else none)",
    )
    parser.add_argument("--no-key", action="store_true", help="serve other machines without a key")
    parser.add_argument("--name", help="name of the model for clients (default: the directory's)")
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="DIR",
        help="model directory that answers /v1/embeddings, an encoder for example (default: the served model)",
    )
    parser.add_argument(
        "--slots", type=int, default=16, metavar="N", help="answers at the same time (default: %(default)s)"
    )
    add_settings(parser, ServerConfig())
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 when the server ended because its engine failed."""
    from cairn.serving.config import ServerConfig
    from cairn.serving.server import check_host, names_of, open_socket, read_keys, serve, url

    config = read_settings(arguments, ServerConfig())
    keys = [] if arguments.no_key else read_keys(arguments.api_key_file)
    if not 1 <= arguments.slots <= MAX_SLOTS:
        raise UserError(f"--slots must be from 1 to {MAX_SLOTS}, got {arguments.slots}")
    check_host(arguments.host, keys, arguments.no_key)
    # What can go wrong at once is asked for before a model is loaded, which may take minutes.
    with open_socket(arguments.host, arguments.port) as opened:
        import cairn
        from cairn.inference.embed import Embedder
        from cairn.retrieval.tools import TOOLS
        from cairn.serving import create_app

        model, tokenizer = cairn.load(arguments.model)
        engine = cairn.Engine(model, tokenizer, slots=arguments.slots, threads=arguments.threads)
        app = create_app(
            engine,
            arguments.name or arguments.model.resolve().name,
            keys=keys,
            tools=TOOLS,
            hosts=names_of(arguments.host),
            config=config,
            embedder=Embedder.open(arguments.embeddings) if arguments.embeddings else None,
        )
        print(
            f"serving {arguments.model} at {url(opened)} (OpenAI base URL {url(opened)}/v1); Ctrl-C ends it", flush=True
        )
        return 0 if serve(app, opened, config.grace) else 1
