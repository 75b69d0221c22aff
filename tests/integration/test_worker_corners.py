"""The worker with settings, entries and servers at the edge of what they may be."""

import re
import time

import pytest
from bridge import account_when_seen, wait_until
from bridge.entries import add, add_many, json_value, php_value
from bridge.proxy import Proxy


def commands(redis):
    return redis.client.info("stats")["total_commands_processed"]


def test_a_claim_interval_of_0_keeps_redis_in_peace(bridge, redis, sse):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(claim_interval=0)
    worker = bridge.run_program("worker")
    wait_until(lambda: "is ready" in worker.log(), 15, "the worker is ready")
    before = commands(redis)
    time.sleep(2)
    assert commands(redis) - before < 200
    add(redis, "a/x", "1")
    sse.wait_topic("a/x")


def test_a_redeliver_timeout_of_0_takes_nothing_from_a_live_worker(make_bridge, redis, make_hub, database):
    hub = make_hub()
    bridges = [make_bridge(redis=redis, hub=hub, database=database) for _ in range(2)]
    for bridge in bridges:
        bridge.settings["transport:async"]["dsn"] = redis.dsn(redeliver_timeout=0, claim_interval=0)
        bridge.settings["mercure"]["timeout"] = "60s"
    hub.freeze()
    add_many(redis, [(f"a/{number}", "1") for number in range(10)])
    bridges[0].run_program("worker")
    wait_until(lambda: redis.pending() == 10, 15, "the first has them")
    second = bridges[1].run_program("worker")
    wait_until(lambda: "is ready" in second.log(), 15, "the second is ready")
    time.sleep(4)
    assert "Took over" not in second.log()
    hub.thaw()
    redis.wait_drained()


def test_a_transport_that_is_named_twice_is_refused(bridge):
    bridge.settings["worker"]["transports"] = "async async"
    worker = bridge.run_program("worker")
    assert worker.wait(15) == 2
    assert "[worker] transports: `async` and `async` are one queue" in worker.log()


def test_forgotten_scripts_cost_no_connection(bridge, redis, sse):
    worker = bridge.run_program("worker")
    add(redis, "a/x", "1")
    sse.wait_topic("a/x")
    for number in range(10):
        redis.client.script_flush()
        add(redis, f"b/{number}", "1")
        sse.wait_topic(f"b/{number}")
    redis.wait_drained()
    assert "Reading interrupted" not in worker.log()


def test_a_wrong_password_is_tried_seldom(bridge, make_redis):
    redis = make_redis(password="right")
    bridge.settings["transport:async"]["dsn"] = redis.dsn().replace("right", "wrong")
    worker = bridge.run_program("worker")
    wait_until(lambda: "WRONGPASS" in worker.log(), 15, "the log line")
    before = redis.client.info("stats")["total_connections_received"]
    time.sleep(3)
    assert redis.client.info("stats")["total_connections_received"] - before <= 1 + 2  # ours, and both of one try


@pytest.mark.parametrize("command", ["xdel", "xack"])
def test_reading_stops_at_the_prefetch_while_redis_refuses_acks(bridge, redis, sse, command):
    bridge.settings["worker"]["prefetch"] = 20
    bridge.settings["supervisor"]["instance"] = "here"
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    bridge.settings["transport:async"]["dsn"] = redis.dsn(auto_setup="false")
    redis.client.execute_command("ACL", "SETUSER", "default", f"-{command}")
    sent = [(f"t/{number}", f"message {number}") for number in range(100)]
    add_many(redis, sent)
    worker = bridge.run_program("worker")
    sse.wait_count(20)
    wait_until(lambda: "Redis refuses" in worker.log(), 15, "the log line")
    time.sleep(2)
    assert len(sse.events) == 20 == redis.pending()
    redis.client.execute_command("ACL", "SETUSER", "default", f"+{command}")
    redis.wait_drained()
    account_when_seen(sent, sse).assert_exactly_once()


def test_two_entries_of_one_id_are_two_updates(bridge, make_redis, redis, sse):
    other = make_redis()
    bridge.settings["transport:low"] = {"dsn": redis.dsn("/low")}
    bridge.settings["transport:far"] = {"dsn": other.dsn()}
    bridge.settings["worker"]["transports"] = "async low far"
    for number, (server, stream) in enumerate([(redis, "messages"), (redis, "low"), (other, "messages")]):
        server.client.xadd(stream, {"message": php_value("a/x", f"message {number // 2}")}, id="1795514400000-0")
    bridge.run_program("worker")
    events = sse.wait_count(3)
    assert len({event.id for event in events}) == 3
    assert all(event.document["id"].startswith("1795514400000-0-") for event in events)


@pytest.mark.parametrize("value", [php_value, json_value])
def test_a_retry_keeps_the_identity_of_another_programs_message(bridge, makers, redis, hub, sse, value):
    bridge.settings["retry"] = {"delay": "100ms", "multiplier": 1, "max_retries": 5, "jitter": 0}
    bridge.settings["mercure"]["url"] = makers.keep(Proxy(makers.new_folder("strange"), f"""
    @strange expression `{{http.request.body}}.contains("strange")`
    respond @strange 418
    reverse_proxy 127.0.0.1:{hub.port}
""")).start().url
    entry = redis.client.xadd("messages", {"message": value("a/x", "strange")}).decode()
    worker = bridge.run_program("worker")
    retries = wait_until(lambda: worker.log().count("Retry 5 of 5") and re.findall(r'"id":"([^"]*)"', worker.log()),
                         20, "it is retried")
    redis.wait_drained()
    assert set(retries) == {retries[0]} and retries[0].startswith(f"{entry}-"), retries
