"""A refusal: one sentence in the form of MLflow's errors."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

CODES = {
    401: "UNAUTHENTICATED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


def refuse(status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer; it can be sent without an application around it, too."""
    content = {"error_code": CODES.get(status, "INVALID_PARAMETER_VALUE"), "message": sentence}
    return JSONResponse(content, status_code=status, headers=headers)


def refuse_for_now(sentence: str, *, retry_seconds: int) -> JSONResponse:
    """An answer to those who shall come back."""
    return refuse(503, sentence, headers={"Retry-After": str(retry_seconds)})
