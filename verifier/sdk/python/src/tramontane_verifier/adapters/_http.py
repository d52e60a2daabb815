"""One JSON question to an HTTP service. Runs in the worker process, whose deadline kills it."""
import json
import socket
import urllib.error
import urllib.request
from typing import Any

_MAX_REPLY_BYTES = 16 << 20
_SHOWN = 300


class Unavailable(Exception):
    """The service did not answer, or not as it should: nothing is known of the completion."""


def post(url: str, body: dict[str, Any], timeout_s: float, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), method="POST",
        headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            data = reply.read(_MAX_REPLY_BYTES + 1)
    except urllib.error.HTTPError as e:
        said = e.read(_SHOWN).decode(errors="replace")
        raise Unavailable(f"{url}: HTTP {e.code}: {said}") from None
    except (urllib.error.URLError, socket.timeout, ConnectionError, OSError) as e:
        raise Unavailable(f"{url}: {e}") from None
    if len(data) > _MAX_REPLY_BYTES:
        raise Unavailable(f"{url}: the reply is larger than {_MAX_REPLY_BYTES} bytes")
    try:
        return json.loads(data)
    except ValueError:
        raise Unavailable(f"{url}: the reply is not JSON: {data[:_SHOWN]!r}") from None


def field(reply: Any, name: str, kind: type | tuple[type, ...], url: str) -> Any:
    """A field that must be there, of the right type."""
    value = reply.get(name) if isinstance(reply, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Unavailable(f"{url}: the reply's {name!r} is {value!r:.100}")
    return value
