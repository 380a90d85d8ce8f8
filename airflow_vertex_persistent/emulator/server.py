# SPDX-License-Identifier: Apache-2.0
"""
The gRPC server: a table of RPCs over the published message types, no generated stubs.

An RPC that is not in the table answers UNIMPLEMENTED.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import proto
from google.cloud import aiplatform_v1, logging_v2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, struct_pb2
from google.protobuf.message import DecodeError, Message

from .control import SERVICE as CONTROL
from .errors import ApiError, invalid
from .services import Call

if TYPE_CHECKING:
    from .gate import Gate
    from .services.control import Control
    from .services.jobs import CustomJobs
    from .services.logging import Logging
    from .services.operations import Operations
    from .services.persistent_resources import PersistentResources
    from .services.tuning_jobs import TuningJobs

_log = logging.getLogger(__name__)
_HOST = "127.0.0.1"
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a port shared with another emulator
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
)

Handler = Callable[[Any, Call], Awaitable[Any]]


@dataclass(frozen=True)
class Rpc:
    """
    One row of the table.

    :param gated: whether calls are counted and can have faults.
    """

    handler: Handler
    request_type: Any
    reply_type: Any
    gated: bool = True


def rpc_table(
    jobs: CustomJobs,
    tuning: TuningJobs,
    resources: PersistentResources,
    operations: Operations,
    logs: Logging,
) -> dict[str, Rpc]:
    """Everything of Google's services that the emulator can do, by full method name."""
    job, resource = (
        "/google.cloud.aiplatform.v1.JobService",
        "/google.cloud.aiplatform.v1.PersistentResourceService",
    )
    lro, types = "/google.longrunning.Operations", aiplatform_v1
    operation, empty = operations_pb2.Operation, empty_pb2.Empty
    return {
        f"{job}/CreateCustomJob": Rpc(jobs.create, types.CreateCustomJobRequest, types.CustomJob),
        f"{job}/GetCustomJob": Rpc(jobs.get, types.GetCustomJobRequest, types.CustomJob),
        f"{job}/ListCustomJobs": Rpc(jobs.list, types.ListCustomJobsRequest, types.ListCustomJobsResponse),
        f"{job}/CancelCustomJob": Rpc(jobs.cancel, types.CancelCustomJobRequest, empty),
        f"{job}/DeleteCustomJob": Rpc(jobs.delete, types.DeleteCustomJobRequest, operation),
        f"{job}/CreateHyperparameterTuningJob": Rpc(
            tuning.create, types.CreateHyperparameterTuningJobRequest, types.HyperparameterTuningJob
        ),
        f"{job}/GetHyperparameterTuningJob": Rpc(
            tuning.get, types.GetHyperparameterTuningJobRequest, types.HyperparameterTuningJob
        ),
        f"{job}/ListHyperparameterTuningJobs": Rpc(
            tuning.list,
            types.ListHyperparameterTuningJobsRequest,
            types.ListHyperparameterTuningJobsResponse,
        ),
        f"{job}/CancelHyperparameterTuningJob": Rpc(
            tuning.cancel, types.CancelHyperparameterTuningJobRequest, empty
        ),
        f"{job}/DeleteHyperparameterTuningJob": Rpc(
            tuning.delete, types.DeleteHyperparameterTuningJobRequest, operation
        ),
        f"{resource}/CreatePersistentResource": Rpc(
            resources.create, types.CreatePersistentResourceRequest, operation
        ),
        f"{resource}/GetPersistentResource": Rpc(
            resources.get, types.GetPersistentResourceRequest, types.PersistentResource
        ),
        f"{resource}/ListPersistentResources": Rpc(
            resources.list, types.ListPersistentResourcesRequest, types.ListPersistentResourcesResponse
        ),
        f"{resource}/UpdatePersistentResource": Rpc(
            resources.update, types.UpdatePersistentResourceRequest, operation
        ),
        f"{resource}/RebootPersistentResource": Rpc(
            resources.reboot, types.RebootPersistentResourceRequest, operation
        ),
        f"{resource}/DeletePersistentResource": Rpc(
            resources.delete, types.DeletePersistentResourceRequest, operation
        ),
        f"{lro}/GetOperation": Rpc(operations.get, operations_pb2.GetOperationRequest, operation),
        f"{lro}/WaitOperation": Rpc(operations.wait, operations_pb2.WaitOperationRequest, operation),
        f"{lro}/ListOperations": Rpc(
            operations.list, operations_pb2.ListOperationsRequest, operations_pb2.ListOperationsResponse
        ),
        f"{lro}/CancelOperation": Rpc(operations.cancel, operations_pb2.CancelOperationRequest, empty),
        f"{lro}/DeleteOperation": Rpc(operations.delete, operations_pb2.DeleteOperationRequest, empty),
        "/google.logging.v2.LoggingServiceV2/ListLogEntries": Rpc(
            logs.list_entries,
            logging_v2.types.ListLogEntriesRequest,
            logging_v2.types.ListLogEntriesResponse,
        ),
    }


