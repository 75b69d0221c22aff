"""Messages that take longer to arrive than any limit of the session, and than the keep alive."""

import pytest
from bridge.consumer import READY
from bridge.relays import Downlink

pytestmark = pytest.mark.waits

@pytest.mark.timeout(240)
@pytest.mark.parametrize("version, size, rate, keepalive", [
    ("5", 200_000, 8_000, "5s"), ("3.1.1", 200_000, 8_000, "5s"), ("3.1.1", 400_000, 10_000, "30s")])
def test_a_message_that_arrives_slowly_arrives_once(make_consumer, mosquitto, makers, publisher, version, size, rate,
                                                   keepalive):
    """It waits in the broker, and what is behind it (SUBACK of MQTT 5, PINGRESP) waits for it."""
    line = makers.keep(Downlink(mosquitto.port, rate))
    consumer = make_consumer(port=line.port, version=version, keepalive=keepalive).start()
    consumer.stop()
    publisher.publish("large", b"x" * size)
    line.throttle()
    consumer.start(wait=False)
    consumer.wait_entries(1, timeout=1.5 * size / rate + 20)
    consumer.wait_log(READY, timeout=10)
    assert [len(entry.payload) for entry in consumer.wait_idle(publisher)] == [size]
    assert "lost" not in consumer.log() and "does not answer" not in consumer.log()
