"""A transport and the failure transport with different serializers, as Symfony has it where messenger.yaml sets that of one
of them only. PHP deletes what it can't decode: nothing may be written to either in the other's."""

import base64
import json

import pytest
from bridge import wait_until
from bridge.entries import entries, json_value, php_value
from bridge.failures import add_rows, json_row, listed, php_row, refuses
from bridge.hub import REFUSED_TOPIC
from bridge.payloads import ALL_BYTES, PAYLOADS, TRACE
from bridge.proxy import choking_proxy

PATIENCE = 30.0
NAMES = ("empty", "quoted", "control", "emoji", "nested", "serialized", "json")
SENT = {f"site \u00e9/{name}": PAYLOADS[name] for name in NAMES}
BYTES_TOPIC = "site \u00e9/bytes"


class Sides:
    """Ours and PHP, each with both transports."""

    def __init__(self, serializers, store, bridge, redis, database, make_php_peer):
        self.serializer, self.failure = serializers
        self.store, self.bridge, self.redis, self.database = store, bridge, redis, database
        env = {"MESSENGER_FAILURE_SERIALIZER": self.failure}
        bridge.settings["transport:async"]["serializer"] = self.serializer
        bridge.settings["failure"]["serializer"] = self.failure
        if store == "stream":
            bridge.settings["failure"]["dsn"] = redis.dsn("/failed")
            env["MESSENGER_FAILURE_TRANSPORT_DSN"] = redis.dsn("/failed", delete_after_ack=1)
        self.php = make_php_peer(serializer=self.serializer, env=env)

    def count(self):
        return self.redis.client.xlen("failed") if self.store == "stream" else len(self.database.failures())

    def dispatch(self):
        """With a stamp of the application's own."""
        self.php.dispatch_all([(topic, payload, TRACE) for topic, payload in SENT.items()])

    def dispatch_bytes(self):
        """As our consumer does: Symfony can't, under its JSON serializer."""
        value = php_value(BYTES_TOPIC, ALL_BYTES) if self.serializer == "php" else json_value(
            BYTES_TOPIC, base64.b64encode(ALL_BYTES).decode(), {"X-Mqtt-Encoding": "base64"})
        self.redis.client.xadd("messages", {"message": value})

    def ours_fails(self, makers, hub):
        """Our worker fails with every message, because the hub refuses it."""
        self.bridge.settings["mercure"]["url"] = choking_proxy(makers, hub, 413, "site").start().url
        worker = self.bridge.run_program("worker", name="failing")
        wait_until(lambda: self.count() == len(SENT) + 1, PATIENCE, lambda: f"{self.count()} have failed")
        assert worker.stop() == 0

    def id_of(self, name):
        return next(row["id"] for row in listed(self.bridge) if row["topic"].endswith(name))

    def handled(self):
        messages = self.php.handled()
        assert len(messages) == len({message["topic"] for message in messages})
        return {message["topic"]: message["payload"] for message in messages}


@pytest.fixture(params=["table", "stream"])
def store(request):
    return request.param


@pytest.fixture(params=[("json", "php"), ("php", "json")], ids=["json-php", "php-json"])
def sides(request, store, bridge, redis, database, make_php_peer):
    return Sides(request.param, store, bridge, redis, database, make_php_peer)


def test_php_shows_and_handles_messages_failed_by_our_worker(sides, makers, hub):
    sides.dispatch()
    sides.dispatch_bytes()
    sides.ours_fails(makers, hub)
    if sides.store == "table":
        first = sides.id_of("empty")
        assert "App\\Message\\MqttMessage" in sides.php.run("messenger:failed:show").stdout
        assert "site \u00e9/empty" in sides.php.run("messenger:failed:show", first, "-vv").stdout
        assert sides.count() == len(SENT) + 1, "nothing was deleted"
        sides.php.run("messenger:failed:retry", first, "--force")
    limit = sides.count()
    sides.php.run("messenger:consume", "failed", f"--limit={limit}", "--time-limit=20", "-vv", timeout=40)
    expected = base64.b64encode(ALL_BYTES) if sides.failure == "json" else ALL_BYTES
    assert sides.handled() == {**SENT, BYTES_TOPIC: expected}
    assert sides.count() == 0 and sides.redis.is_drained()


@pytest.mark.parametrize("who", ["php", "ours"])
def test_messages_failed_by_php_are_retried_by_php_and_by_our_worker(sides, who, request):
    sides.dispatch()
    sides.php.consume(len(SENT), env={"HANDLER_FAILS": "poison"})
    assert sides.count() == len(SENT)
    assert {row["topic"] for row in listed(sides.bridge)} == set(SENT)
    sides.bridge.cli("failed", "retry", "--all", "-y")
    assert sides.count() == 0 and sides.redis.client.xlen("messages") == len(SENT)
    if who == "php":
        sides.php.consume(len(SENT))
        assert sides.handled() == SENT
    else:
        sse = request.getfixturevalue("sse")
        sides.bridge.run_program("worker")
        events = sse.wait_count(len(SENT), PATIENCE)
        assert {event.document["topic"]: event.payload_bytes for event in events} == SENT
        sides.redis.wait_drained(PATIENCE)
    assert sides.count() == 0 and sides.redis.is_drained()


