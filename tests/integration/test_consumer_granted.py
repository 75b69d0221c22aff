"""What the broker has granted to the consumer, and what it says that it can't: subscriptions and CONNACK."""

import re
import threading
import time

import pytest
from bridge import wait_until
from bridge.consumer import READY, VERSIONS, assert_all
from bridge.mqtt import leave_session
from bridge.scripted import (MAXIMUM_PACKET_SIZE, MAXIMUM_QOS, RETAIN_AVAILABLE, SERVER_KEEP_ALIVE, SHARED_AVAILABLE,
                             WILDCARD_AVAILABLE, ScriptedBroker)

NOT_AUTHORIZED = 0x87


def granted(link):
    link.accept(session_present=False)


def lose_session(link):
    """The broker has lost the session, and hangs up before it has processed our SUBSCRIBE."""
    link.connect()
    link.connack(False)
    link.read()


def lose_connack(link):
    """The broker makes a new session and hangs up before CONNACK."""
    link.connect()


class Seen:
    """A broker with a present session; filters: those of its SUBSCRIBE, by connection."""

    def __init__(self):
        self.filters = []

    def play(self, link):
        link.connect()
        link.connack(True)
        self.filters.append(link.subscribed()[0])
        link.stay()


@pytest.mark.parametrize("loss", [lose_session, lose_connack])
@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed between"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_that_was_lost_is_never_taken_as_subscribed(make_consumer, makers, version, killed, loss):
    seen = Seen()
    broker = makers.keep(ScriptedBroker(granted, loss, seen.play))
    consumer = make_consumer(port=broker.port, version=version, topics="a/#", reconnect_min="1s" if killed else "100ms")
    consumer.start(wait=False)
    wait_until(lambda: broker.connections >= 2, 20, lambda: consumer.process.log_tail())
    if killed:
        consumer.kill().start(wait=False)
    wait_until(lambda: seen.filters == ["a/#"], 20, lambda: f"{seen.filters}\n{consumer.process.log_tail()}")


def test_on_3_1_1_a_session_that_is_present_is_not_asked_again(make_consumer, makers):
    packets = []
    subscribed = threading.Event()

    def granted_until_subscribed(link):
        granted(link)
        subscribed.wait(60)

    def again(link):
        link.connect()
        link.connack(True)
        packets.append(link.read()[0])

    broker = makers.keep(ScriptedBroker(granted_until_subscribed, again))
    consumer = make_consumer(port=broker.port, version="3.1.1").start()
    subscribed.set()
    consumer.wait_log(READY, 2)
    consumer.stop()
    assert all(first == 0xe0 for first in packets), "DISCONNECT at most"


