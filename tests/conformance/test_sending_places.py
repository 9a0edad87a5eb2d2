"""Which deliveries are released: by their own fences, within the places of their receivers; how long they are kept."""

import socket
import threading
from datetime import timedelta

from sqlalchemy import update

from tests.support.http_server import HttpServer, respond, serving
from tests.support.jobs import change_job, count_of, row_of
from tests.support.webhooks import (
    attempts_at,
    change_delivery,
    delivery_of,
    ended_job,
    make_due,
    open_senders,
    receivers_of,
    send_due,
    sender_of,
    wake_receivers,
)
from tidegate import clock
from tidegate.database.connection import Database
from tidegate.database.schema import IMPLICIT_CLIENT, deliveries, delivery_attempts, receivers
from tidegate.database.time import database_now
from tidegate.stores import Store
from tidegate.webhooks.delivery import Sent

LONG_AGO = timedelta(hours=25)


def test_of_two_messages_of_one_release_one_is_sent(store: Store, receiver: HttpServer, secret: str) -> None:
    ended_job(store, receiver.url)
    open_senders(store)
    (released,) = store.sending.release()
    sender = sender_of(store)
    assert sender.run(released.job_id, released.fence)
    assert not sender.run(released.job_id, released.fence)
    assert len(receiver.received) == 1


def test_a_message_that_was_lost_is_sent_again(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)
    open_senders(store)
    (lost,) = store.sending.release()
    assert store.sending.release() == []
    make_due(store, job_id)  # ten seconds later
    (again,) = store.sending.release()
    assert again.fence > lost.fence
    assert not sender_of(store).run(lost.job_id, lost.fence)
    assert sender_of(store).run(again.job_id, again.fence)


def test_a_worker_that_died_says_nothing_and_it_is_sent_again(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)
    open_senders(store)
    (released,) = store.sending.release()
    assert store.sending.claim(job_id, released.fence, lease=timedelta(seconds=25))
    make_due(store, job_id)
    assert send_due(store) == 1
    lost, sent = attempts_at(store, job_id)
    assert (lost.seconds, lost.status) == (None, None)
    assert "died" in lost.error
    assert (sent.number, sent.status) == (2, 200)


def test_a_worker_that_stood_still_changes_nothing(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)
    open_senders(store)
    (released,) = store.sending.release()
    frozen = store.sending.claim(job_id, released.fence, lease=timedelta(seconds=25))
    assert frozen
    make_due(store, job_id)
    send_due(store)
    late = Sent(seconds=60, status=500)
    assert not store.sending.record(frozen, late, again_after=timedelta(0), rest=None)
    assert delivery_of(store, job_id).state == "delivered"
    assert [each.status for each in attempts_at(store, job_id)] == [500, 200], "what it saw is told all the same"


def test_what_was_surely_not_published_is_due_at_once(store: Store, receiver: HttpServer) -> None:
    ended_job(store, receiver.url)
    open_senders(store)
    released = store.sending.release()
    store.sending.take_back(released)
    (again,) = store.sending.release()
    assert again.fence == released[0].fence + 1


def test_a_job_erased_while_it_is_told_leaves_nothing(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)

    def erase(connection: socket.socket) -> None:
        assert store.callers.delete(job_id, IMPLICIT_CLIENT)
        respond(200)(connection)

    receiver.answer = erase
    assert send_due(store) == 1
    assert count_of(store, deliveries) == count_of(store, delivery_attempts) == 0


def test_a_job_erased_before_is_not_told(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)
    open_senders(store)
    (released,) = store.sending.release()
    store.callers.delete(job_id, IMPLICIT_CLIENT)
    assert not sender_of(store).run(released.job_id, released.fence)
    assert receiver.received == []


def test_without_a_live_sender_nothing_is_released(store: Store) -> None:
    ended_job(store, "http://127.0.0.1:8080/")
    assert store.sending.release() == []


def test_a_new_receiver_gets_one_at_a_time_and_a_good_one_more(store: Store, receiver: HttpServer, secret: str) -> None:
    for _ in range(9):
        ended_job(store, receiver.url)
    open_senders(store, places=16)
    (first,) = store.sending.release()
    assert store.sending.release() == []
    assert sender_of(store).run(first.job_id, first.fence)
    assert len(store.sending.release()) == 4
    assert store.sending.release() == []


def test_a_silent_receiver_rests_and_then_gets_one_again(store: Store, secret: str) -> None:
    with serving() as gone:
        url = gone.url
    for _ in range(3):
        ended_job(store, url)
    assert send_due(store) == 1
    assert send_due(store) == 0, "it rests, whatever else is due for it"
    wake_receivers(store)
    assert send_due(store) == 1


def test_two_clients_do_not_share_a_receivers_trouble(store: Store, secret: str) -> None:
    name = f"{IMPLICIT_CLIENT} 127.0.0.1"
    with serving() as gone:
        url = gone.url
    ended_job(store, url)
    send_due(store)
    other = ended_job(store, url)
    change_delivery(store, other, receiver="other 127.0.0.1")
    assert receivers_of(store)[name].rests_until is not None
    assert [each.job_id for each in store.sending.release()] == [other]


