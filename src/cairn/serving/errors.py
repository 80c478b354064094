"""Every mistake as an answer in OpenAI's error form, with its HTTP status."""

import json
import re
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cairn.core.errors import UserError
from cairn.serving.protocol import PARAMETERS

CLIENT_GONE = 499  # nginx's status of a client that left before the answer; nobody reads it
LONGEST_NAME, LONGEST_MESSAGE = 100, 1000  # characters of what a client wrote and hears again
UNREAD_BODY = "There was an error parsing the body"  # FastAPI's words for what json.loads raises beside its own error


class ApiError(Exception):
    """An answer in OpenAI's error form with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(shortened(message, LONGEST_MESSAGE))
        self.param = None if param is None else shortened(param)
        self.status, self.code, self.headers = status, code, headers

    def body(self) -> dict[str, Any]:
        kinds = {429: "rate_limit_error", 401: "authentication_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return Json(self.body(), status_code=self.status, headers=self.headers)


def shortened(text: str, most: int = LONGEST_NAME) -> str:
    return text if len(text) <= most else text[:most] + "..."


class BusyError(Exception):
    """Too many generations wait."""


class StoppedError(Exception):
    """The server is going down."""


class SlowError(Exception):
    """A request took longer than it may."""


class Json(JSONResponse):
    """JSON in ASCII: half a surrogate pair, which a client may send and see again in an error, is no valid UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def api_error(error: Exception) -> ApiError:
    """Any error as one of OpenAI's form; what is not the client's fault stays in the log."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return describe(error)
    if isinstance(error, UserError):
        return _wrong_value(str(error))
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="rate_limit_exceeded", headers={"Retry-After": "1"})
    if isinstance(error, StoppedError):
        return ApiError(503, str(error), code="stopping", headers={"Retry-After": "10"})
    if isinstance(error, SlowError):
        return ApiError(504, str(error), code="timeout")
    if isinstance(error, HTTPException):
        if error.detail == UNREAD_BODY:
            return ApiError(400, f"the body is not valid JSON ({_unread(error.__cause__)})", code="invalid_json")
        details = {404: "this route does not exist", 405: "this route does not take this method"}
        message = details.get(error.status_code, error.detail)
        return ApiError(error.status_code, message, headers=dict(error.headers or {}))
    return ApiError(500, "the server failed on this request; its log has the reason")


def _wrong_value(message: str) -> ApiError:
    """Mistakes found beyond the body's form begin with the name of the parameter, if it is one's."""
    name = re.match(r"\w*", message)
    if name is None or name[0] not in PARAMETERS:
        return ApiError(400, message)
    return ApiError(400, message, param=name[0], code="invalid_value")


def _unread(cause: BaseException | None) -> str:
    if isinstance(cause, RecursionError):
        return "lists or objects are nested too deeply"
    if isinstance(cause, UnicodeDecodeError):
        return "it is not UTF-8"
    return "a number has too many digits"


def describe(error: RequestValidationError) -> ApiError:
    """The first thing wrong with a body, in one line that names the parameter."""
    first = error.errors()[0]
    name = shortened(".".join(str(part) for part in first["loc"] if part != "body"))
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON ({first['ctx']['error']})", code="invalid_json")
    message = first["msg"].removeprefix("Value error, ")
    if not name:
        # A check of several parameters together names them itself; anything else is a body of another kind.
        return _wrong_value(message if first["type"] == "value_error" else "the body must be a JSON object")
    if first["type"] == "extra_forbidden":
        return ApiError(
            400, f"{name} is not supported by this server; leave it out", param=name, code="unsupported_parameter"
        )
    if first["type"] == "missing":
        return ApiError(400, f"{name} is required", param=name, code="missing_parameter")
    return ApiError(400, f"{name}: {message}", param=name, code="invalid_value")