def control_table(control: Control) -> dict[str, Rpc]:
    """The emulator's own service, by full method name."""
    handlers = {
        "AddFault": control.add_fault,
        "ListFaults": control.list_faults,
        "ClearFaults": control.clear_faults,
        "CountCalls": control.count_calls,
        "ListDeadlines": control.list_deadlines,
        "ResetCalls": control.reset_calls,
        "FailResource": control.fail_resource,
        "SetStock": control.set_stock,
        "ListCapacity": control.list_capacity,
        "Preempt": control.preempt,
    }
    struct = struct_pb2.Struct
    return {
        f"{CONTROL}/{name}": Rpc(handler, struct, struct, gated=False) for name, handler in handlers.items()
    }


def short_name(method: str) -> str:
    """``CreateCustomJob`` of ``/google.cloud.aiplatform.v1.JobService/CreateCustomJob``."""
    return method.rpartition("/")[2]


class _Router(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in the stubs alone
    """Finds the row of a call."""

    def __init__(self, table: dict[str, Rpc], gate: Gate) -> None:
        self._handlers = {
            # Requests arrive as bytes, so that one which cannot be read gets our answer and not the library's.
            name: grpc.unary_unary_rpc_method_handler(_answering(name, rpc, gate))
            for name, rpc in table.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)


def _answering(name: str, rpc: Rpc, gate: Gate) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """Wrap a handler: bytes in, bytes out, every exception a status code."""
    method = short_name(name)

    async def answer(data: bytes, context: Any) -> bytes:
        async def work(call: Call) -> bytes:
            return _serialize(await rpc.handler(_parse(rpc.request_type, data), call), rpc.reply_type)

        def resource() -> str:
            return _resource_name(_parse(rpc.request_type, data))

        try:
            metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
            call = Call(metadata, context.time_remaining())
            return await (gate.through(method, call, work, resource) if rpc.gated else work(call))
        except ApiError as error:
            await context.abort(error.code, error.text)
        except Exception:  # noqa: BLE001 - one bad call must not end the server, and the log has its traceback
            _log.exception("%s failed in the emulator", name)
            await context.abort(grpc.StatusCode.INTERNAL, "Internal error encountered.")
        raise AssertionError("abort always raises")

    return answer


def _parse(kind: Any, data: bytes) -> Any:
    try:
        return kind.deserialize(data) if issubclass(kind, proto.Message) else kind.FromString(data)
    except DecodeError as error:
        raise invalid("The request cannot be read: it is no valid protocol buffer.") from error


def _resource_name(request: Any) -> str:
    """Tell what a request is about, as it says it: a thing by its name, or the place of what is created or listed."""
    names = [getattr(request, field, "") for field in ("name", "parent")]
    names += getattr(request, "resource_names", ())
    names.append(getattr(getattr(request, "persistent_resource", None), "name", ""))
    return next(filter(None, names), "")


def _serialize(reply: Any, kind: Any) -> bytes:
    if not isinstance(reply, kind):
        raise TypeError(f"{type(reply).__name__} is not a {kind.__name__}")
    message: Message = kind.pb(reply) if isinstance(reply, proto.Message) else reply
    return message.SerializeToString()


def bind_server(table: dict[str, Rpc], gate: Gate, port: int) -> tuple[grpc.aio.Server, int]:
    """
    Make a server that has its port of the loopback interface, and is yet to be started.

    :param gate: what gated calls go through.
    :param port: 0 takes a free one.
    :return: the server and its port.
    :raises OSError: when the port is in use.
    """
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((_Router(table, gate),))
    try:
        bound = server.add_insecure_port(f"{_HOST}:{port}")
    except RuntimeError as error:
        raise OSError(f"port {port} is in use") from error
    return server, bound
