# SPDX-License-Identifier: Apache-2.0
"""
gcp-storage-emulator as a program, which says of a missing bucket that it is missing: its own answer has no text.

The list of its handlers is none of its documented parts: where it looks different, all answers stay as they are.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[..., Any]


def name_missing_buckets() -> None:
    """Let each handler of a request about a bucket, or an object in one, say that the bucket does not exist."""
    with suppress(AttributeError, TypeError, ValueError):
        server.HANDLERS = tuple(
            (route, {method: _naming(handler) for method, handler in handlers.items()})
            for route, handlers in server.HANDLERS
        )


def _naming(handler: Handler) -> Handler:
    def handle(request: Any, response: Any, storage: Any) -> None:
        handler(request, response, storage)
        bucket = request.params.get("bucket_name")
        if bucket and response.status is HTTPStatus.NOT_FOUND and not storage.get_bucket(bucket):
            text = (
                f"The specified bucket does not exist. To make it, start the emulator with --bucket {bucket}"
            )
            response.json({"error": {"code": HTTPStatus.NOT_FOUND, "message": text}})

    return handle


if __name__ == "__main__":
    name_missing_buckets()
    main()