def test_on_3_1_1_a_broker_that_was_away_brings_no_retained_message_again(make_consumer, mosquitto, publisher):
    """Nor does a process get it again that was started while the broker was away."""
    publisher.publish("r", "retained", retain=True)
    consumer = make_consumer(version="3.1.1").start()
    consumer.wait_entries(1)
    mosquitto.stop()
    consumer.wait_log("Connection refused")
    consumer.kill().start(wait=False)
    consumer.wait_log("Connection refused")
    consumer.kill().start(wait=False)
    mosquitto.start()
    consumer.wait_log(READY)
    assert [entry.payload for entry in consumer.wait_idle(publisher)] == [b"retained"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_filter_is_asked_for_alone(make_consumer, makers, version):
    asked = []

    def play(link):
        link.connect()
        link.connack(False)
        for code in (1, NOT_AUTHORIZED if link.five else 0x80, NOT_AUTHORIZED if link.five else 0x80, 1):
            asked.append(link.subscribed(code)[0])
        link.stay()

    broker = makers.keep(ScriptedBroker(play))
    consumer = make_consumer(port=broker.port, version=version, topics="open/# secret/#").start()
    wait_until(lambda: len(asked) == 4, 15, lambda: f"what is asked for is noted: {asked}")
    assert asked == ["open/#", "secret/#", "secret/#", "secret/#"]
    assert 'filter "secret/#" was refused' in consumer.log()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subscribe_that_is_never_answered_is_asked_again_anew(make_consumer, makers, version):
    def deaf(link):
        link.connect()
        link.connack(False)
        while True:
            link.unsubscribed()  # a packet that was sent later

    def accept(link):
        link.accept(session_present=False)
        link.stay()

    broker = makers.keep(ScriptedBroker(deaf, accept))
    consumer = make_consumer(port=broker.port, version=version, keepalive="2s").start()
    assert "does not answer SUBSCRIBE" in consumer.log()
    assert broker.connections == 2


def test_a_failed_unsubscribe_is_tried_again_at_the_next_connect(make_consumer, makers):
    gone = []

    def first(link):
        link.connect()
        link.connack(False)
        link.subscribed()
        link.subscribed()
        link.stay()

    def unsubscribe(code):
        def play(link):
            link.accept(session_present=True)
            gone.append(link.unsubscribed(code))
            link.stay()
        return play

    broker = makers.keep(ScriptedBroker(first, unsubscribe(NOT_AUTHORIZED), unsubscribe(0), unsubscribe(0)))
    consumer = make_consumer(port=broker.port, topics="a/# b/#").start()
    consumer.stop()
    consumer.set("mqtt", topics="a/#").start()
    consumer.wait_log("stays subscribed (not authorized)")
    consumer.restart()
    consumer.wait_log("unsubscribed from former filters")
    consumer.restart()
    wait_until(lambda: len(gone) == 2, 15, lambda: f"what is unsubscribed is noted: {gone}")
    assert gone == ["b/#", "b/#"]


class Offer:
    """A broker whose CONNACK has these properties; each connection's Link is kept."""

    def __init__(self, makers, *properties):
        self.properties = b"".join(properties)
        self.links = []
        self.asked = []
        self.broker = makers.keep(ScriptedBroker(self.play))
        self.port = self.broker.port

    def play(self, link):
        link.connect()
        self.links.append(link)
        link.connack(len(self.links) > 1, self.properties)
        while True:
            self.asked.append(link.subscribed())


def test_server_keep_alive_is_kept_to(make_consumer, makers):
    silences = []

    def play(link):
        link.accept(session_present=False, properties=SERVER_KEEP_ALIVE(2))
        while True:
            started = time.monotonic()
            link.read()
            silences.append(time.monotonic() - started)

    broker = makers.keep(ScriptedBroker(play))
    make_consumer(port=broker.port, keepalive="60s").start()
    wait_until(lambda: len(silences) >= 4, 15, "packets come without a reason")
    assert max(silences) < 3 and broker.connections == 1, "after one and a half times of it a broker hangs up"


def test_filters_are_asked_for_with_maximum_qos_at_the_most(make_consumer, makers):
    offer = Offer(makers, MAXIMUM_QOS(1))
    make_consumer(port=offer.port, topics="a@2 b@0").start()
    wait_until(lambda: len(offer.asked) == 2, 15, lambda: f"what is asked for is noted: {offer.asked}")
    assert offer.asked == [("a", 1), ("b", 0)]


@pytest.mark.parametrize("properties, topics, reason", [
    (WILDCARD_AVAILABLE(0), "a b/#", 'filter "b/#" was refused (wildcard subscriptions not supported)'),
    (SHARED_AVAILABLE(0), "a $share/g/b", 'filter "$share/g/b" was refused (shared subscriptions not supported)'),
    (MAXIMUM_PACKET_SIZE(30), "a " + "b" * 30, f'filter "{"b" * 30}" was refused (packet too large)'),
])
def test_a_filter_that_the_broker_can_not_have_is_named_and_not_asked_for(make_consumer, makers, properties, topics,
                                                                         reason):
    offer = Offer(makers, properties)
    consumer = make_consumer(port=offer.port, topics=topics).start(wait=False)
    consumer.wait_log(reason)
    wait_until(lambda: offer.asked, 15, "what is asked for is noted")
    assert {text for text, _ in offer.asked} == {"a"}
    assert len(offer.links) == 1


@pytest.mark.parametrize("refusal", [0x9a, 0x9b], ids=["no retain", "no QoS 1"])
def test_a_refused_last_will_is_sent_without_retain_or_at_qos_0(make_consumer, makers, refusal):
    wills = []

    def refuse(link):
        link.connect()
        wills.append(link.will)
        link.connack(False, code=refusal)

    def accept(link):
        link.connect()
        wills.append(link.will)
        link.connack(False)
        link.subscribed()
        link.stay()

    broker = makers.keep(ScriptedBroker(refuse, accept))
    make_consumer(port=broker.port, status_topic="status").start()
    assert wills == [(1, True), (1, False) if refusal == 0x9a else (0, True)]


def test_without_retain_the_status_is_published_all_the_same(make_consumer, makers):
    published = []

    def play(link):
        link.accept(session_present=False, properties=RETAIN_AVAILABLE(0))
        published.append(link.read()[0])
        link.stay()

    broker = makers.keep(ScriptedBroker(play))
    make_consumer(port=broker.port, status_topic="status").start()
    wait_until(lambda: published, 10, "the status is published")
    assert published == [0x30], "QoS 0, not retained"


@pytest.mark.parametrize("version", VERSIONS)
def test_filters_of_a_session_from_another_program_are_unsubscribed(make_consumer, mosquitto, publisher, version):
    """`#` is unsubscribed at the first connect; messages that it has brought are stored, since they were
    acknowledged."""
    leave_session(mosquitto.port, "bridge", version, ["#"])
    waiting = [("plant/1/temp", "waiting"), ("unwanted/old", "yes")]
    publisher.publish_all(waiting)
    consumer = make_consumer(version=version, topics="plant/# marker").start()
    consumer.wait_log("was made by another program")
    consumer.wait_log("unsubscribed from former filters")
    sent = [("plant/2/temp", "new")]
    publisher.publish_all([("unwanted/new", "no")] + sent)
    assert_all(waiting + sent, consumer.wait_idle(publisher))
    assert re.search('former_topics.*"topic":"unwanted/old"', consumer.log())


@pytest.mark.parametrize("named", ["at first", "later"])
def test_former_topics_unsubscribes_filters_of_another_program(make_consumer, mosquitto, publisher,
                                                                             named):
    leave_session(mosquitto.port, "bridge", "5", ["plant/+/temp", "old/a"])
    consumer = make_consumer(topics="plant/# marker")
    if named == "later":
        consumer.start()
        publisher.publish_all([("plant/1/temp", "x"), ("old/a", "x")])
        topics = [entry.topic for entry in consumer.wait_idle(publisher)]
        assert sorted(topics) == ["old/a", "plant/1/temp", "plant/1/temp"]
        consumer.wait_log('"topic":"old/a"')
        consumer.stop()
    consumer.set("mqtt", former_topics="plant/+/temp old/a").start()
    consumer.wait_log("unsubscribed from former filters")
    publisher.publish_all([("old/a", "new"), ("plant/2/temp", "new")])
    assert [entry.topic for entry in consumer.wait_idle(publisher) if entry.payload == b"new"] == ["plant/2/temp"]
    consumer.restart()
    assert "unsubscribed" not in consumer.log() and "another program" not in consumer.log()


def test_a_session_of_ours_is_not_taken_for_another_s(make_consumer, publisher):
    consumer = make_consumer().start()
    consumer.restart()
    consumer.kill()
    consumer.start()
    assert "another program" not in consumer.log()
