"""Messages that take longer to arrive than the keep alive."""

import pytest
from bridge.consumer import READY, VERSIONS, assert_all, numbered
from bridge.relays import Downlink

pytestmark = pytest.mark.waits

KEEP_ALIVE = "1s"  # so the broker ends a connection on which it hears nothing for 2 s; it looks every 5 s
RATE = 8_000


@pytest.fixture
def line(makers, mosquitto):
    return makers.keep(Downlink(mosquitto.port, RATE))


def assert_not_lost(consumer):
    assert "lost" not in consumer.log() and consumer.log().count(READY) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_that_arrives_slowly_arrives_once(make_consumer, line, publisher, version):
    """The message waits in the broker, and SUBACK (of MQTT 5) and PINGRESP wait behind it."""
    consumer = make_consumer(port=line.port, version=version, keepalive=KEEP_ALIVE).start()
    consumer.stop()
    sent = [("large", "x" * 12 * RATE), *numbered(5)]
    publisher.publish_all(sent)
    line.throttle()
    consumer.start(wait=False)
    consumer.wait_entries(6, timeout=40)
    consumer.wait_log(READY, timeout=10)
    assert_all(sent, consumer.wait_idle(publisher))
    assert_not_lost(consumer)


def test_messages_that_need_no_acknowledgement_may_fill_a_slow_link(make_consumer, line, publisher):
    """Only PINGREQ tells the broker that the consumer lives, and PINGRESP waits behind all messages."""
    line.throttle()
    consumer = make_consumer(port=line.port, keepalive=KEEP_ALIVE, qos=0).start()
    publisher.publish_all(numbered(48, width=RATE // 4), qos=0)
    consumer.wait_entries(48, timeout=40)
    consumer.wait_idle(publisher)
    assert_not_lost(consumer)
