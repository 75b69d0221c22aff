"""How the consumer ends, what it promises when it starts, and what its stores can never take."""

import signal
import time

import pytest
from bridge import wait_until
from bridge.consumer import READY, VERSIONS, assert_all, numbered


def wait_left(mosquitto):
    """Until the broker has read the consumer's DISCONNECT. One that merely hangs up "closed its connection".
    Only where the broker has nothing left to send: bytes that a closed socket has not read reset the
    connection, and the broker may see that before it reads the DISCONNECT."""
    wait_until(lambda: "Client bridge disconnected." in mosquitto.log(), 15,
               lambda: f"the consumer has left\n{mosquitto.log_tail(20)}")


def test_sigterm_sends_what_is_spooled(consumer, publisher, redis, mosquitto):
    consumer.start()
    redis.freeze()
    sent = numbered(2000)
    publisher.publish_all(sent)
    consumer.wait_spooled(sent)
    consumer.process.send(signal.SIGTERM)
    redis.thaw()
    assert consumer.process.wait() == 0
    wait_left(mosquitto)
    assert_all(sent, consumer.entries())
    assert "everything that was received is in Redis" in consumer.log()


def test_sigterm_with_redis_away_keeps_the_spool_and_ends_in_time(consumer, publisher, redis):
    """By stop_timeout, of which it uses half here: 9 s would be that of the default, and without one it goes on."""
    consumer.set("supervisor", stop_timeout="1500ms").start()
    redis.stop()
    sent = numbered(500)
    publisher.publish_all(sent)
    started = time.monotonic()
    consumer.stop()
    assert time.monotonic() - started < 3
    assert "the spool keeps messages" in consumer.log()
    redis.start()
    consumer.start()
    # What was on its way to us when we left the broker is stored, but no longer acknowledged: it comes again.
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_sigterm_with_nothing_to_do_leaves_the_broker_in_good_order(make_consumer, publisher, mosquitto, version):
    consumer = make_consumer(version=version).start()
    publisher.publish("a", "1")
    consumer.wait_entries(1)
    assert "Client bridge" not in mosquitto.log()
    consumer.stop()
    wait_left(mosquitto)


def test_sigquit_ends_at_once_and_loses_nothing(consumer, publisher, redis):
    consumer.set("supervisor", stop_timeout="60s").start()
    redis.freeze()
    sent = numbered(500)
    publisher.publish_all(sent)
    assert consumer.process.stop(with_signal=signal.SIGQUIT) == 0
    redis.thaw()
    consumer.start()
    # Acknowledgements that the broker had not read when the connection broke: it sends those again.
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)


def test_messages_published_while_the_consumer_is_down_arrive_in_order(consumer, publisher):
    consumer.start()
    consumer.stop()
    sent = [("one/topic", f"{number:05d}") for number in range(2000)]
    publisher.publish_all(sent)
    consumer.start()
    entries = consumer.wait_idle(publisher)
    assert [entry.payload.decode() for entry in entries] == [payload for _, payload in sent]


def test_the_promise_is_logged_once_and_weak_settings_are_warned_of(make_consumer, make_redis, mosquitto):
    redis = make_redis("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    consumer = make_consumer(store=redis, topics="a@0 b@1", session_expiry="1h")
    consumer.set("transport:async", dsn=redis.dsn(stream_max_entries=1000)).start()
    consumer.wait_log("Promised: ")
    log = consumer.log()
    for text in ("maxmemory-policy allkeys-lru", "appendonly no", "QoS 0: ", "stream_max_entries is set",
                 '"session_expiry_s":3600', '"spool_sync":"none"', "survives a crash"):
        assert text in log, text
    mosquitto.restart()
    consumer.wait_log(READY, 2)
    assert consumer.log().count("Promised: ") == 1


def test_a_promise_without_weak_settings_has_no_warning(consumer):
    consumer.start()
    consumer.wait_log("Promised: broker to spool at least once")
    assert "WARNING" not in consumer.log()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_that_no_segment_takes_does_not_stop_the_others(make_consumer, publisher, version):
    """Under MQTT 5 the broker is told and drops it; under 3.1.1 it comes, and is kept as a file."""
    consumer = make_consumer(version=version)
    consumer.set("spool", size="8M", retain="1M")
    consumer.start()
    publisher.publish("too/large", b"x" * 9_000_000)
    publisher.publish("small", b"1")
    assert consumer.wait_entries(1)[0].topic == "small"
    assert ('"topic":"too/large"' in consumer.log()) == (version == "3.1.1")
    time.sleep(0.5)
    assert "staying away" not in consumer.log()
