"""The HTTP application: OpenAI's routes, what lm-eval asks of a tokenizer, health, and the chat page."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from cairn.core.errors import UserError
from cairn.inference import Engine
from cairn.inference.tools import Tool
from cairn.serving.answers import Served, api_error, respond
from cairn.serving.chat import Chat, read_conversation
from cairn.serving.completions import Completion, read_prompts
from cairn.serving.guard import LOOPBACK_NAMES, Guard
from cairn.serving.protocol import ApiError, ChatRequest, CompletionRequest, DetokenizeRequest, Json, TokenizeRequest
from cairn.serving.worker import WAITING, BusyError, StoppedError, Worker

PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(
    engine: Engine,
    model_name: str,
    *,
    api_key: str | None = None,
    tools: Mapping[str, Tool] | None = None,
    hosts: Collection[str] | None = LOOPBACK_NAMES,
    threads: int = 1,
    waiting: int = WAITING,
) -> FastAPI:
    """The application; it takes the engine over, which nothing else may use while it runs.

    api_key: asked for as a bearer token. tools: run by the server within a chat request that brings no tools of its
    own. hosts: names a Host header may carry, None for any; with a key any is accepted. threads: of torch, in the
    worker. waiting: generations that may wait for a slot before requests are answered with 429.
    """
    worker = Worker(engine, threads=threads, waiting=waiting)
    served = Served(engine, worker, model_name, tools or {})

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await worker.stop()

    # No documentation pages: FastAPI's load their scripts from another site. /openapi.json stays.
    app = FastAPI(title="cairn", lifespan=lifespan, docs_url=None, redoc_url=None, default_response_class=Json)
    app.add_middleware(Guard, api_key=api_key, hosts=None if api_key is not None else hosts)
    for kind in (ApiError, RequestValidationError, HTTPException, UserError, BusyError, StoppedError, Exception):
        app.add_exception_handler(kind, _answer_error)
    _add_generating_routes(app, served)
    _add_other_routes(app, served)
    return app


async def _answer_error(_: Request, error: Exception) -> Response:
    return api_error(error).response()


def _add_generating_routes(app: FastAPI, served: Served) -> None:
    @app.post("/v1/completions")
    async def completions(request: Request, body: CompletionRequest) -> Response:
        served.check_model(body.model)
        prompts = await read_prompts(served, body)
        return await respond(request, body, served, Completion(served, body, prompts))

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        served.check_model(body.model)
        messages, prompt = await read_conversation(served, body)
        return await respond(request, body, served, Chat(served, body, messages, prompt))


def _add_other_routes(app: FastAPI, served: Served) -> None:
    engine, tokenizer = served.engine, served.engine.tokenizer
    page = files("cairn.serving").joinpath("page.html").read_text(encoding="utf-8")
    description: dict[str, Any] = {"id": served.model_name, "object": "model", "created": int(time.time())}
    description |= {"owned_by": "cairn", "max_model_len": engine.positions}

    @app.get("/", include_in_schema=False)
    async def chat_page() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"})

    @app.get("/health")
    async def health() -> Response:
        alive = served.worker.alive
        state = {
            "status": "ok" if alive else "stopping",
            "running": len(engine.running),
            "pending": served.worker.pending,
        }
        return Json(state, status_code=200 if alive else 503)

    @app.get("/v1/models")
    async def models() -> Response:
        return Json({"object": "list", "data": [description]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        served.check_model(name)
        return Json(description)

    @app.get("/tokenizer_info")
    async def tokenizer_info() -> Response:
        names = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos, "pad_token": tokenizer.pad}
        return Json(names | {"chat_template": tokenizer.chat_template, "vocab_size": tokenizer.vocab_size})

    @app.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> Response:
        served.check_model(body.model)
        ids = await asyncio.to_thread(tokenizer.encode, body.prompt, allow_special=True)
        if body.add_special_tokens and tokenizer.bos_id is not None:
            ids = [tokenizer.bos_id, *ids]
        return Json({"tokens": ids, "count": len(ids), "max_model_len": engine.positions})

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> Response:
        served.check_model(body.model)
        return Json({"prompt": tokenizer.decode(body.tokens)})
