"""Pages of a list, as SageMaker's list calls give them."""

from __future__ import annotations

from datetime import datetime

from sagegate.errors import SagegateError
from sagegate.files import Json

SMALL = 10  # what comes back where MaxResults is not given: a caller who does not follow NextToken is caught


def page(key: str, items: list[Json], request: Json) -> Json:
    """`{key: items of this page, NextToken}`; raises SagegateError for a token that no answer had."""
    token = request.get("NextToken")
    if token is not None and not (token.startswith("page-") and token[5:].isdigit()):
        raise SagegateError(f"Invalid NextToken: {token}")
    start = int(token[5:]) if token else 0
    end = start + int(request.get("MaxResults") or SMALL)
    return {key: items[start:end]} | ({"NextToken": f"page-{end}"} if end < len(items) else {})


def between(when: datetime, request: Json, after: str, before: str) -> bool:
    """Whether a time is inside the request's limits, which JSON carries as seconds since 1970."""
    seconds = when.timestamp()
    return float(request.get(after) or 0) <= seconds <= float(request.get(before) or seconds)
