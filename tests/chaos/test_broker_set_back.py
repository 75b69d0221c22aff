"""A broker that is killed and comes back with an older state of the session, at QoS 2. What it sends then may have
packet ids that it has used before."""

import pytest
from bridge import wait_until
from bridge.consumer import READY, VERSIONS, assert_all
from bridge.relays import DeafBroker

ROUNDS = 6
DEAF_MAX = 90  # with those whose acknowledgements the broker has not heard, far below the 1000 that it sends


class Load:
    """Numbered messages at QoS 2, those of each round from a device of its own: the broker that is set back
    would know packet ids of a former one's too."""

    def __init__(self, make_publisher):
        self.make_publisher = make_publisher
        self.sent = []
        self.device = None
        self.devices = 0

    def next_device(self):
        if self.device is not None:
            self.device.close()
        self.devices += 1
        self.device = self.make_publisher(client_id=f"device-{self.devices}")

    def _next(self, count):
        messages = [(f"load/{number % 7}", f"{number:06d}") for number in range(len(self.sent), len(self.sent) + count)]
        self.sent += messages
        return messages

    def start(self, count):
        return self.device.start_all(self._next(count), qos=2, rate=2000)

    def publish(self, count):
        """Until the broker has so many more."""
        self.device.publish_all(self._next(count), qos=2)


def wait_all(consumer, sent):
    """Until each has been received: no message may be the broker's alone when it dies."""
    wait_until(lambda: len(set(consumer.payloads())) >= len(sent), 30, every=0.05, what=lambda: (
        f"{len(sent)} messages; there are {len(set(consumer.payloads()))}\n{consumer.process.log_tail(30)}"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_broker_set_back_to_a_snapshot_loses_no_message_at_qos_2(make_consumer, mosquitto, make_publisher, makers,
                                                                 rng, version):
    line = makers.keep(DeafBroker(mosquitto.port))
    consumer = make_consumer(port=line.port, version=version, qos=2, receive_maximum=1000, reconnect_min="50ms",
                             reconnect_max="200ms")
    consumer.start()
    load = Load(make_publisher)
    for _ in range(ROUNDS):
        load.next_device()
        under_way = load.start(rng.randint(100, 400))
        moment = load.device.sent + rng.randint(10, 90)
        wait_until(lambda: load.device.sent >= moment, 20, "the device publishes", every=0.002)
        mosquitto.save()
        under_way.join()
        load.device.wait_confirmed()
        wait_all(consumer, load.sent)
        line.deafen()
        load.publish(rng.randint(20, DEAF_MAX))
        wait_all(consumer, load.sent)
        ready = consumer.log().count(READY)
        mosquitto.kill()
        if rng.random() < 0.3:
            consumer.kill().start(wait=False)
            ready = 0
        line.cut()
        mosquitto.start()
        consumer.wait_log(READY, ready + 1)
    load.next_device()
    load.publish(400)
    assert_all(load.sent, consumer.wait_idle(load.device), repeats=True)
