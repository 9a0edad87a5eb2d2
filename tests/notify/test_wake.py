"""Waking the scheduler over a real Valkey, which may die and come back."""

import time
from pathlib import Path

from tests.support.jobs import open_lane, submit
from tests.support.processes import ChildProcess
from tests.support.valkey import Valkey, server_binary
from tests.support.waiting import wait_until
from tidegate.notify.listener import Listener, listener_for
from tidegate.notify.messages import CHANGES, CHANNEL, is_reachable, named_in
from tidegate.notify.notifier import RedisNotifier, SilentNotifier, notifier_for
from tidegate.notify.watcher import Watcher
from tidegate.stores import Store


def listening_ear(broker: Valkey, channel: str = CHANNEL) -> Listener:
    listener = Listener(broker.url, channel)
    assert listener.wait(5), "whatever was rung before it listened"
    return listener


def ring_is_heard(notifier: RedisNotifier, listener: Listener) -> bool:
    notifier.wake_scheduler()
    return listener.wait(0.1)


def seconds_of(listener: Listener, wait: float) -> tuple[bool, float]:
    started = time.monotonic()
    heard = listener.wait(wait)
    return heard, time.monotonic() - started


def test_a_ring_is_heard_at_once(broker: Valkey) -> None:
    listener = listening_ear(broker)

    RedisNotifier(broker.url).wake_scheduler()

    heard, seconds = seconds_of(listener, 10)
    assert heard
    assert seconds < 5


def test_a_ring_before_the_wait_is_heard_too(broker: Valkey) -> None:
    listener = listening_ear(broker)
    notifier = RedisNotifier(broker.url)
    notifier.wake_scheduler()
    with broker.client() as client:
        wait_until(lambda: client.info("stats")["total_commands_processed"], description="it was sent")

    assert listener.wait(5)


def test_without_a_ring_it_waits_as_long_as_asked(broker: Valkey) -> None:
    heard, seconds = seconds_of(listening_ear(broker), 0.2)

    assert not heard
    assert seconds >= 0.2


def test_many_rings_are_sent_as_a_few(broker: Valkey) -> None:
    listener = listening_ear(broker)
    notifier = RedisNotifier(broker.url)
    for _ in range(1000):
        notifier.wake_scheduler()
    assert listener.wait(5)

    with broker.client() as client:
        calls = client.info("commandstats")["cmdstat_publish"]["calls"]
    assert calls < 200


def test_one_ring_after_the_other_is_no_burst(broker: Valkey) -> None:
    """As of a client that submits again as soon as it was answered: each ring goes out at once."""
    notifier = RedisNotifier(broker.url)
    for _ in range(60):
        notifier.wake_scheduler()
        time.sleep(0.006)

    with broker.client() as client:
        calls = client.info("commandstats")["cmdstat_publish"]["calls"]
    assert calls > 45


def test_every_ear_hears(broker: Valkey) -> None:
    ears = [listening_ear(broker) for _ in range(3)]

    RedisNotifier(broker.url).wake_scheduler()

    assert [listener.wait(5) for listener in ears] == [True, True, True]


def test_while_the_broker_is_away_ringing_and_waiting_do_no_harm_and_afterwards_they_work(broker: Valkey) -> None:
    listener, notifier = listening_ear(broker), RedisNotifier(broker.url)
    notifier.wake_scheduler()
    assert listener.wait(5)
    broker.kill()

    started = time.monotonic()
    notifier.wake_scheduler()
    assert time.monotonic() - started < 0.1, "the caller does not wait"
    heard, seconds = seconds_of(listener, 0.3)
    assert not heard
    assert seconds >= 0.3, "it does not spin"
    assert is_reachable(broker.url) is False

    broker.start()
    assert listener.wait(5), "what was rung meanwhile"
    wait_until(lambda: ring_is_heard(notifier, listener), description="a ring is heard again")
    assert is_reachable(broker.url) is True


