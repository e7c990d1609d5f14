"""A pooler in front of a Postgres, as far as a client's startup is concerned."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import unquote

_PROTOCOL_3 = 3
_REFUSAL = "unsupported startup parameter: options"  # pgbouncer's words


@contextmanager
def pooler(
    target: str,
    answer: Literal["ignores", "refuses", "passes"],
    before: Callable[[], object] = lambda: None,
) -> Iterator[int]:
    """Yield the port of a proxy to a server's socket.

    What it does with the startup parameter ``options`` is what pgbouncer does: it refuses it, or
    drops it where ``ignore_startup_parameters`` says so. All else is passed on.

    Args:
        target: path of the server's Unix socket.
        answer: to a client that asks for startup options.
        before: is called before each client is connected to the server.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, target, answer, before), daemon=True).start()
        yield server.getsockname()[1]


def behind(port: int) -> str:
    """Return the URL of what a pooler at this port leads to."""
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def socket_of(postgres_url: str) -> str:
    """Return the path of the Unix socket that a URL names the directory of."""
    return unquote(postgres_url.partition("host=")[2].partition("&")[0]) + "/.s.PGSQL.5432"


def _serve(server: socket.socket, target: str, answer: str, before: Callable[[], object]) -> None:
    with suppress(OSError):  # the listening socket was closed
        while True:
            client, _ = server.accept()
            arguments = (client, target, answer, before)
            threading.Thread(target=_attend, args=arguments, daemon=True).start()


def _attend(client: socket.socket, target: str, answer: str, before: Callable[[], object]) -> None:
    with suppress(OSError), client, socket.socket(socket.AF_UNIX) as upstream:
        packet = _startup_packet(client)
        if packet is None:
            return
        parameters = _parameters(packet)
        if "options" in parameters and answer == "refuses":
            client.sendall(_error(_REFUSAL))
            return
        if answer == "ignores":
            parameters.pop("options", None)
        before()
        upstream.connect(target)
        upstream.sendall(_packet(packet[:4], parameters))
        back = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
        back.start()
        _pump(client, upstream)
        back.join()


def _startup_packet(client: socket.socket) -> bytes | None:
    """Return the first packet that has parameters: before it, a client asks for encryption."""
    while True:
        header = _exactly(client, 4)
        packet = _exactly(client, struct.unpack("!I", header)[0] - 4) if header else b""
        if not packet:
            return None
        if struct.unpack("!H", packet[:2])[0] == _PROTOCOL_3:
            return packet
        client.sendall(b"N")


def _exactly(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = client.recv(length - len(data))
        if not more:
            return b""
        data += more
    return data


def _parameters(packet: bytes) -> dict[str, str]:
    texts = packet[4:].rstrip(b"\0").decode().split("\0")
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _packet(version: bytes, parameters: dict[str, str]) -> bytes:
    texts = "".join(f"{name}\0{value}\0" for name, value in parameters.items())
    body = version + texts.encode() + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def _error(message: str) -> bytes:
    fields = f"SFATAL\0VFATAL\0C08P01\0M{message}\0\0".encode()
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
