"""A slow link to Redis: what is spooled arrives whole, once, however little the link takes in the time-out."""

import pytest
from bridge import wait_until
from bridge.consumer import READY, Consumer, assert_all
from bridge.relays import Detour, SlowRelay

pytestmark = pytest.mark.waits


def messages(count, size, start=0):
    return [(f"load/{number % 7}", f"{number:08d}" + "x" * (size - 8)) for number in range(start, start + count)]


@pytest.fixture
def slow(make_consumer, redis, makers):
    """A consumer that is not started yet, behind a SlowRelay; the time-out is a second."""
    def make(**link):
        relay = makers.keep(SlowRelay(redis.port, **link))
        consumer = make_consumer()
        consumer.set("transport:async", dsn=f"redis://127.0.0.1:{relay.port}/messages?timeout=1")
        return consumer, relay
    return make


def test_a_backlog_behind_a_slow_link_arrives_whole(slow, publisher):
    """A full batch would be under way for four times the time-out: it becomes smaller, and one message that can't is
    waited for."""
    consumer, relay = slow(rate=250_000)
    consumer.start()
    sent = messages(1500, 1000) + messages(1, 1_000_000, 1500) + messages(10, 1000, 1501)
    publisher.publish_all(sent)
    assert_all(sent, consumer.wait_entries(len(sent), timeout=90))


def test_a_redis_that_freezes_once_is_no_slow_link(slow, publisher, redis):
    consumer, relay = slow(rate=2_000_000)
    consumer.start().stop()
    sent = messages(4000, 1000)
    publisher.publish_all(sent)
    consumer.start()
    wait_until(lambda: redis.client.xlen("messages"), 20, "it is in the middle")
    relay.freeze()
    consumer.wait_log("no answer in time")
    assert 0 < redis.client.xlen("messages") < len(sent)
    relay.thaw()
    assert_all(sent, consumer.wait_entries(len(sent), timeout=60))
    assert consumer.log().count("no answer in time") == 1
    assert "timeout=SECONDS in the DSN" not in consumer.log(), "a longer time-out would not have helped"


def test_a_link_that_hides_how_slow_it_is_is_given_less_at_a_time(slow, publisher, redis):
    """Each append is swallowed at once and answered late: smaller ones pass, and one message that is too large by
    itself is waited for."""
    consumer, _ = slow(rate=300_000, hoards=True)
    bridge = consumer.set("worker", count=0).set("mercure", url="http://127.0.0.1:9/", jwt_secret="s" * 32).bridge
    bridge.start(wait=False)
    consumer.process = bridge.supervisor
    consumer.wait_log(READY)
    sent = messages(1200, 1000) + messages(1, 1_000_000, 1200) + messages(300, 1000, 1201)
    publisher.publish_all(sent)

    def reason():
        process, = [process for process in bridge.status()["processes"] if process["name"] == "consumer"]
        return process["reason"]
    wait_until(lambda: "timeout=SECONDS in the DSN" in reason(), 30, "the status says why it is slow", every=0.2)
    assert_all(sent, consumer.wait_entries(len(sent), timeout=60))
    assert " no answer in time to 1" in consumer.log() and "timeout=SECONDS in the DSN" in consumer.log()
    last = []

    def all_is_normal():  # with what comes quickly
        last.append(("load/last", f"last {len(last)}"))
        publisher.publish(*last[-1])
        return reason() == ""
    wait_until(all_is_normal, 30, reason, every=0.1)
    assert_all(sent + last, consumer.wait_entries(len(sent + last)))


@pytest.fixture
def service(make_bridge, mosquitto, redis, hub):
    """The whole bridge, without workers, whose log the consumer's is; the time-out is a second."""
    def start(relay):
        consumer = Consumer(make_bridge(mosquitto=mosquitto, redis=redis, hub=hub), redis).set("worker", count=0)
        consumer.set("transport:async", dsn=f"redis://127.0.0.1:{relay.port}/messages?timeout=1")
        consumer.bridge.start(wait=False)
        consumer.process = consumer.bridge.supervisor
        consumer.wait_log(READY)
        return consumer
    return start


def test_a_bridge_that_sends_slowly_is_ready_and_says_so(service, makers, redis, publisher):
    """The least that the consumer sends at once, 16 KiB, takes this link longer than twice the time-out."""
    relay = makers.keep(SlowRelay(redis.port, rate=7_000, hoards=True))
    consumer = service(relay)
    relay.freeze()
    sent = messages(60, 1000)
    publisher.publish_all(sent)
    consumer.wait_spooled([(sent[-1][0], sent[-1][1][:8])])
    relay.thaw()
    consumer.wait_log("no answer in time")
    wait_until(lambda: redis.client.xlen("messages") > 10, 60, "it sends")

    def told():
        health, status = consumer.bridge.cli("health", check=False), consumer.bridge.cli("status").stdout
        return health.returncode == 0 and "ready without: spool: consumer: " in status and "timeout=SECONDS" in status
    wait_until(told, 30, lambda: consumer.bridge.cli("status").stdout)
    assert_all(sent, consumer.wait_entries(len(sent), timeout=60))


def test_the_consumer_recovers_when_timed_out_appends_arrive_after_all(service, makers, redis, publisher):
    """The last append is late twice. After it there is nothing left to send that could show that Redis answers in
    time."""
    consumer = service(makers.keep(Detour(redis.port, size=15_000, seconds=5)))
    sent = messages(1, 20_000)
    publisher.publish_all(sent)
    consumer.wait_log("no answer in time")
    assert_all(sent, consumer.wait_entries(1))
    wait_until(lambda: consumer.bridge.cli("health", check=False).returncode == 0, 20,
               lambda: consumer.bridge.cli("status").stdout + consumer.process.log_tail(30))
    consumer.wait_log("takes messages again", consumer.log().count("no answer in time"))
