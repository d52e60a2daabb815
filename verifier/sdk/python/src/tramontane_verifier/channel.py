"""Length-prefixed JSON over a socket pair, between the service and a worker process: frames, and
blocking calls that carry them.

JSON and not pickle: the other end runs code that must not be trusted with this one.
"""
import json
import select
import socket
import struct
import time
from typing import Any

MAX_BYTES = 64 << 20
SIZE_BYTES = 4  # of the size in front of each message


class Closed(Exception):
    """The other end is gone, or sent what is not a message."""


def frame(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    return struct.pack("<I", len(data)) + data


def size_of(head: bytes) -> int:
    """Bytes of the message behind its first SIZE_BYTES. Raises Closed."""
    (size,) = struct.unpack("<I", head)
    if size > MAX_BYTES:
        raise Closed("message too large")
    return size


def parse(data: bytes) -> dict[str, Any]:
    """Raises Closed."""
    try:
        message = json.loads(data)
    except ValueError as e:
        raise Closed("not JSON") from e
    if not isinstance(message, dict):
        raise Closed("not an object")
    return message


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    try:
        sock.sendall(frame(message))
    except OSError as e:
        raise Closed(str(e)) from e


def _read(sock: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([sock], [], [], left)[0]:
            raise TimeoutError
        try:
            piece = sock.recv(min(size - len(data), 1 << 16))
        except OSError as e:
            raise Closed(str(e)) from e
        if not piece:
            raise Closed("end of stream")
        data += piece
    return bytes(data)


def receive(sock: socket.socket, timeout_s: float | None = None) -> dict[str, Any]:
    """Raises TimeoutError or Closed."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    size = size_of(_read(sock, SIZE_BYTES, deadline))
    return parse(_read(sock, size, deadline))