def test_what_is_behind_a_receiver_silent_for_a_day_is_given_up_with_it(store: Store, secret: str) -> None:
    with serving() as gone:
        url = gone.url
    old, behind, young = (ended_job(store, url) for _ in range(3))
    send_due(store)
    for job_id in (old, behind):
        change_delivery(store, job_id, began_at=database_now(-LONG_AGO))
    make_due(store, old)
    assert store.sending.give_up(100) == 0, "not while it has not been silent for a day"
    store.database.execute(update(receivers).values(failing_since=database_now(-LONG_AGO)))
    assert store.sending.give_up(100) == 2
    assert [delivery_of(store, job_id).state for job_id in (old, behind, young)] == ["failed", "failed", "pending"]


def test_our_own_silence_gives_nothing_up(store: Store) -> None:
    job_id = ended_job(store, "http://127.0.0.1:8080/")
    change_delivery(store, job_id, began_at=database_now(-LONG_AGO))
    assert store.sending.give_up(100) == 0
    assert delivery_of(store, job_id).state == "pending"


def test_two_schedulers_share_the_places(store: Store, database_url: str) -> None:
    for number in range(10):
        ended_job(store, f"http://127.0.0.{number + 1}:8080/")
    open_senders(store, places=8)
    others = [Store(Database(database_url)) for _ in range(4)]
    released: list[int] = []
    threads = [
        threading.Thread(target=lambda each=each: released.append(len(each.sending.release()))) for each in others
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in others:
        each.database.close()
    assert sum(released) <= 4, "half of the places, for nobody knows these receivers"
    assert sum(released) + len(store.sending.release()) == 4


def told_in_order(store: Store, number: int) -> list[str]:
    """To whom so many go, one after the other, through a single place; each was answered at once."""
    open_senders(store, places=1)
    names = []
    for _ in range(number):
        (released,) = store.sending.release()
        claimed = store.sending.claim(released.job_id, released.fence, lease=timedelta(seconds=25))
        assert claimed
        assert store.sending.record(claimed, Sent(seconds=0.1, status=200), again_after=None, rest=None)
        names.append(claimed.receiver)
    return names


def test_a_newcomer_does_not_wait_until_all_that_is_due_for_another_is_sent(store: Store) -> None:
    """The oldest went first wherever two had equally many in flight, so a backlog kept everybody else waiting."""
    for number in range(12):
        old = ended_job(store, f"http://127.0.0.{number % 2 + 1}:8080/")
        change_delivery(store, old, run_at=database_now(-LONG_AGO))
    assert len(told_in_order(store, 2)) == 2
    for _ in range(3):
        change_delivery(store, ended_job(store, "http://127.0.0.9:8080/"), receiver="other 127.0.0.9")
    order = told_in_order(store, 6)
    assert [name.startswith("other") for name in order].count(True) == 3, "clients take turns"
    own = [name.rpartition(".")[2] for name in order if not name.startswith("other")]
    assert sorted(own[:2]) == ["1", "2"], "and so do the receivers of one client"


def test_a_job_whose_end_nobody_tells_is_erased_when_it_would_have_been_given_up(
    store: Store, receiver: HttpServer, secret: str
) -> None:
    """No worker sends webhooks, so that none says that it is over."""
    job_id = ended_job(store, receiver.url)
    change_job(store, job_id, created_at=database_now(-LONG_AGO), finished_at=database_now(-LONG_AGO))
    hour = timedelta(hours=1)
    for began, erased in ((timedelta(hours=23), 0), (timedelta(hours=24, minutes=30), 0), (timedelta(hours=26), 1)):
        store.database.execute(deliveries.update().values(began_at=database_now(-began)))
        assert store.upkeep.prune(100, retention=hour) == erased
    assert count_of(store, deliveries) == 0


def test_a_job_is_kept_until_its_end_was_told(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)
    change_job(store, job_id, created_at=database_now(-LONG_AGO), finished_at=database_now(-LONG_AGO))
    hour = timedelta(hours=1)
    assert store.upkeep.prune(100, retention=hour) == 0
    send_due(store)
    assert row_of(store, job_id).state == "succeeded"
    assert store.upkeep.prune(100, retention=hour) == 1
    assert count_of(store, deliveries) == 0


def test_only_the_last_hundred_attempts_are_kept(store: Store, receiver: HttpServer, secret: str) -> None:
    job_id = ended_job(store, receiver.url)
    change_delivery(store, job_id, attempt=100)
    with store.database.transaction() as connection:
        connection.execute(
            delivery_attempts.insert(),
            [
                {"job_id": job_id, "number": number, "started_at": clock.now(), "seconds": 1.0}
                for number in range(1, 101)
            ],
        )
    send_due(store)
    assert [each.number for each in attempts_at(store, job_id)] == list(range(2, 102))