def test_messages_failed_by_our_worker_can_fail_and_be_retried_twice(sides, makers, hub):
    """A stamp of the application's own comes back where JSON was the transport's: it stood in the row's headers."""
    sides.dispatch()
    sides.dispatch_bytes()
    for _ in range(2):
        sides.ours_fails(makers, hub)
        shown = json.loads(sides.bridge.cli("failed", "show", sides.id_of("empty"), "--json").stdout)
        assert shown["serializer"] == sides.failure
        traces = [stamp for stamp in shown["stamps"] if stamp["class"] == "App\\Stamp\\TraceStamp"]
        assert len(traces) == (1 if sides.failure == "php" else 0)
        sides.bridge.cli("failed", "retry", "--all", "-y")
        assert sides.count() == 0
    sides.php.consume(len(SENT) + 1)
    expected = base64.b64encode(ALL_BYTES) if sides.serializer == "json" else ALL_BYTES
    assert sides.handled() == {**SENT, BYTES_TOPIC: expected}
    traces = {topic: trace for topic, trace in sides.php.traces().items() if topic != BYTES_TOPIC}
    assert set(traces.values()) == {f"{TRACE}, about nothing" if sides.serializer == "json" else None}


@pytest.mark.parametrize("serializers", [("json", "php"), ("php", "json")], ids=["json-php", "php-json"])
def test_a_time_in_php_s_own_zone_survives(serializers, bridge, redis, database, make_php_peer):
    """The stamp of the first retry has the time; it is converted to the other serializer and back."""
    sides = Sides(serializers, "stream", bridge, redis, database, make_php_peer)
    sides.php.env |= {"PHP_TIMEZONE": "Europe/Berlin", "RETRY_MAX": "1", "RETRY_DELAY": "1"}
    sides.php.dispatch("a", "1")
    for _ in range(2):
        sides.php.consume(2, env={"HANDLER_FAILS": "1"})
        assert sides.count() == 1
        stamps = json.loads(bridge.cli("failed", "show", listed(bridge)[0]["id"], "--json").stdout)["stamps"]
        times = [stamp["properties"]["redeliveredAt"] for stamp in stamps if stamp["class"].endswith("RedeliveryStamp")]
        assert times and all(("Europe/Berlin" if sides.failure == "php" else "+01:00") in time for time in times[-2:])
        bridge.cli("failed", "retry", "--all", "-y")
    sides.php.consume(1)
    assert sides.handled() == {"a": b"1"} and redis.is_drained()


@pytest.mark.parametrize("serializer", ["json", "php"])
def test_a_message_of_another_class_stays_and_the_text_has_the_remedy(bridge, redis, database, serializer):
    other = "php" if serializer == "json" else "json"
    bridge.settings["transport:async"]["serializer"] = serializer
    bridge.settings["transport:mail"] = {"dsn": redis.dsn("/mail"), "serializer": other}
    row = php_row(None, None, message=("App\\Mail", {"to": "x"}))
    if serializer == "php":
        body, headers = json_row(None, None)
        row = json.dumps({"to": "x"}), headers.replace("MqttMessage", "Mail")
    add_rows(database, [row, php_row("a", "1"), json_row("b", "2")])
    text = refuses(bridge, "retry", "--all", "-y")
    assert f"1: its serializer is {other}, that of [transport:async] is {serializer}" in text
    assert f"a NAME with serializer = {other}" in text and "messenger:failed:retry 1" in text
    assert [row["id"] for row in database.failures()] == [1] and len(entries(redis)) == 2
    bridge.cli("failed", "retry", 1, "--transport", "mail")
    assert redis.client.xlen("mail") == 1 and database.failures() == []


def test_an_entry_that_can_not_be_converted_is_kept_as_it_was(bridge, redis, database, hub):
    bridge.settings["transport:async"]["serializer"] = "json"
    bridge.settings["failure"]["serializer"] = "php"
    value = json_value(REFUSED_TOPIC, "1").replace(b"MqttMessage", b"MqttMassage")
    redis.client.xadd("messages", {"message": value})
    worker = bridge.run_program("worker")
    wait_until(database.failures, PATIENCE, worker.log_tail)
    worker.stop()
    shown = bridge.cli("failed", "show", 1).stdout
    assert "its entry is kept as it was: [failure] serializer is php" in shown and "MqttMassage" in shown
    bridge.cli("failed", "retry", 1)
    assert entries(redis) == [value] and database.failures() == []


def test_check_notes_that_php_may_have_another_serializer(bridge):
    bridge.settings["transport:async"]["serializer"] = "json"
    bridge.settings["mercure"]["jwt_secret"] = "x" * 32

    def said():
        bridge.write_config()
        result = bridge.cli("check")
        return "else set serializer = php" in result.stderr
    assert said()
    for serializer in ("transport", "json", "php"):
        bridge.settings["failure"]["serializer"] = serializer
        assert not said()
