# SPDX-License-Identifier: Apache-2.0
"""What the emulated service answers when it says no: one exception, its code and its text."""

from __future__ import annotations

import grpc


class ApiError(Exception):
    """
    A call ends with this status code and text.

    :param code: the gRPC status code.
    :param text: what the caller reads.
    """

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def invalid(text: str) -> ApiError:
    """INVALID_ARGUMENT: the request is wrong whatever the world looks like."""
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, text)


def not_found(text: str) -> ApiError:
    """NOT_FOUND."""
    return ApiError(grpc.StatusCode.NOT_FOUND, text)


def refused(text: str) -> ApiError:
    """FAILED_PRECONDITION: the request is fine, but not now."""
    return ApiError(grpc.StatusCode.FAILED_PRECONDITION, text)


def unimplemented(text: str) -> ApiError:
    """UNIMPLEMENTED: the real service can do this, the emulator cannot."""
    return ApiError(grpc.StatusCode.UNIMPLEMENTED, text)


class Problems:
    """Everything that is wrong with one request, told in one answer as the service words it."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, text: str) -> None:
        """
        Remember one problem.

        :param field: path of the field in the request.
        :param text: what is wrong with it.
        """
        self._found.append((field, text))

    def check(self, ok: object, field: str, text: str) -> None:
        """Remember a problem unless ``ok`` holds."""
        if not ok:
            self.add(field, text)

    def answer(self) -> None:
        """
        Refuse the request when there was a problem.

        :raises ApiError: INVALID_ARGUMENT with the list of problems.
        """
        if self._found:
            lines = (f"{n}.Field: {field}; Message: {text}" for n, (field, text) in enumerate(self._found, 1))
            raise invalid("List of found errors:\t" + "\t".join(lines))
