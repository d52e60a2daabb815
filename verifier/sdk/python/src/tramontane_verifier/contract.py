"""The wire contract: message classes and method names, from the compiled descriptor set."""
from importlib import resources

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOCOL_VERSION = 1  # must equal kProtocolVersion of the other side; raised with every change
BUILD = "python-sdk 0.1.0"
SERVICE = "tramontane.v1.Verifier"
CONTROL = "tramontane.v1.Control"
ENVIRONMENT = "tramontane.v1.Environment"

_PACKAGE = "tramontane.v1."


def _load() -> descriptor_pool.DescriptorPool:
    data = resources.files("tramontane_verifier").joinpath("contract.binpb").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(data)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


POOL = _load()


def _message(name: str):
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(_PACKAGE + name))


DescribeRequest = _message("DescribeRequest")
VerifierDescription = _message("VerifierDescription")
VerifyRequest = _message("VerifyRequest")
VerifyResult = _message("VerifyResult")
CancelRequest = _message("CancelRequest")
CancelReply = _message("CancelReply")
HelloRequest = _message("HelloRequest")
HelloReply = _message("HelloReply")
GetProcessStateRequest = _message("GetProcessStateRequest")
ProcessState = _message("ProcessState")
DrainRequest = _message("DrainRequest")
DrainReply = _message("DrainReply")
DescribeEnvironmentRequest = _message("DescribeEnvironmentRequest")
EnvironmentDescription = _message("EnvironmentDescription")
ResetRequest = _message("ResetRequest")
ResetReply = _message("ResetReply")
StepRequest = _message("StepRequest")
StepReply = _message("StepReply")
CloseRequest = _message("CloseRequest")
CloseReply = _message("CloseReply")

Status = {
    value.name.removeprefix("VERIFY_STATUS_"): value.number
    for value in POOL.FindEnumTypeByName(_PACKAGE + "VerifyStatus").values
}
FINISH_REASONS = {
    value.number: value.name.removeprefix("FINISH_REASON_").lower()
    for value in POOL.FindEnumTypeByName(_PACKAGE + "FinishReason").values
}
DETERMINISM = {
    value.name.removeprefix("DETERMINISM_").lower(): value.number
    for value in POOL.FindEnumTypeByName(_PACKAGE + "Determinism").values
}


def skew(handshake) -> str:
    """What is wrong with a peer's handshake; "" if nothing is. A verifier serves any run and has no
    tokenizer: only the protocol can differ."""
    if handshake.protocol_version == PROTOCOL_VERSION:
        return ""
    return (f"handshake: protocol_version differs: theirs {handshake.protocol_version} (build "
            f"'{handshake.build}'), ours {PROTOCOL_VERSION} (build '{BUILD}')")


def set_handshake(handshake) -> None:
    handshake.protocol_version = PROTOCOL_VERSION
    handshake.build = BUILD
