"""The whole bridge: a device publishes, a browser sees it."""

import json

import pytest
from bridge import account_when_seen, wait_until


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_of_each_qos_reaches_a_browser(bridge, publisher, sse, qos):
    bridge.settings["mqtt"]["qos"] = 2
    bridge.start()
    publisher.publish("sensors/room1/temp", '{"temp":21.5}', qos=qos)
    event = sse.wait_topic("sensors/room1/temp")
    assert event.payload == {"temp": 21.5}
    assert event.id == f"urn:mqtt-bridge:{event.document['id']}"
    assert event.document["receivedAt"].endswith("Z")


PAYLOADS = {
    "utf8": ("été 🌡 \"quoted\" back\\slash 'single' /slash\n\ttab".encode(), {}),
    "binary": (b"\x00\xff\xfe\"\\'/bin", {"encoding": "base64"}),
    "empty": (b"", {}),
    "invalid JSON": (b'{"a":', {}),
    "number": (b"-21.50e3", {}),
    "large": (b"x" * (1024 * 1024), {}),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_payload_arrives_as_it_was_sent(bridge, publisher, sse, name):
    import base64
    payload, extra = PAYLOADS[name]
    bridge.start()
    publisher.publish("payload/x", payload, qos=1)
    document = sse.wait_topic("payload/x").document
    assert document.get("encoding") == extra.get("encoding")
    if extra:
        assert base64.b64decode(document["payload"]) == payload
    elif name == "number":
        assert '"payload":-21.50e3' in sse.events[0].data
    else:
        assert document["payload"] == payload.decode()


def test_a_thousand_topics_arrive_in_order_per_topic(bridge, publisher, sse):
    bridge.settings["worker"]["count"] = 1
    bridge.start()
    sent = [(f"site/{number % 1000}/é", f"value {number}") for number in range(3000)]
    publisher.publish_all(sent, qos=1)
    sse.wait_count(3000, timeout=60)
    result = account_when_seen(sent, sse)
    result.assert_exactly_once()
    result.assert_ordered()


def test_only_a_refused_message_gets_a_row_in_the_failure_table(bridge, publisher, sse, database):
    bridge.start()
    publisher.publish("x/.well-known/mercure", "poison", qos=1)
    publisher.publish("good/x", "1", qos=1)
    sse.wait_topic("good/x")
    rows = wait_until(lambda: database.failures(), 15, "a row")
    assert len(rows) == 1
    assert "poison" in rows[0]["body"]
    assert json.loads(rows[0]["headers"])["X-Mqtt-Id"]


def test_sigterm_drains_and_leaves_nothing_running(bridge, publisher, sse, redis):
    bridge.start()
    sent = [(f"t/{number % 5}", f"value {number}") for number in range(2000)]
    publisher.publish_all(sent, qos=1)
    sse.wait_count(500, timeout=30)
    assert bridge.stop() == 0
    bridge.start()
    sse.wait_count(2000, timeout=60)
    account_when_seen(sent, sse).assert_nothing_lost()
