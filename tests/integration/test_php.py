"""Symfony Messenger beside the bridge, on the same Redis and the same table. Each handles what the other has
dispatched. Messenger's own commands work on messages that failed in the bridge."""

import subprocess
import time
from pathlib import Path

import pytest
from bridge import wait_until
from bridge.entries import json_value, php_value
from bridge.hub import REFUSED_TOPIC
from bridge.php import PHP, ROOT, PhpPeer
from bridge.proxy import choking_proxy

PATIENCE = 60.0
PAYLOADS = [b'{"temp":21.5}', b"", "Gr\u00fc\u00dfe \u2603 \U0001f600".encode(),
            b"it's \"quoted\" \\ and /slashed/\n\t", b"21.50", b"a:1:{i:0;O:8:\"stdClass\":0:{}}"]
BINARY = [bytes(range(256)), b"\xff\xfe\x00", b"\x00"]


@pytest.fixture(params=["php", "json"])
def serializer(request, bridge):
    bridge.settings["transport:async"]["serializer"] = request.param
    return request.param


@pytest.fixture
def peer(make_php_peer, serializer):
    return make_php_peer(serializer=serializer)


def start_consumer(bridge):
    consumer = bridge.run_program("consumer")
    wait_until(lambda: "connected and subscribed" in consumer.log(), PATIENCE, consumer.log_tail)
    return consumer


def test_php_handles_messages_without_metadata_headers(bridge, publisher, redis, peer, serializer):
    bridge.settings["transport:async"]["metadata_headers"] = "no"
    start_consumer(bridge)
    payloads = PAYLOADS + (BINARY if serializer == "php" else [])
    sent = [(f"site é/{number}", payload) for number, payload in enumerate(payloads)]
    publisher.publish_all(sent)
    wait_until(lambda: redis.client.xlen("messages") == len(sent), PATIENCE, "all are in the stream")
    assert b"X-Mqtt-Id" not in redis.client.xrange("messages", count=1)[0][1][b"message"]
    peer.consume(len(sent))
    assert peer.handled() == [{"topic": topic, "payload": payload} for topic, payload in sent]
    assert redis.is_drained()


@pytest.mark.parametrize("properties", ["protected", "private"])
def test_php_handles_messages_with_protected_or_private_properties(bridge, publisher, redis, make_php_peer, properties):
    bridge.settings["transport:async"]["properties"] = properties
    start_consumer(bridge)
    publisher.publish("a/b", BINARY[0])
    wait_until(lambda: redis.client.xlen("messages") == 1, PATIENCE, "it is in the stream")
    peer = make_php_peer(env={"MESSAGE_PROPERTIES": properties})
    peer.consume(1)
    assert peer.handled() == [{"topic": "a/b", "payload": BINARY[0]}]


def test_php_and_our_workers_share_a_stream(bridge, publisher, sse, redis, peer):
    """Each message is handled by one of the two."""
    bridge.settings["worker"]["count"] = 1
    bridge.start()
    php = peer.start_consumer()
    wait_until(lambda: "Consuming messages" in php.log(), PATIENCE, php.log_tail)
    sent = [("load/x", f"message {number}") for number in range(600)]
    publisher.publish_all(sent, rate=400)

    def seen():
        ours = {event.payload_bytes for event in sse.caught_up()}
        return ours, {message["payload"] for message in peer.handled()}
    wait_until(lambda: len(set.union(*seen())) == 600, PATIENCE, lambda: f"{[len(part) for part in seen()]} handled")
    redis.wait_drained(PATIENCE)
    assert php.stop() == 0
    ours, theirs = seen()
    assert not ours & theirs


@pytest.mark.parametrize("properties", ["protected", "private"])
def test_our_worker_reads_any_visibility(bridge, sse, make_php_peer, properties):
    bridge.run_program("worker")
    make_php_peer(env={"MESSAGE_PROPERTIES": properties}).dispatch("a/b", BINARY[0])
    assert sse.wait_topic("a/b", PATIENCE).payload_bytes == BINARY[0]


def test_our_worker_handles_a_retry_delayed_by_php_when_it_is_due(bridge, sse, redis, peer):
    peer.dispatch("later/x", '{"a":1}')
    peer.consume(1, env={"RETRY_DELAY": "4000", "HANDLER_FAILS": "1"})
    (_, due), = redis.client.zrange("messages__queue", 0, -1, withscores=True)
    bridge.run_program("worker")
    event = sse.wait_topic("later/x", PATIENCE)
    assert event.payload == {"a": 1}
    assert time.time() * 1000 >= due
    redis.wait_drained(PATIENCE)


def test_our_worker_counts_the_retries_of_php(bridge, redis, hub, database, peer, makers):
    """One retry was PHP's; with max_retries = 2 ours has one left."""
    peer.dispatch("later/x", "choke")
    peer.consume(1, env={"RETRY_DELAY": "1", "HANDLER_FAILS": "1"})
    bridge.settings["mercure"]["url"] = choking_proxy(makers, hub).start().url
    bridge.settings["retry"] = {"max_retries": 2, "delay": "100ms", "jitter": 0}
    bridge.run_program("worker")
    row, = wait_until(lambda: database.failures(), PATIENCE, "the row")
    shown = peer.run("messenger:failed:show", row["id"], "-vv").stdout
    assert shown.count("was redelivered") == 3, "PHP's retry, ours, and the way into the table"


@pytest.fixture
def failed(bridge, publisher, database):
    """Runs the bridge until the message that the hub refuses is in the table; returns its row."""
    def run(*payloads):
        bridge.start()
        for payload in payloads:
            publisher.publish(REFUSED_TOPIC, payload)
        rows = wait_until(lambda: len(found := database.failures()) == len(payloads) and found, PATIENCE,
                          "the rows")
        bridge.stop()
        return rows
    return run


def test_failed_show_lists_the_message_with_its_error(failed, peer):
    row, = failed("poison")
    listed = peer.run("messenger:failed:show").stdout
    assert str(row["id"]) in listed and "App\\Message\\MqttMessage" in listed
    assert "well-known/mercure" in listed, "the error's message"


CONNECTION_SOURCE = r"""
require 'Symfony/Component/Messenger/Bridge/Doctrine/autoload.php';
echo (new ReflectionClass('Symfony\Component\Messenger\Bridge\Doctrine\Transport\Connection'))->getFileName();
"""


def takes_times_for_utc():
    """As Symfony does from 6.3 on; earlier ones take them for local times."""
    path = subprocess.run([*PHP, "-r", CONNECTION_SOURCE], text=True, capture_output=True, check=True).stdout
    return "new \\DateTimeImmutable('UTC')" in Path(f"{ROOT or ''}{path}").read_text()


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_a_php_west_of_greenwich_shows_rows_in_its_own_zone(bridge, redis, hub, database, make_php_peer, zone):
    shown = zone != "UTC" or takes_times_for_utc()
    bridge.settings["failure"]["timezone"] = zone
    redis.client.xadd("messages", {"message": php_value(REFUSED_TOPIC, "poison")})
    bridge.run_program("worker")
    row, = wait_until(lambda: database.failures(), PATIENCE, "the row")
    peer = make_php_peer(env={"PHP_TIMEZONE": "America/New_York"})
    listed = peer.run("messenger:failed:show").stdout
    assert (f" {row['id']} " in listed) == shown, listed
    if shown:
        peer.run("messenger:failed:retry", row["id"], "--force")
        assert peer.handled() == [{"topic": REFUSED_TOPIC, "payload": b"poison"}]


def test_failed_show_shows_one_message_whole(failed, peer):
    row, = failed("poison")
    shown = peer.run("messenger:failed:show", row["id"], "-vv").stdout
    assert "App\\Message\\MqttMessage" in shown
    assert "UnrecoverableMessageHandlingException" in shown
    assert REFUSED_TOPIC in shown and "poison" in shown
    assert time.strftime("%Y-%m-%d", time.gmtime()) in shown


