"""The Control service, as every process of a run serves it, and gRPC reflection."""
import math
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, json_format
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from tramontane_verifier import contract

_LONGEST_DRAIN_S = 3600.0


def unary_handlers(service: str, methods: dict[str, tuple[Callable, type]],
                   **others: grpc.RpcMethodHandler) -> grpc.GenericRpcHandler:
    """Handlers of a service: methods by name with their request's type; `others` that are not unary."""
    unary = {
        name: grpc.unary_unary_rpc_method_handler(
            method, request.FromString, lambda reply: reply.SerializeToString())
        for name, (method, request) in methods.items()
    }
    return grpc.method_handlers_generic_handler(service, unary | others)


class ControlServicer:
    """All members run on the service's event loop."""

    def __init__(self, process: str, metrics_address: str, state: Callable[[], dict[str, Any]],
                 drain: Callable[[float], None]):
        """`state`: {"phase": …, "detail": {…}}; `drain` gets the deadline in seconds, 0 = the default."""
        self._process = process
        self._metrics_address = metrics_address
        self._state = state
        self._drain = drain

    async def hello(self, request, context):
        if problem := contract.skew(request.handshake):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, problem)
        reply = contract.HelloReply(process=self._process, metrics_address=self._metrics_address)
        contract.set_handshake(reply.handshake)
        return reply

    async def get_process_state(self, request, context):
        return json_format.ParseDict(self._state() | {"process": self._process},
                                     contract.ProcessState())

    async def drain(self, request, context):
        if not math.isfinite(request.deadline_s) or request.deadline_s < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT,
                                "deadline_s must be finite and not negative")
        self._drain(min(request.deadline_s, _LONGEST_DRAIN_S))
        return contract.DrainReply()

    def handlers(self) -> grpc.GenericRpcHandler:
        return unary_handlers(contract.CONTROL, {
            "Hello": (self.hello, contract.HelloRequest),
            "GetProcessState": (self.get_process_state, contract.GetProcessStateRequest),
            "Drain": (self.drain, contract.DrainRequest),
        })


def add_reflection(server: grpc.aio.Server, service: str = contract.SERVICE) -> None:
    for module in (health_pb2, reflection_pb2):  # served too, and not in our descriptor set
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        contract.POOL.Add(file)
    reflection.enable_server_reflection(
        (service, contract.CONTROL,
         health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
        server, contract.POOL)
