"""Connects to a host of several addresses: to one after the other, 250 ms apart; the first to answer is taken.

RFC 8305 ("Happy Eyeballs") in small: an address that is silent, such as one of an IPv6 network that leads nowhere,
costs a quarter of a second and not the whole time.
"""

import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from errno import EINPROGRESS
from itertools import chain, zip_longest

from tidegate.operations.own_shortage import own_shortage

APART_SECONDS = 0.25


def connect_to_any(addresses: Sequence[str], port: int, seconds_left: Callable[[], float]) -> socket.socket:
    """Connects to the first of these IP addresses that answers, and closes its connections to the others.

    Raises what `seconds_left` raises when the time is over, and OSError when none can be connected to: an address'
    own failure, rather than a shortage of this process on the way to another one.
    """
    opened: list[socket.socket] = []
    won: socket.socket | None = None
    try:
        won = _first_of(deque(_by_turns(addresses)), port, seconds_left, opened)
        return won
    finally:
        for each in opened:
            if each is not won:
                each.close()


def _first_of(
    waiting: deque[str], port: int, seconds_left: Callable[[], float], opened: list[socket.socket]
) -> socket.socket:
    failures: list[OSError] = []
    with selectors.PollSelector() as selector:  # takes no file of its own, as epoll does
        while waiting or selector.get_map():
            if waiting:
                try:
                    _begin(waiting.popleft(), port, selector, opened)
                except OSError as error:
                    failures.append(error)
                    continue
            left = seconds_left()
            for key, _ in selector.select(min(left, APART_SECONDS) if waiting else left):
                sock = next(each for each in opened if each is key.fileobj)
                selector.unregister(sock)
                if not (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                    return sock
                failures.append(OSError(code, os.strerror(code)))
    raise next((error for error in failures if not own_shortage(error)), failures[0])


def _by_turns(addresses: Sequence[str]) -> Iterable[str]:
    """IPv6 and IPv4 by turns, beginning with the kind of the first, each kind in its order (RFC 8305, 4)."""
    first_kind = ":" in addresses[0]
    kinds = (
        [address for address in addresses if (":" in address) is first_kind],
        [address for address in addresses if (":" in address) is not first_kind],
    )
    return filter(None, chain.from_iterable(zip_longest(*kinds)))


def _begin(address: str, port: int, selector: selectors.BaseSelector, opened: list[socket.socket]) -> None:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    opened.append(sock)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    code = sock.connect_ex((address, port))
    if code not in {0, EINPROGRESS}:
        raise OSError(code, os.strerror(code))
    selector.register(sock, selectors.EVENT_WRITE)
