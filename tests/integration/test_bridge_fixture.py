"""The shortest way through the whole platform, on the fixtures that the other tests use."""

import pytest
from bridge import account, wait_until


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_travels_from_a_device_to_a_subscriber(bridge, publisher, sse, qos):
    bridge.start()
    publisher.publish("sensors/room1/temp", '{"temp":21.5}', qos=qos)
    document = sse.wait_count(1)[0].document
    assert (document["topic"], document["payload"]) == ("sensors/room1/temp", {"temp": 21.5})
    assert bridge.stop() == 0


def test_a_thousand_messages_all_arrive_once_and_in_order(bridge, publisher, sse, redis, database):
    bridge.settings["worker"]["count"] = 1
    bridge.start()
    sent = [(f"room/{number % 20}", str(number)) for number in range(1000)]
    publisher.publish_all(sent)
    result = account(sent, sse.wait_count(1000))
    result.assert_exactly_once()
    result.assert_ordered()
    assert bridge.stop() == 0
    assert redis.is_drained() and database.failures() == []


def test_a_worker_by_itself_publishes_what_php_dispatched(bridge, php_peer, sse, redis):
    worker = bridge.run_program("worker")
    php_peer.dispatch("sensors/room1/temp", "21.5")
    assert sse.wait_count(1)[0].document["payload"] == 21.5
    wait_until(redis.is_drained, 15, "the entry is acknowledged")
    assert worker.stop() == 0