def test_a_frozen_broker_holds_nobody(broker: Valkey) -> None:
    listener, notifier = listening_ear(broker), RedisNotifier(broker.url)
    broker.freeze()

    started = time.monotonic()
    notifier.wake_scheduler()
    assert time.monotonic() - started < 0.1
    heard, seconds = seconds_of(listener, 0.3)
    assert not heard
    assert 0.3 <= seconds < 2
    assert is_reachable(broker.url) is False

    broker.thaw()
    wait_until(lambda: ring_is_heard(notifier, listener), description="a ring is heard again")


def test_a_broker_without_pub_sub_has_a_silent_bell_and_no_ear() -> None:
    for url in ("amqp://guest@host//", "sqs://", ""):
        assert isinstance(notifier_for(url), SilentNotifier)
        assert listener_for(url) is None
        assert is_reachable(url) is None
    assert isinstance(notifier_for("rediss://host/0"), RedisNotifier)


def test_a_redis_on_a_socket_carries_rings_too(tmp_path: Path) -> None:
    """Its URL is written as kombu wants it, which redis-py does not know."""
    socket = tmp_path / "valkey.sock"
    command = [server_binary(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    url = f"redis+socket://{socket}"
    with ChildProcess(command, log=tmp_path / "valkey.log"):
        wait_until(lambda: is_reachable(url), description="it answers")
        listener = listener_for(url)
        assert listener is not None
        assert listener.wait(5), "whatever was rung before it listened"

        notifier_for(url).wake_scheduler()

        assert listener.wait(5)


def test_an_ear_knows_whether_it_would_hear(broker: Valkey) -> None:
    listener = Listener(broker.url)
    seen = [listener.is_listening]
    listener.wait(5)
    seen.append(listener.is_listening)
    broker.kill()
    listener.wait(0.1)
    seen.append(listener.is_listening)
    assert seen == [False, True, False]


def test_a_beginning_waits_a_moment_for_the_end_of_a_short_call(broker: Valkey) -> None:
    """So that both are one message; without an end it goes by itself."""
    listener, notifier = listening_ear(broker, CHANGES), RedisNotifier(broker.url)
    notifier.notify_attempt_began("one")
    notifier.notify_jobs_changed("one", "two")
    (message,) = listener.hear(5)
    assert named_in(message) == ({"one", "two"}, {"one"})

    notifier.notify_attempt_began("three")
    (message,) = listener.hear(5)
    assert named_in(message) == (set(), {"three"})


def test_who_waits_for_nothing_but_an_end_is_not_asked_about_at_a_beginning(store: Store) -> None:
    open_lane(store)
    job_id = submit(store)
    job = store.callers.get(job_id, None)
    assert job
    watcher = Watcher(store.callers, "", most=2)
    watch = watcher.watch(job, "one", only_end=True)
    assert watch
    begun, changed = f"{job_id}:".encode(), job_id.encode()

    assert not watcher._concerned(begun)
    assert set(watcher._concerned(changed)) == set(watcher._concerned(b"")) == {job_id}
    other = watcher.watch(job, "one")
    assert set(watcher._concerned(begun)) == {job_id}
    assert other
    watcher.close()


def test_no_more_give_way_at_once_than_there_are_threads_for(store: Store) -> None:
    """A thread that was told so ends a moment later, and until then it is there beside the one that came."""
    watcher = Watcher(store.callers, "", most=40)
    many = [watcher.hold("many") for _ in range(40)]
    few = [watcher.hold("few") for _ in range(20)]
    assert few.count(None) == 4
    assert [watch.is_over for watch in many if watch] == [True] * 16 + [False] * 24, "the oldest first"
    assert watcher.count == 40
    for watch in many[:4]:
        assert watch
        watch.close()
    assert watcher.hold("few"), "one that has ended makes room for the next"
    for watch in (*many, *few):
        if watch:
            watch.close()
    assert watcher.count == 1
    watcher.close()
