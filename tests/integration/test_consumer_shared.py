"""`[mqtt] share_name`: consumers on several hosts share the messages of one subscription (MQTT 5)."""

import pytest
from bridge import wait_until
from bridge.consumer import assert_all, numbered


@pytest.fixture
def pair(make_consumer):
    """Two hosts: each has a client id, a state directory and a spool of its own."""
    return [make_consumer(client_id=name, share_name="bridge", topics="load/#", qos=2).start() for name in ("one", "two")]


def wait_all(redis, sent, pair):
    wait_until(lambda: redis.client.xlen("messages") >= len(sent), 60,
               lambda: f"{redis.client.xlen('messages')} of {len(sent)}\n{pair[0].process.log_tail()}")
    entries = pair[0].entries()
    assert_all(sent, entries)
    return {entry.id.split("-")[0] for entry in entries}


def test_two_consumers_share_the_messages(pair, publisher, redis):
    sent = numbered(600)
    publisher.publish_all(sent, qos=2)
    assert len(wait_all(redis, sent, pair)) == 2, "both have stored some"
    assert all('"filters":1' in consumer.log() for consumer in pair)


def test_consumers_that_end_and_come_back_lose_and_double_nothing(pair, publisher, redis):
    one, two = pair
    sent = numbered(1500)
    publisher.start_all(sent, qos=2, rate=500)
    wait_until(lambda: redis.client.xlen("messages") > 200, 30, one.process.log_tail)
    one.kill()
    wait_until(lambda: redis.client.xlen("messages") > 400, 30, two.process.log_tail)
    one.start()
    two.restart()
    publisher.wait_confirmed()
    assert len(wait_all(redis, sent, pair)) == 2


def test_a_change_to_a_share_gives_up_the_filter_of_before(make_consumer, publisher, redis):
    consumer = make_consumer(topics="load/#").start()
    consumer.stop().set("mqtt", share_name="bridge").start()
    sent = numbered(20)
    publisher.publish_all(sent)
    wait_all(redis, sent, [consumer])
    assert redis.client.xlen("messages") == 20, "no copy by the filter of before"


@pytest.mark.parametrize("keys, says", [
    ({"share_name": "a/b"}, "share_name: must not hold `/`"),
    ({"share_name": "a", "version": "3.1.1"}, "share_name: needs version = 5"),
])
def test_a_share_that_can_not_work_is_refused(make_consumer, keys, says):
    consumer = make_consumer(**keys)
    consumer.bridge.write_config()
    answer = consumer.bridge.cli("check", check=False)
    assert answer.returncode == 2 and says in answer.stderr


def test_config_shows_the_filters_as_they_are_subscribed(make_consumer):
    consumer = make_consumer(share_name="bridge", topics="a/#@2, $share/own/b")
    consumer.bridge.write_config()
    assert "topics = $share/bridge/a/#@2, $share/own/b " in consumer.bridge.cli("config").stdout
