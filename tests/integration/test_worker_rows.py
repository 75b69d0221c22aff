"""The rows that the worker writes into the failure transport: one for each entry that can't be handled."""

import json
import re
import time

import pytest
from bridge import wait_until
from bridge.entries import json_value, php_value
from bridge.hub import REFUSED_TOPIC


def names(rows):
    """The names of the entries in the headers of the rows."""
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
    found = names(database.failures())
    assert len(set(found)) == 2 and all(name.startswith(f"{entry}-") for name in found), found


def test_entries_of_two_servers_that_share_stream_and_id_have_a_row_each(make_bridge, make_redis, hub, database):
    entry = now_id()
    servers = [make_redis(), make_redis()]
    for number, server in enumerate(servers):
        put(server, "messages", entry, php_value(REFUSED_TOPIC, f"of server {number}"))
        make_bridge(redis=server, hub=hub, database=database).run_program("worker")
    for server in servers:
        server.wait_drained()
    assert len(set(names(database.failures()))) == 2


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
    wait_until(lambda: len(database.failures()) == 6, 30, "a row for each")
    worker.kill()
    rows = database.failures()
    bridge.settings["transport:async"]["dsn"] = redis.dsn("", stream="messages", auto_setup="false").replace("127.0.0.1", "localhost")
    worker = bridge.run_program("worker")
    wait_until(lambda: worker.log().count("goes to the failure transport") == 12, 30, "it comes to all of them again")
    redis.client.execute_command("ACL", "SETUSER", "default", "+@all")
    redis.wait_drained()
    assert database.failures() == rows


@pytest.mark.parametrize("value", [php_value, json_value])
def test_copies_of_one_message_have_one_row(make_bridge, redis, hub, database, value):
    """The broker sends again what it has not seen acknowledged; the identity tells the copies."""
    def put(number, payload):
        text = json.loads(value(REFUSED_TOPIC, payload).split(b'"', 1)[1].rsplit(b'"', 1)[0])
        text["headers"] = {**(text["headers"] or {}), "X-Mqtt-Id": f"{7:032x}-{number}"}
        redis.client.xadd("messages", {"message": json.dumps(text)})
    for copy in range(3):
        for number in range(1, 41):
            put(number, f"copy {copy}")
    for _ in range(2):
        make_bridge(redis=redis, hub=hub, database=database).run_program("worker")
    redis.wait_drained()
    found = [re.search(r'"X-Mqtt-Id":"([^"]*)"', row["headers"]).group(1) for row in database.failures()]
    assert sorted(found) == sorted(f"{7:032x}-{number}" for number in range(1, 41))


def test_messages_to_which_another_program_gives_one_id_have_a_row_each(bridge, redis, hub, database):
    for number in range(5):
        text = json.loads(php_value(REFUSED_TOPIC, f"value {number}").split(b'"', 1)[1].rsplit(b'"', 1)[0])
        text["headers"] = {**(text["headers"] or {}), "X-Mqtt-Id": "type"}
        redis.client.xadd("messages", {"message": json.dumps(text)})
    bridge.run_program("worker")
    redis.wait_drained()
    assert len(database.failures()) == 5


def poison_with(redis, *payloads):
    for payload in payloads:
        redis.client.xadd("messages", {"message": php_value(REFUSED_TOPIC, payload)})


def start_with_a_row(bridge, redis, make_postgres):
    """A worker that has written its first row to a PostgreSQL of its own; returns server, database and worker."""
    postgres = make_postgres()
    database = postgres.create_database()
    bridge.settings["failure"]["dsn"] = database.dsn
    poison_with(redis, "first")
    worker = bridge.run_program("worker")
    redis.wait_drained()
    return postgres, database, worker


def test_rows_go_into_a_database_that_lacks_their_characters(bridge, redis, hub, postgres):
    database = postgres.create_database("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    bridge.settings["failure"]["dsn"] = database.dsn
    poison_with(redis, "5 €", "1", "6 €", "2")
    bridge.run_program("worker")
    redis.wait_drained()
    assert len(database.failures()) == 4


def test_a_row_that_the_database_refuses_does_not_hold_up_the_others(bridge, redis, hub, database, sse):
    database.query("CREATE TABLE messenger_messages (id BIGSERIAL PRIMARY KEY, body TEXT CHECK (body NOT LIKE '%%bad%%'), "
                   "headers TEXT, queue_name TEXT, created_at TIMESTAMP, available_at TIMESTAMP, delivered_at TIMESTAMP)")
    poison_with(redis, "bad 1", "bad 2", *(f"good {number}" for number in range(20)))
    worker = bridge.run_program("worker")
    wait_until(lambda: len(database.failures()) == 20, 15, "all the others are written")
    poison_with(redis, "good, later")
    wait_until(lambda: len(database.failures()) == 21, 15, "the next as well")
    assert "takes messages again" not in worker.log()
    wait_until(lambda: redis.pending() == 2, 15, "written ones are acknowledged")
    database.query("ALTER TABLE messenger_messages DROP CONSTRAINT messenger_messages_body_check")
    redis.wait_drained()
    assert len(database.failures()) == 23


@pytest.mark.parametrize("end", ["stop", "freeze"])
def test_a_worker_ends_at_once_though_a_row_can_not_be_written(bridge, redis, hub, make_postgres, end):
    bridge.settings["supervisor"]["stop_timeout"] = "60s"  # half of it is more than stop() waits for
    postgres, database, worker = start_with_a_row(bridge, redis, make_postgres)
    getattr(postgres, end)()
    poison_with(redis, "poison")
    wait_until(lambda: worker.log().count("goes to the failure transport") == 2, 15, "its row is to be written")
    worker.stop()
    assert redis.pending() == 1 and not redis.client.keys("*owner*"), "the entry is pending, the lease is given back"
    postgres.thaw() if end == "freeze" else postgres.start()
    bridge.run_program("worker", name="successor")
    redis.wait_drained()
    assert len(database.failures()) == 2


def test_a_row_that_is_being_written_while_redis_is_lost_is_written_once(bridge, redis, hub, make_postgres):
    postgres, database, worker = start_with_a_row(bridge, redis, make_postgres)
    postgres.freeze()
    poison_with(redis, "second", "third")
    wait_until(lambda: worker.log().count("goes to the failure transport") == 3, 15, "their rows are to be written")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: worker.log().count("goes to the failure transport") == 5, 15, "they are read again")
    postgres.thaw()
    redis.wait_drained()
    assert len(database.failures()) == 3
    assert worker.stop() == 0
