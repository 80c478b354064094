"""The HTTP application: OpenAI's routes, what lm-eval asks of a tokenizer, figures, health, and the chat page."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from cairn.core.errors import UserError
from cairn.inference import Engine
from cairn.inference.embed import Embedder
from cairn.inference.tools import Tool
from cairn.serving.answers import Served, respond, unless_gone
from cairn.serving.chat import Chat, read_conversation
from cairn.serving.completions import Completion, read_prompts
from cairn.serving.config import ServerConfig
from cairn.serving.embeddings import Embeddings
from cairn.serving.errors import CLIENT_GONE, ApiError, BusyError, Json, SlowError, StoppedError, api_error
from cairn.serving.guard import LOOPBACK_NAMES, Guard
from cairn.serving.metrics import CONTENT_TYPE, CountRequests
from cairn.serving.page import chat_page
from cairn.serving.protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from cairn.serving.worker import Worker


def create_app(
    engine: Engine,
    model_name: str,
    *,
    keys: Collection[str] = (),
    tools: Mapping[str, Tool] | None = None,
    hosts: Collection[str] | None = LOOPBACK_NAMES,
    config: ServerConfig | None = None,
    embedder: Embedder | None = None,
) -> FastAPI:
    """The application; it takes the engine over, which nothing else may use while it runs.

    keys: one of them is asked for as a bearer token, if there is any. tools: run by the server within a chat request
    that brings no tools of its own. hosts: names a Host header may carry, None for any; with keys any is accepted.
    embedder: answers /v1/embeddings; by default the mean over the engine's own model.
    `app.state.worker` is the worker (`serve` asks it to come to an end).
    """
    config = config or ServerConfig()
    worker = Worker(engine, config)
    served = Served(engine, worker, model_name, tools or {}, config)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await worker.stop()

    # No documentation pages: FastAPI's load their scripts from another site. /openapi.json stays.
    app = FastAPI(title="cairn", lifespan=lifespan, docs_url=None, redoc_url=None, default_response_class=Json)
    app.state.worker = worker
    app.add_middleware(Guard, keys=keys, hosts=None if keys else hosts, largest=config.body_mib << 20)
    if config.origins:  # outside the guard: a browser asks for permission without the key
        # Clients send headers of their own (x-stainless-* is OpenAI's) and must be able to read when to come back.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        )
    app.add_middleware(CountRequests, metrics=worker.metrics)
    kinds = (ApiError, RequestValidationError, HTTPException, UserError, BusyError, SlowError, StoppedError, Exception)
    for kind in kinds:
        app.add_exception_handler(kind, _answer_error)
    _add_generating_routes(app, served)
    _add_embeddings(app, served, embedder)
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


def _add_embeddings(app: FastAPI, served: Served, embedder: Embedder | None) -> None:
    embedder = embedder or Embedder(served.engine.model, served.engine.tokenizer)
    answering = Embeddings(embedder, served.model_name, served.worker, served.config.timeout)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request, body: EmbeddingRequest) -> Response:
        served.check_model(body.model)
        answer = await unless_gone(request, answering.answer(body))
        return Response(status_code=CLIENT_GONE) if answer is None else Json(answer)


def _add_other_routes(app: FastAPI, served: Served) -> None:
    engine, tokenizer = served.engine, served.engine.tokenizer
    worker = served.worker
    page, page_headers = chat_page()
    description: dict[str, Any] = {"id": served.model_name, "object": "model", "created": int(time.time())}
    description |= {"owned_by": "cairn", "max_model_len": engine.positions}

    @app.get("/", include_in_schema=False)
    async def home() -> Response:
        return HTMLResponse(page, headers=page_headers)

    @app.get("/health")
    async def health() -> Response:
        state = {"status": "ok" if worker.alive else "stopping", "running": worker.stats.running}
        return Json(state | {"pending": worker.pending}, status_code=200 if worker.alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(worker.metrics.text(), media_type=CONTENT_TYPE)

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
        if body.messages is not None:
            messages, generation = [m.message() for m in body.messages], body.add_generation_prompt
            ids = await asyncio.to_thread(tokenizer.encode_chat, messages, add_generation_prompt=generation)
        else:
            ids = await asyncio.to_thread(tokenizer.encode, body.prompt or "", allow_special=True)
            if body.add_special_tokens and tokenizer.bos_id is not None:
                ids = [tokenizer.bos_id, *ids]
        return Json({"tokens": ids, "count": len(ids), "max_model_len": engine.positions})

    @app.post("/detokenize")
    async def detokenize(body: DetokenizeRequest) -> Response:
        served.check_model(body.model)
        served.check_ids(body.tokens, "tokens")
        return Json({"prompt": await asyncio.to_thread(tokenizer.decode, body.tokens)})
