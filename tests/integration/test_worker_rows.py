"""The rows that the worker writes into the failure transport: one for each entry that can't be handled."""

import re
import time

import pytest
from bridge import wait_until
from bridge.entries import failed_rows, json_value, php_value

REFUSED_TOPIC = "devices/.well-known/mercure/x"  # the hub answers 403 to it, whoever asks


def names(rows):
    """What the rows say of their entries."""
    return [re.search(r'"X-Mqtt-Entry":"([^"]*)"', row["headers"]).group(1) for row in rows]


def now_id():
    return f"{time.time_ns() // 1_000_000}-0"


def put(redis, stream, entry, value):
    redis.client.xadd(stream, {"message": value}, id=entry)


@pytest.mark.parametrize("values", [
    (php_value(REFUSED_TOPIC, "of async"), php_value(REFUSED_TOPIC, "of low")),
    (php_value(REFUSED_TOPIC, "the same"), php_value(REFUSED_TOPIC, "the same")),
    (json_value(REFUSED_TOPIC, "the same"), json_value(REFUSED_TOPIC, "the same")),
    (b"garbage", b"garbage"),
], ids=["of two values", "of one value", "json", "undecodable"])
def test_entries_of_two_streams_that_share_an_id_have_a_row_each(bridge, redis, hub, database, values):
    bridge.settings["transport:low"] = {"dsn": redis.dsn("/low")}
    bridge.settings["worker"]["transports"] = "async low"
    entry = now_id()
    for stream, value in zip(("messages", "low"), values):
        put(redis, stream, entry, value)
    bridge.run_program("worker")
    wait_until(lambda: not redis.client.xlen("messages") and not redis.client.xlen("low"), 30, "both have left")
    found = names(failed_rows(database))
    assert len(set(found)) == 2 and all(name.startswith(f"{entry}-") for name in found), found


def test_entries_of_two_servers_that_share_stream_and_id_have_a_row_each(make_bridge, make_redis, hub, database):
    entry = now_id()
    servers = [make_redis(), make_redis()]
    for number, server in enumerate(servers):
        put(server, "messages", entry, php_value(REFUSED_TOPIC, f"of server {number}"))
        make_bridge(redis=server, hub=hub, database=database).run_program("worker")
    for server in servers:
        server.wait_drained()
    assert len(set(names(failed_rows(database)))) == 2


def test_a_row_is_found_again_however_the_dsn_is_spelled(bridge, redis, hub, database):
    """Redis takes no acknowledgement: each worker finds the entries pending, and their rows written."""
    bridge.settings["supervisor"]["instance"] = "here"
    values = [php_value(REFUSED_TOPIC, "php"), json_value(REFUSED_TOPIC, "json"), b"garbage", b"\xff\x00", b""]
    for value in values:
        redis.client.xadd("messages", {"message": value})
    redis.client.xadd("messages", {"another field": "x"})
    redis.client.xgroup_create("messages", "symfony", "0")
    redis.client.execute_command("ACL", "SETUSER", "default", "-xack")
    bridge.settings["transport:async"]["dsn"] = redis.dsn(auto_setup="false")
    worker = bridge.run_program("worker")
    wait_until(lambda: len(failed_rows(database)) == 6, 30, "a row for each")
    worker.kill()
    rows = failed_rows(database)
    bridge.settings["transport:async"]["dsn"] = redis.dsn("", stream="messages", auto_setup="false").replace("127.0.0.1", "localhost")
    worker = bridge.run_program("worker")
    wait_until(lambda: worker.log().count("goes to the failure transport") == 12, 30, "it comes to all of them again")
    redis.client.execute_command("ACL", "SETUSER", "default", "+@all")
    redis.wait_drained()
    assert failed_rows(database) == rows
