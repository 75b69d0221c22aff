"""Through the whole chain: order, stale values, copies, and that what comes twice can be told."""

import pytest
from bridge import account, account_when_seen, wait_until
from bridge.relays import DeafBroker

PATIENCE = 60.0
VERSIONS = ["5", "3.1.1"]


def wait_connected(bridge):
    wait_until(lambda: bridge.get("/readyz")[0] == 200, PATIENCE, lambda: bridge.get("/readyz")[1])


@pytest.fixture
def settled(publisher, sse, redis):
    """Until all that was published so far, and all that the broker repeats before what is new, has been seen;
    returns the events."""
    def settle():
        publisher.publish("last", "")
        sse.wait_topic("last", PATIENCE)
        redis.wait_drained(PATIENCE)
        return [event for event in sse.caught_up(PATIENCE) if event.document["topic"] != "last"]
    return settle


@pytest.mark.parametrize("version", VERSIONS)
def test_no_stale_retained_value_follows_a_reconnect(bridge, publisher, sse, mosquitto, settled,
                                                                               version):
    bridge.settings["mqtt"]["version"] = version
    bridge.settings["worker"]["count"] = 1
    publisher.publish("r/x", "retained", retain=True)
    bridge.start()
    sse.wait_topic("r/x", PATIENCE)
    sent = [("r/x", f"value {number}") for number in range(30)]
    publisher.publish_all(sent[:10])
    bridge.kill_child("consumer")
    publisher.publish_all(sent[10:20])
    wait_connected(bridge)
    mosquitto.restart()
    publisher.publish_all(sent[20:])
    wait_connected(bridge)
    payloads = [event.payload for event in settled()]
    assert payloads[0] == "retained" and payloads.count("retained") == 1
    assert list(dict.fromkeys(payloads[1:])) == [payload for _, payload in sent]


def test_the_order_of_each_topic_holds_through_outages_with_one_worker(bridge, publisher, sse, redis):
    bridge.settings["worker"]["count"] = 1
    bridge.start()
    sent = [(f"t/{number % 11}", f"value {number}") for number in range(4000)]
    thread = publisher.start_all(sent, rate=2500)
    for moment in (1000, 2000, 3000):
        wait_until(lambda: publisher.sent >= moment, PATIENCE, "the device publishes")
        redis.restart()
    thread.join()
    publisher.wait_confirmed(PATIENCE)
    result = account_when_seen(sent, sse)
    result.assert_nothing_lost()
    result.assert_ordered()
    result.assert_repeats_recognisable()


def test_overlapping_filters_reach_a_browser_once(bridge, publisher, settled):
    bridge.settings["mqtt"]["topics"] = "# a/# a/+ a/b"
    bridge.start()
    sent = [("a/b", "one"), ("a/c", "two"), ("a/b/c", "three"), ("d", "four")]
    publisher.publish_all(sent)
    account(sent, settled()).assert_exactly_once()


@pytest.mark.parametrize("how", ["the connection is cut", "the consumer is killed"])
@pytest.mark.parametrize("version", VERSIONS)
def test_repeats_of_unacknowledged_messages_have_the_same_id(bridge, publisher, sse, mosquitto,
                                                                                 settled, makers, version, how):
    deaf = makers.keep(DeafBroker(mosquitto.port))
    bridge.settings["mqtt"].update(port=deaf.port, version=version)
    bridge.start()
    before = [(f"t/{number % 5}", f"before {number}") for number in range(30)]
    publisher.publish_all(before)
    sse.wait_count(30, timeout=PATIENCE)
    deaf.deafen()
    sent = [(f"t/{number % 5}", f"value {number}") for number in range(15)]
    publisher.publish_all(sent)
    sse.wait_count(45, timeout=PATIENCE)
    if how == "the consumer is killed":
        bridge.kill_child("consumer")
    deaf.cut()
    wait_connected(bridge)
    result = account(before + sent, settled())
    result.assert_nothing_lost()
    assert result.repeated, "the broker has repeated what it heard nothing of"
    result.assert_repeats_recognisable()


def test_equal_messages_are_not_taken_for_repeats(bridge, publisher, sse, mosquitto, settled, makers):
    """Equal values on the same topic are messages of their own, whether the broker repeats them or not."""
    deaf = makers.keep(DeafBroker(mosquitto.port))
    bridge.settings["mqtt"]["port"] = deaf.port
    bridge.start()
    publisher.publish_all([("t", "same")] * 30)
    sse.wait_count(30, timeout=PATIENCE)
    deaf.deafen()
    publisher.publish_all([("t", "same")] * 10)
    sse.wait_count(40, timeout=PATIENCE)
    deaf.cut()
    wait_connected(bridge)
    publisher.publish_all([("t", "same")] * 300)
    assert len({event.id for event in settled()}) == 340
