"""The wire contract: message classes and method names, from the compiled descriptor set."""
from importlib import resources

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOCOL_VERSION = 1  # must equal kProtocolVersion of the other side; raised with every change
SERVICE = "tramontane.v1.Verifier"

_PACKAGE = "tramontane.v1."


def _load() -> descriptor_pool.DescriptorPool:
    data = resources.files("tramontane_verifier").joinpath("contract.binpb").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(data)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


_pool = _load()


def _message(name: str):
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(_PACKAGE + name))


DescribeRequest = _message("DescribeRequest")
VerifierDescription = _message("VerifierDescription")
VerifyRequest = _message("VerifyRequest")
VerifyResult = _message("VerifyResult")
CancelRequest = _message("CancelRequest")
CancelReply = _message("CancelReply")

Status = {
    value.name.removeprefix("VERIFY_STATUS_"): value.number
    for value in _pool.FindEnumTypeByName(_PACKAGE + "VerifyStatus").values
}
FINISH_REASONS = {
    value.number: value.name.removeprefix("FINISH_REASON_").lower()
    for value in _pool.FindEnumTypeByName(_PACKAGE + "FinishReason").values
}
DETERMINISM = {
    value.name.removeprefix("DETERMINISM_").lower(): value.number
    for value in _pool.FindEnumTypeByName(_PACKAGE + "Determinism").values
}
