"""Errors of the gateway: one line that says what to change, as RFC 9457 has it."""

import http
import logging

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from deployments.gateway.uploads.records import NotSent, QuotaExceeded, WrongOffset
from tasks.errors import (
    InvalidPayload,
    KeyTaken,
    OperatorError,
    PrefectureError,
    ResultExpired,
    ServerUnavailable,
    SourceNotFound,
    StorageUnavailable,
)

_log = logging.getLogger(__name__)
_TYPE = "application/problem+json"
_NOT_FOUND, _CONFLICT, _GONE, _UNPROCESSABLE, _UNAVAILABLE, _NO_SPACE = 404, 409, 410, 422, 503, 507
PAUSE = "5"
"""Seconds after which a client may try again, where the server or S3 is away."""
_SHOWN = 200  # characters of a path in a message
_NO_OBJECT = ("model_attributes_type", "dict_type")
_AWAY = "the gateway cannot do its work now: try again, or ask its operator, whose log says why"


def add_handlers(app: FastAPI) -> None:
    """Let an application answer errors in this form."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(PrefectureError, _failed)
    app.add_exception_handler(httpx.HTTPError, _failed)


def problem(status: int, detail: str, **headers: str) -> Response:
    """A response for an error."""
    body = {"title": http.HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, _TYPE)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, error.detail
    if detail == http.HTTPStatus(status).phrase:  # no route takes it
        path = str(request.scope["path"])  # as it came: that of `url` has no line breaks
        if not path.isprintable():
            return problem(_UNPROCESSABLE, "path: it has unprintable characters: leave them out")
        route = f"{request.method} {path[:_SHOWN]}"
        detail = f"{route}: there is no such route: /docs lists all of them"
    return problem(status, detail, **(error.headers or {}))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return problem(_UNPROCESSABLE, f"the body is not JSON: {first['ctx']['error']}")
    # The first part is where it stood: body, query or path.
    field = ".".join(map(str, first["loc"][1:])) or str(first["loc"][0])
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] in _NO_OBJECT and not _is_json(request):
        reason = "send JSON, with the header `Content-Type: application/json`"
    if first["type"] == "uuid_parsing":
        reason = f"{str(first['input'])[:_SHOWN]!r} is no id of a job: GET /v1/jobs lists them"
    if first["type"] == "extra_forbidden":
        reason = "there is no such field here: leave it out"
    return problem(_UNPROCESSABLE, f"{field}: {reason}")


def _is_json(request: Request) -> bool:
    """Whether a request says that its body is JSON: then it is read as such."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _failed(request: Request, error: Exception) -> Response:
    match error:
        case KeyTaken():
            return problem(_CONFLICT, str(error))
        case WrongOffset():
            return problem(_CONFLICT, str(error), **{"Upload-Offset": str(error.offset)})
        case QuotaExceeded():
            return problem(_NO_SPACE, str(error))
        case NotSent():
            _log.warning("%s %s: %s", request.method, request.url.path, error.__cause__)
            return problem(_UNAVAILABLE, str(error), **{"Retry-After": PAUSE})
        case ResultExpired():
            return problem(_GONE, str(error))
        case SourceNotFound():
            return problem(_NOT_FOUND, str(error))
        case InvalidPayload():
            return problem(_UNPROCESSABLE, str(error))
        case ServerUnavailable() | StorageUnavailable() | OperatorError() | httpx.HTTPError():
            # Its text is for the operator: it names addresses and variables of the host.
            # Some errors of httpx, such as PoolTimeout, have no text.
            text = str(error) or type(error).__name__
            _log.warning("%s %s: %s", request.method, request.url.path, text)
            return problem(_UNAVAILABLE, _AWAY, **{"Retry-After": PAUSE})
        case _:
            return problem(_CONFLICT, str(error))
