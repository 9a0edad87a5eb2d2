"""Names that the system's resolver answers as a test says, and an address where nobody ever answers."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest


def resolve(monkeypatch: pytest.MonkeyPatch, name: str, *answers: Sequence[str] | OSError) -> list[str]:
    """Lets the resolver give these answers for this name, one after the other; the list of what was asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **kw: Any) -> object:
        if host != name:
            return real(host, port, *args, **kw)
        answer = answers[len(asked)]
        asked.append(host)
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@contextmanager
def silence(address: str, port: int) -> Iterator[None]:
    """Nobody answers there: a server takes no connection, and its queue is full."""
    with ExitStack() as opened:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield
