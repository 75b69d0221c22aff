"""Every way between Symfony Messenger and the bridge, under both serializers: what one dispatched, delayed or
failed the other handles. PHP is this machine's, or that of MQTT_BRIDGE_PHP_ROOT (tests/compat/run)."""

import base64
import subprocess
import time

import pytest
from bridge import wait_until
from bridge.payloads import ALL_BYTES, PAYLOADS, TRACE
from bridge.php import PHP
from bridge.proxy import choking_proxy

PATIENCE = 60.0


def messages(serializer, prefix="site \u00e9"):
    """Topic and payload of all that Symfony can dispatch: under its JSON serializer only UTF-8."""
    return {f"{prefix}/{name}": payload for name, payload in PAYLOADS.items()
            if serializer == "php" or payload != ALL_BYTES}


class Fleet:
    """Our programs and PHP on one Redis and one table."""

    def __init__(self, bridge, redis, database, hub, sse, php, serializer, makers):
        self.bridge, self.redis, self.database, self.hub, self.sse = bridge, redis, database, hub, sse
        self.php, self.serializer, self.makers = php, serializer, makers
        self.sent = messages(serializer)
        bridge.settings["transport:async"]["serializer"] = serializer

    def php_dispatches(self):
        """PHP dispatches with a stamp of the application's own, which under PhpSerializer holds the message itself."""
        self.php.dispatch_all([(topic, payload, TRACE) for topic, payload in self.sent.items()])

    def php_fails(self, **env):
        self.php.consume(len(self.sent), env=env)

    def ours_fails(self, status):
        """Starts a worker that fails with every message, because the hub answers with that status."""
        self.bridge.settings["retry"] = {"delay": "10m"}
        self.bridge.settings["mercure"]["url"] = choking_proxy(self.makers, self.hub, status, "site").start().url
        return self.bridge.run_program("worker")

    def wait_all_delayed(self):
        wait_until(lambda: self.redis.client.zcard("messages__queue") == len(self.sent), PATIENCE,
                   lambda: f"{self.redis.client.zcard('messages__queue')} of {len(self.sent)} are delayed")

    def fall_due(self):
        """Makes the delayed messages due: their scores move, not the clock."""
        now = int(time.time() * 1000)
        members = self.redis.client.zrange("messages__queue", 0, -1, withscores=True)
        assert len(members) == len(self.sent) and all(due > now for _, due in members)
        self.redis.client.zadd("messages__queue", {member: now for member, _ in members})

    def wait_failed(self):
        wait_until(lambda: len(self.database.failures()) == len(self.sent), PATIENCE,
                   lambda: f"{len(self.database.failures())} of {len(self.sent)} rows")

    def assert_ours_handled(self):
        events = self.sse.wait_count(len(self.sent), PATIENCE)
        assert {event.document["topic"]: event.payload_bytes for event in events} == self.sent
        self.redis.wait_drained(PATIENCE)

    def assert_php_handled(self, trace=True):
        handled = self.php.handled()
        assert len(handled) == len(self.sent)
        assert {message["topic"]: message["payload"] for message in handled} == self.sent
        about = "it" if self.serializer == "php" else "nothing"
        assert set(self.php.traces().values()) == {f"{TRACE}, about {about}" if trace else None}
        assert self.redis.is_drained()


@pytest.fixture(params=["php", "json"])
def fleet(request, bridge, redis, database, hub, sse, make_php_peer, makers):
    serializer = request.param
    return Fleet(bridge, redis, database, hub, sse, make_php_peer(serializer=serializer), serializer, makers)


def test_php_handles_messages_dispatched_by_our_consumer(fleet, publisher):
    fleet.sent["site \u00e9/bytes"] = ALL_BYTES
    consumer = fleet.bridge.run_program("consumer")
    wait_until(lambda: "connected and subscribed" in consumer.log(), PATIENCE, consumer.log_tail)
    publisher.publish_all(list(fleet.sent.items()))
    wait_until(lambda: fleet.redis.client.xlen("messages") == len(fleet.sent), PATIENCE, "all are in the stream")
    fleet.php.consume(len(fleet.sent))
    if fleet.serializer == "json":
        fleet.sent["site \u00e9/bytes"] = base64.b64encode(ALL_BYTES)  # Symfony could not dispatch it at all
    fleet.assert_php_handled(trace=False)


def test_our_worker_handles_messages_dispatched_by_php(fleet):
    fleet.php_dispatches()
    fleet.bridge.run_program("worker")
    fleet.assert_ours_handled()


def test_our_worker_finishes_retries_delayed_by_php(fleet):
    fleet.php_dispatches()
    fleet.php_fails(HANDLER_FAILS="1", RETRY_DELAY="600000")
    fleet.wait_all_delayed()
    fleet.fall_due()
    fleet.bridge.run_program("worker")
    fleet.assert_ours_handled()


def test_php_finishes_retries_delayed_by_our_worker(fleet):
    fleet.php_dispatches()
    worker = fleet.ours_fails(418)
    fleet.wait_all_delayed()
    assert worker.stop() == 0
    fleet.fall_due()
    fleet.php.consume(len(fleet.sent))
    fleet.assert_php_handled()


def test_php_handles_messages_failed_for_good_by_our_worker(fleet):
    fleet.php_dispatches()
    worker = fleet.ours_fails(413)
    fleet.wait_failed()
    assert worker.stop() == 0
    fleet.php.run("messenger:consume", "failed", f"--limit={len(fleet.sent)}", "--time-limit=20")
    fleet.assert_php_handled()
    assert fleet.database.failures() == []


def test_our_worker_handles_messages_failed_for_good_by_php(fleet):
    fleet.php_dispatches()
    fleet.php_fails(HANDLER_FAILS="poison")
    fleet.wait_failed()
    fleet.bridge.run_program("worker")
    fleet.bridge.cli("failed", "retry", "--all", "-y")
    fleet.assert_ours_handled()
    assert fleet.database.failures() == []


DEFAULT = r"""
require 'Symfony/Component/Messenger/Bridge/Redis/autoload.php';
$class = 'Symfony\Component\Messenger\Bridge\Redis\Transport\Connection';
echo (new ReflectionClassConstant($class, 'DEFAULT_OPTIONS'))->getValue()['delete_after_ack'] ? 'deletes' : 'keeps';
"""


def test_acknowledged_entries_that_php_keeps_are_not_handled_or_removed(bridge, redis, sse, make_php_peer):
    """delete_after_ack is off unless given in Symfony 5.4, and on in later ones."""
    default = subprocess.run([*PHP, "-r", DEFAULT], text=True, capture_output=True, check=True).stdout
    php = make_php_peer(dsn=redis.dsn())
    php.dispatch_all([(f"before/{number}", b"1", None) for number in range(3)])
    php.consume(3)
    kept = {"keeps": 3, "deletes": 0}[default]
    assert redis.client.xlen("messages") == kept
    bridge.settings["transport:async"]["dsn"] = redis.dsn(claim_interval=1000)
    bridge.run_program("worker")
    php.dispatch("after/1", b"1")
    sse.wait_topic("after/1", PATIENCE)
    wait_until(lambda: redis.client.exists("{messages}__since:symfony"), PATIENCE, "the worker has looked")
    wait_until(lambda: redis.client.xlen("messages") == kept, PATIENCE, "what ours has handled is removed")
    assert [event.document["topic"] for event in sse.caught_up()] == ["after/1"]
