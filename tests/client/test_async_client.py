"""AsyncClient and AsyncJob: the surface of Client and Job, tasks side by side, and tasks that are cancelled."""

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest

from tests.support.http_server import HttpServer, respond, serving
from tidegate_client import AsyncClient, AsyncJob, Client, Job, NotDone, State

from .test_client_over_bad_lines import JOB_ID, hang_up, in_turn, job, keys, silent

TWINS = [(Client, AsyncClient), (Job, AsyncJob)]
DUNDERS = {"__init__", "__enter__", "__exit__", "__aenter__", "__aexit__"}
OTHER_NAMES = {"__aenter__": "__enter__", "__aexit__": "__exit__"}


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with serving() as started:
        yield started


def surface(one: type) -> dict[str, Any]:
    """Everything that its users may call or read."""
    names = [name for name in dir(one) if not name.startswith("_") or name in DUNDERS]
    return dict(sorted((OTHER_NAMES.get(name, name), inspect.getattr_static(one, name)) for name in names))


def as_if_blocking(hint: object) -> str:
    """A type of the asynchronous surface as the other one has it."""
    return str(hint).replace("async_client", "client").replace("async_job", "job").replace("Async", "")


@pytest.mark.parametrize(("blocking", "asynchronous"), TWINS, ids=["Client", "Job"])
def test_both_surfaces_are_one(blocking: type, asynchronous: type) -> None:
    ours, theirs = surface(blocking), surface(asynchronous)
    assert list(ours) == list(theirs)
    for name, method in ours.items():
        if not inspect.isfunction(method):
            assert method is theirs[name], f"{name} is of both"
            continue
        twin = theirs[name]
        told, told_of_twin = inspect.signature(method), inspect.signature(twin)
        assert [str(each) for each in told.parameters.values()] == [
            as_if_blocking(each) for each in told_of_twin.parameters.values()
        ], name
        types, types_of_twin = get_type_hints(method), get_type_hints(twin)
        assert {each: str(hint) for each, hint in types.items()} == {
            each: as_if_blocking(hint) for each, hint in types_of_twin.items()
        }, name
        is_plain = name == "__init__" or any(each in str(types["return"]) for each in ("Iterator", "Generator"))
        assert inspect.iscoroutinefunction(twin) is not is_plain, f"{name} is awaited, unless it is iterated over"
        assert not inspect.iscoroutinefunction(method)


def test_many_tasks_share_one_client(server: HttpServer) -> None:
    """None waits for another: all of them are at the server before it answers the first."""
    together = threading.Barrier(20, timeout=20)

    def answer(connection: socket.socket) -> None:
        together.wait()
        job()(connection)

    server.answer = answer

    async def submit() -> list[AsyncJob]:
        async with AsyncClient(server.url) as client:
            return await asyncio.gather(*(client.submit("quote", number) for number in range(20)))

    assert {each.state for each in asyncio.run(submit())} == {State.QUEUED}
    assert sorted(json.loads(each.body) for each in server.received) == list(range(20))
    assert len(set(keys(server))) == 20


def test_a_pause_before_the_next_try_holds_no_other_task_up(server: HttpServer) -> None:
    in_turn(server, respond(503, b"<html>proxy", Retry_After="2"), job())

    async def submit() -> int:
        turns = 0
        async with AsyncClient(server.url) as client:
            submitting = asyncio.create_task(client.submit("quote", 1))
            while not submitting.done():
                await asyncio.sleep(0.01)
                turns += 1
            assert submitting.result().id == JOB_ID
        return turns

    assert asyncio.run(submit()) > 50


async def cancelled(client: AsyncClient, server: HttpServer, work: Callable[[], Any]) -> None:
    """Begins it, cancels it once the server has its request, and sees that no connection is left behind."""
    before = len(server.received)
    task = asyncio.create_task(work())
    while len(server.received) == before:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pool = client._transport._http._transport._pool  # type: ignore[attr-defined]  # what it holds is nowhere told
    assert [each for each in pool.connections if not each.is_idle()] == []


def test_a_cancelled_submit_is_repeated_under_its_key(server: HttpServer) -> None:
    async def submit() -> None:
        async with AsyncClient(server.url) as client:
            in_turn(server, silent)
            await cancelled(client, server, lambda: client.submit("quote", 1, idempotency_key="order-17"))
            in_turn(server, hang_up, job())
            assert (await client.submit("quote", 1, idempotency_key="order-17")).id == JOB_ID

    asyncio.run(submit())
    assert keys(server) == ["order-17"] * 3


def test_a_cancelled_wait_leaves_the_job_alone_and_it_may_be_waited_for_again(server: HttpServer) -> None:
    async def wait() -> object:
        async with AsyncClient(server.url) as client:
            in_turn(server, job(), silent)
            submitted = await client.submit("quote", 1)
            await cancelled(client, server, submitted.wait)
            with pytest.raises(NotDone):
                await submitted.wait(timeout=0.5)
            in_turn(server, job("succeeded", status=200, more={"result": 7}))
            return await submitted.result(timeout=5)

    assert asyncio.run(wait()) == 7
    assert {each.line.split()[0] for each in server.received[1:]} == {"GET"}, "nothing was called off"


def test_a_cancelled_listener_leaves_no_connection(server: HttpServer) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: still here\n")

    async def listen() -> None:
        server.answer = answer
        async with AsyncClient(server.url) as client:
            await cancelled(client, server, lambda: anext(client.events(JOB_ID)))

    asyncio.run(listen())