@pytest.mark.parametrize("payload", [b"poison", b"", "Gr\u00fc\u00dfe".encode(), b'{"a":"/"}'])
def test_failed_retry_lets_php_handle_it(failed, peer, database, payload):
    row, = failed(payload)
    peer.run("messenger:failed:retry", row["id"], "--force")
    assert peer.handled() == [{"topic": REFUSED_TOPIC, "payload": payload}]
    assert database.failures() == []


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_php_handles_a_row_of_a_database_that_lacks_its_characters(makers, bridge, redis, postgres, serializer):
    database = postgres.create_database("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    bridge.settings["failure"]["dsn"] = database.dsn
    value = php_value if serializer == "php" else json_value
    redis.client.xadd("messages", {"message": value(REFUSED_TOPIC, "5 \u20ac, \u00fc")})
    bridge.run_program("worker")
    row, = wait_until(lambda: database.failures(), PATIENCE, "the row")
    peer = makers.keep(PhpPeer(makers.new_folder("php"), redis, database, serializer))
    peer.run("messenger:failed:retry", row["id"], "--force")
    assert peer.handled() == [{"topic": REFUSED_TOPIC, "payload": "5 \u20ac, \u00fc".encode()}]


def test_a_repeated_retry_of_ours_is_read_by_php(bridge, redis, hub, make_php_peer, makers):
    """More than ten stamps of a kind were there, and the identity is in the headers."""
    bridge.settings["retry"] = {"delay": "20ms", "multiplier": 1, "max_retries": 14, "jitter": 0}
    bridge.settings["mercure"]["url"] = choking_proxy(makers, hub, 418).start().url
    redis.client.xadd("messages", {"message": php_value("a/b", "tried often, choke")})
    worker = bridge.run_program("worker")
    wait_until(lambda: "Retry 14 of 14" in worker.log(), PATIENCE, "it is retried")
    redis.wait_drained()
    peer = make_php_peer()
    peer.run("messenger:consume", "failed", "--limit=1", "--time-limit=20")
    assert peer.handled() == [{"topic": "a/b", "payload": b"tried often, choke"}]


def test_php_failed_remove_deletes_the_named_row_alone(failed, peer, database):
    first, second = failed("one", "two")
    peer.run("messenger:failed:remove", first["id"], "--force")
    assert [row["id"] for row in database.failures()] == [second["id"]]


def test_rows_of_php_and_of_ours_are_listed_together(failed, peer, database):
    failed("ours")
    peer.dispatch("poison/x", "theirs")
    peer.consume(1)
    ids = [row["id"] for row in database.failures()]
    assert len(ids) == 2
    listed = peer.run("messenger:failed:show").stdout
    assert all(f" {number} " in listed for number in ids)
    assert "the handler can never take poison/x" in listed and "well-known/mercure" in listed


def test_the_bridge_works_with_the_transports_that_php_set_up(bridge, publisher, sse, peer, redis, database):
    """The stream's group and the table as PHP makes them."""
    peer.run("messenger:setup-transports")
    bridge.start()
    publisher.publish("a/b", "1")
    publisher.publish(REFUSED_TOPIC, "poison")
    sse.wait_topic("a/b", PATIENCE)
    wait_until(lambda: len(database.failures()) == 1, PATIENCE, "the row")
    assert len(redis.client.xinfo_groups("messages")) == 1


def test_a_message_that_cannot_be_decoded_is_seen_by_failed_show(bridge, redis, database, make_php_peer):
    redis.client.xadd("messages", {"message": b"garbage"})
    bridge.run_program("worker")
    row, = wait_until(lambda: database.failures(), PATIENCE, "the row")
    shown = make_php_peer().run("messenger:failed:show", row["id"], "-vv").stdout
    assert "no JSON object" in shown and "garbage" in shown
    assert database.failures() == [row], "PHP deletes rows that it can't decode"
