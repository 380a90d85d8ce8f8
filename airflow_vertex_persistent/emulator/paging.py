# SPDX-License-Identifier: Apache-2.0
"""Pages of list calls. A token says where to go on, so what is added or deleted meanwhile does no harm."""

from __future__ import annotations

import base64
import hashlib
import json
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Row = TypeVar("Row")

DEFAULT_SIZE = 100
_LARGEST_SIZE = 1000


def page(
    rows: Sequence[Row],
    place: Callable[[Row], Any],
    *,
    size: int,
    token: str,
    question: str,
    descending: bool = False,
) -> tuple[list[Row], str]:
    """
    Cut one page out of all rows.

    :param rows: everything that the call could answer, in the order of ``place``.
    :param place: a number or a text that is different for each row and never changes.
    :param size: rows wanted; 0 means the default, too many are cut to the largest page.
    :param token: of the page before, empty for the first page.
    :param question: what was asked; a token of another question is refused.
    :param descending: rows come in falling order of ``place``.
    :return: the rows, and the token of the next page or an empty string.
    :raises ApiError: INVALID_ARGUMENT for a negative size or a token that is not ours.
    """
    question = f"{question} {descending}"
    if (last := last_place(token, question)) is not None:
        rows = [row for row in rows if (place(row) < last if descending else place(row) > last)]
    return first_page(rows, place, size=size, question=question)


def last_place(token: str, question: str) -> Any:
    """
    Read where the page before ended, ``None`` for the first page.

    :raises ApiError: INVALID_ARGUMENT for a token that is not ours or of another question.
    """
    return _read(token, question) if token else None


def first_page(
    rows: Iterable[Row], place: Callable[[Row], Any], *, size: int, question: str
) -> tuple[list[Row], str]:
    """
    Take the first page of rows that begin where the page before ended; no more of them are asked for than needed.

    See :func:`page` for what the parameters mean.

    :raises ApiError: INVALID_ARGUMENT for a negative size.
    """
    if size < 0:
        raise invalid(f"page_size {size} is negative.")
    size = min(size or DEFAULT_SIZE, _LARGEST_SIZE)
    chosen = list(islice(rows, size + 1))
    if len(chosen) <= size:
        return chosen, ""
    return chosen[:size], _write(place(chosen[size - 1]), question)


def _digest(question: str) -> str:
    return hashlib.sha256(question.encode()).hexdigest()[:12]


def _write(last: Any, question: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([_digest(question), last]).encode()).decode()


def _read(token: str, question: str) -> Any:
    try:
        digest, last = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, RecursionError) as error:
        raise invalid("page_token is invalid.") from error
    if digest != _digest(question):
        raise invalid("page_token belongs to another request.")
    return last
