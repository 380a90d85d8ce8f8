# SPDX-License-Identifier: Apache-2.0
"""Talking to a running emulator about itself: faults to come, calls that came, machines that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .settings import CLUSTER_ERROR

if TYPE_CHECKING:
    from types import TracebackType

SERVICE = "/vertex_emulator.Control"
_CALL_SECONDS = 10.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # no proxy of the user's environment may stand before our own machine
    ("grpc.max_receive_message_length", -1),
)


def unreachable(host: str) -> OSError:
    """What to tell a user who asks an emulator that is not there."""
    return OSError(
        f"no emulator answers at {host}. Start one with: vertex-emulator start, or name another with --host"
    )


class EmulatorControl:
    """
    Orders faults of a running emulator, reads which calls it got, breaks persistent resources, and says how many
    machines there are.

    .. code-block:: python

        with EmulatorControl("127.0.0.1:8085") as control:
            control.add_fault("CreateCustomJob", "lost_reply")
            control.add_fault("GetCustomJob", "unavailable", times=3, skip=1)

    The faults of one method are a script: each lets ``skip`` calls pass, hits ``times`` calls, and then it is the
    next one's turn. Every method raises :class:`OSError` when no emulator answers. A restart of the emulator
    forgets faults, calls and stock.

    :param address: ``host:port`` of the emulator, the value of VERTEX_AI_EMULATOR_HOST.
    """

    def __init__(self, address: str) -> None:
        # Importing the emulator must stay cheap.
        import grpc

        self._address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def add_fault(
        self,
        method: str,
        kind: str,
        *,
        times: int = 1,
        skip: int = 0,
        seconds: float | None = None,
        text: str | None = None,
    ) -> None:
        """
        Order a fault.

        :param method: short name of the RPC, e.g. ``CreateCustomJob``.
        :param kind: ``unavailable``, ``deadline_exceeded``, ``internal``, ``rate_limit``, ``quota`` and
            ``permission_denied`` refuse the call. ``slow_request`` waits before the call is handled (which never
            happens when the caller has gone by then); ``slow_reply`` handles it at once and keeps the reply;
            ``lost_reply`` handles it and answers UNAVAILABLE. ``stockout``, of CreateCustomJob,
            CreateHyperparameterTuningJob, CreatePersistentResource and RebootPersistentResource, finds no machines
            for what is created or rebooted: it ends FAILED, or in ERROR. ``late_error``, of the creation of jobs,
            fills the error of the job, if it fails, later than its state.
        :param times: calls that it hits.
        :param skip: calls of the method that it lets pass first.
        :param seconds: for ``slow_request``, ``slow_reply`` and ``late_error``: how long.
        :param text: replaces the text that the service would give. ``{region}`` is filled in for ``stockout``, and
            ``{resource}``, the name of what the call is about, for a refusal.
        :raises ValueError: for an unknown method or kind, and for numbers and texts that make no sense with it.
        """
        fields = {
            "method": method,
            "kind": kind,
            "times": times,
            "skip": skip,
            "seconds": seconds,
            "text": text,
        }
        self._ask("AddFault", **{name: value for name, value in fields.items() if value is not None})

    def faults(self) -> list[dict[str, Any]]:
        """
        All ordered faults in order, used up or not.

        :return: ``method``, ``kind``, ``times``, ``skip``, ``seconds``, ``text``, ``passed`` (calls that it has let
            pass) and ``used`` (calls that it has hit) of each.
        """
        whole = ("times", "skip", "passed", "used")
        found = self._ask("ListFaults")["faults"]
        return [fault | {name: int(fault[name]) for name in whole} for fault in found]

    def clear_faults(self) -> None:
        """Forget all faults; what they have done already stays."""
        self._ask("ClearFaults")

    def call_counts(self) -> dict[str, int]:
        """How often each RPC was called since the last reset, refused calls too; also names those never called."""
        return {method: int(count) for method, count in self._ask("CountCalls")["counts"].items()}

    def call_deadlines(self, method: str) -> list[float | None]:
        """
        Seconds that each call of an RPC had left when it came in, oldest first; ``None`` had no deadline.

        Only the last 100,000 calls of all RPCs since the last reset are kept.

        :raises ValueError: for an unknown method.
        """
        found: list[float | None] = self._ask("ListDeadlines", method=method)["seconds"]
        return found

    def reset_calls(self) -> None:
        """Forget the calls of before."""
        self._ask("ResetCalls")

    def fail_resource(self, name: str, text: str = CLUSTER_ERROR) -> None:
        """
        Let a RUNNING persistent resource fall into ERROR; jobs on it end FAILED with an internal error.

        :param name: full resource name, ``projects/PROJECT/locations/REGION/persistentResources/ID``.
        :param text: its error; ``{region}`` is filled in.
        :raises ValueError: when there is no such resource, or it is not RUNNING.
        """
        self._ask("FailResource", name=name, text=text)

    def set_stock(self, where: str, stock: str | int) -> list[str]:
        """
        Say how many machines there are outside persistent resources, from now on.

        :param where: ``REGION/MACHINE_TYPE``; either may be ``*``. Of several stocks the most exact one counts.
        :param stock: as the setting ``stock``: ``8``, ``"never"``, ``"unlimited"``, a timetable that begins now, or a
            random one.
        :return: what looks like a slip in ``where``, in words: a machine type that the emulator does not know, a
            region of another form. The stock is set even so.
        :raises ValueError: for what cannot be read.
        """
        doubts: list[str] = self._ask("SetStock", where=where, stock=str(stock))["doubts"]
        return doubts

    def capacity(self) -> list[dict[str, Any]]:
        """
        Machines outside persistent resources that are in use, waited for, or named in a stock.

        :return: ``region``, ``machine_type``, ``stock`` (``None`` = unlimited), ``in_use``, ``next_change`` (ISO
            time) and ``next_stock`` (both ``None`` when nothing changes), and ``queue``: the Flex Start jobs that
            wait, the next one first, each with ``job`` (its name), ``nodes``, ``waited`` and ``wait_limit`` (seconds;
            ``None`` = for ever).
        """
        found: list[dict[str, Any]] = self._ask("ListCapacity")["capacity"]
        for shelf in found:
            for name in ("stock", "in_use", "next_stock"):
                shelf[name] = None if shelf[name] is None else int(shelf[name])
            for place in shelf["queue"]:
                place["nodes"] = int(place["nodes"])
        return found

    def wildcard_stocks(self) -> list[dict[str, Any]]:
        """
        What was said of the machines of several regions or machine types at once.

        :return: ``where`` (with ``*``), ``stock`` (as it was written) and ``since`` (seconds) of each.
        """
        found: list[dict[str, Any]] = self._ask("ListCapacity")["wildcards"]
        return found

    def quota(self) -> list[dict[str, Any]]:
        """
        Quota metrics that have a limit.

        :return: ``metric``, ``region``, ``project`` (a number; ``None`` as long as nobody uses any), ``limit``,
            ``in_use`` and ``queue``: the jobs that wait for some, the next one first, each with ``job`` (its name),
            ``gpus``, ``waited`` and ``wait_limit`` (seconds; ``None`` = for ever).
        """
        found: list[dict[str, Any]] = self._ask("ListCapacity")["quota"]
        for account in found:
            account |= {name: int(account[name]) for name in ("limit", "in_use")}
            for place in account["queue"]:
                place["gpus"] = int(place["gpus"])
        return found

    def preempt(self, job: str) -> None:
        """
        Take the machines of a SPOT job away: it is PENDING again, and restarted when there are machines.

        :param job: its name, or its id.
        :raises ValueError: when it does not exist, is no SPOT job, or has no machines.
        """
        self._ask("Preempt", job=job)

    def _ask(self, rpc: str, **fields: Any) -> dict[str, Any]:
        import grpc
        from google.protobuf.json_format import MessageToDict
        from google.protobuf.struct_pb2 import Struct

        request = Struct()
        request.update(fields)
        call = self._channel.unary_unary(f"{SERVICE}/{rpc}", Struct.SerializeToString, Struct.FromString)
        try:
            return dict(MessageToDict(call(request, timeout=_CALL_SECONDS)))
        except grpc.RpcError as error:
            code, text = error.code(), error.details()
            if code is grpc.StatusCode.INVALID_ARGUMENT:
                raise ValueError(text) from error
            if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise unreachable(self._address) from error
            raise OSError(f"{self._address} answers, but not as a Vertex AI emulator: {text}") from error
