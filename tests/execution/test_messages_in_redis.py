"""What a worker's connection leaves in Redis of the messages that it has taken."""

from typing import Any

from kombu import Connection, Consumer, Message, Queue

from tasks.brokers.options import settings_for
from tests.support.valkey import Valkey

QUEUE = Queue("io")


def test_what_was_taken_lies_in_redis_no_more_and_goes_back_to_it_if_it_was_not_begun(broker: Valkey) -> None:
    taken: list[Message] = []
    with (
        Connection(broker.url, transport_options=settings_for(broker.url)["broker_transport_options"]) as connection,
        broker.client() as redis,
    ):
        with connection.Producer() as producer:
            for number in range(5):
                producer.publish({"number": number}, routing_key=QUEUE.name, declare=[QUEUE])
        channel: Any = connection.channel()  # its stub has nothing of what transports add
        channel.basic_qos(0, 3, False)
        with Consumer(channel, [QUEUE], on_message=taken.append):
            while len(taken) < 3:
                connection.drain_events(timeout=10)
        assert redis.llen(QUEUE.name) == 2
        assert {key.decode() for key in redis.scan_iter()} == {QUEUE.name}

        taken[0].ack()
        channel.close()
        assert redis.llen(QUEUE.name) == 4
        with Consumer(connection.channel(), [QUEUE], on_message=taken.append):
            while len(taken) < 7:
                connection.drain_events(timeout=10)
    assert sorted(message.payload["number"] for message in taken[3:]) == [1, 2, 3, 4]
