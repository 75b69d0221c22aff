"""Stream entries that another program adds, not in Messenger's form. Those that hold an envelope are read. Others are
put aside whole, so that nothing of them is lost."""

import base64
import json
import re
import subprocess

import pytest
from bridge import wait_until
from bridge.entries import php_value
from bridge.proxy import choking_proxy

BODY = json.loads(php_value("a/b", '{"x":1}').split(b'"', 1)[1].rsplit(b'"', 1)[0])["body"]
ENTRIES = [
    [b"device", b"probe-7", b"temp", b"21.5"],
    [b"\x00\xff name", bytes(range(256)), b"", b""],
    [b"twice", b"first", b"twice", b"last"],
    [b"message", b"garbage", b"device", b"probe-7"],
    [b"message", b'a:2:{i:0;s:7:"message";i:1;s:1:"x";}'],
    [b"body", b"garbage", b"headers", b"garbage", b"\xfe", b"\xfd"],
    [b"large", b"x" * 1_500_000, b"and", b"y" * 1_500_000],
]


def xadd(redis, words, entry="*"):
    return redis.client.execute_command("XADD", "messages", entry, *words)


def read_fields(peer, row):
    """What PHP reads of the row's message: XADD's words, as they were."""
    assert '"X-Mqtt-Raw":"fields"' in row["headers"]
    encoded = '"X-Mqtt-Encoding":"base64"' in row["headers"]
    peer.run("messenger:failed:retry", row["id"], "--force")
    handled = peer.handled()[-1]
    assert handled["topic"] == "$undecodable"
    payload = base64.b64decode(handled["payload"]) if encoded else handled["payload"]
    script = "echo json_encode(array_map('bin2hex', unserialize(stream_get_contents(STDIN))));"
    words = subprocess.run(["php", "-r", script], input=payload, capture_output=True, check=True).stdout
    return [bytes.fromhex(word) for word in json.loads(words)]


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_an_entry_with_fields_of_its_own_goes_aside_whole(bridge, redis, hub, database, make_php_peer, serializer):
    bridge.settings["transport:async"]["serializer"] = serializer
    bridge.settings["worker"]["prefetch_bytes"] = "1M"
    for words in ENTRIES:
        xadd(redis, words)
    bridge.run_program("worker")
    redis.wait_drained()
    rows = database.failures()
    assert len(rows) == len(ENTRIES)
    peer = make_php_peer(serializer=serializer)
    assert peer.run("messenger:failed:show").stdout.count("App\\Message\\MqttMessage") == len(ENTRIES)
    assert database.failures() == rows, "looking at them deletes nothing"
    assert [read_fields(peer, row) for row in rows] == ENTRIES


@pytest.mark.parametrize("left_by", ["here-1", "of-php", "dead-1"], ids=["ours", "a stranger", "a dead one of ours"])
def test_an_entry_that_is_delivered_again_goes_aside_whole(bridge, redis, hub, database, php_peer, left_by):
    """Read as what the own name, an idle stranger or a dead consumer had pending."""
    bridge.settings["supervisor"]["instance"] = "here"
    bridge.settings["transport:async"]["dsn"] = redis.dsn(redeliver_timeout=3, claim_interval=100)
    for words in ENTRIES[:4]:
        xadd(redis, words)
    redis.client.xgroup_create("messages", "symfony", "0")
    redis.client.xreadgroup("symfony", left_by, {"messages": ">"}, count=10)
    if left_by == "dead-1":
        redis.client.sadd("{messages}__consumers:symfony", left_by)
    bridge.run_program("worker")
    redis.wait_drained()
    assert [read_fields(php_peer, row) for row in database.failures()] == ENTRIES[:4]


@pytest.mark.parametrize("by", ["hand", "failed retry"])
def test_an_entry_that_is_put_back_is_the_same(bridge, redis, hub, database, php_peer, by):
    """The recipes of docs/WIRE.md."""
    xadd(redis, ENTRIES[1])
    bridge.run_program("worker")
    row, = wait_until(lambda: database.failures(), 20, "it goes aside")
    if by == "hand":
        xadd(redis, read_fields(php_peer, row))
    else:
        bridge.cli("failed", "retry", row["id"])
    again, = wait_until(lambda: [other for other in database.failures() if other["id"] != row["id"]], 20,
                        "it goes aside again")
    assert read_fields(php_peer, again) == ENTRIES[1]


@pytest.mark.parametrize("headers", [[], [b"headers", b"[]"], [b"headers", b'{"trace":"7"}', b"more", b"x"]])
def test_an_entry_of_body_and_headers_is_published(bridge, redis, sse, headers):
    xadd(redis, [b"body", BODY.encode(), *headers])
    bridge.run_program("worker")
    assert sse.wait_topic("a/b", 20).payload == {"x": 1}
    redis.wait_drained()


def test_body_and_headers_of_a_json_serializer_are_published(bridge, redis, sse):
    xadd(redis, [b"headers", rb'{"type":"App\\Message\\MqttMessage"}', b"body", b'{"topic":"a/b","payload":"21.5"}'])
    bridge.run_program("worker")
    assert sse.wait_topic("a/b", 20).payload == 21.5
    redis.wait_drained()


def test_a_body_that_fails_is_retried_and_goes_aside_as_an_envelope(bridge, redis, hub, database, php_peer, makers):
    bridge.settings["mercure"]["url"] = choking_proxy(makers, hub, 418).start().url
    bridge.settings["retry"] = {"max_retries": 1, "delay": "50ms", "jitter": 0}
    body = json.loads(php_value("a/b", "choke").split(b'"', 1)[1].rsplit(b'"', 1)[0])["body"]
    xadd(redis, [b"body", body.encode(), b"headers", b'{"trace":"7"}'])
    worker = bridge.run_program("worker")
    row, = wait_until(lambda: database.failures(), 20, "the row")
    redis.wait_drained()
    assert worker.log().count("Retry 1 of 1") == 1
    assert re.search(r'"trace":"7"', row["headers"])
    php_peer.run("messenger:failed:retry", row["id"], "--force")
    assert php_peer.handled() == [{"topic": "a/b", "payload": b"choke"}]
