"""The worker when one thing of many is wrong: it neither loses, nor doubles, nor stops what is well, nor
runs in circles."""

import signal
import socket

import pytest
from bridge import account_when_seen, wait_until
from bridge.entries import add, add_many, pend, php_value
from bridge.hub import REFUSED_TOPIC
from bridge.process import peak_bytes
from bridge.proxy import choking_proxy


def messages(count, topics=8, prefix="w"):
    return [(f"{prefix}/{number % topics}", f"message {number}") for number in range(count)]


def test_messages_that_the_hub_fails_on_cannot_stop_the_others(bridge, makers, redis, hub, sse, database):
    proxy = choking_proxy(makers, hub).start()
    bridge.settings["mercure"]["url"] = proxy.url
    bridge.settings["retry"] = {"max_retries": 0}
    add_many(redis, [("bad/1", "choke"), ("bad/2", "choke"), ("bad/3", "choke")])
    sent = messages(100, topics=20, prefix="good")
    add_many(redis, sent)
    bridge.run_program("worker")
    sse.wait_count(100, timeout=60)
    redis.wait_drained(60)
    account_when_seen(sent, sse).assert_exactly_once()
    assert len(database.failures()) == 3


def test_a_failure_store_that_is_away_holds_up_no_other_messages(bridge, redis, sse, make_postgres):
    postgres = make_postgres()
    database = postgres.create_database()
    bridge.settings["failure"]["dsn"] = database.dsn
    bridge.settings["supervisor"]["instance"] = "here"
    bridge.settings["transport:low"] = {"dsn": redis.dsn("/low")}
    bridge.settings["worker"]["transports"] = "async low"
    postgres.stop()
    pend(redis, [(REFUSED_TOPIC, "poison"), ("pending/x", "1"), ("pending/y", "2")])
    add_many(redis, [(REFUSED_TOPIC, f"poison {number}") for number in range(300)])
    add(redis, "new/x", "3")
    add(redis, "low/x", "4", stream="low")
    bridge.run_program("worker")
    for topic in ("pending/x", "pending/y", "new/x", "low/x"):
        sse.wait_topic(topic)
    wait_until(lambda: redis.pending() == 301, 10, lambda: f"{redis.pending()} are pending")
    postgres.start()
    redis.wait_drained()
    assert len(database.failures()) == 301


def test_a_redis_that_never_answers_holds_up_no_lower_transport(bridge, make_redis, redis, sse):
    other = make_redis()
    bridge.settings["transport:high"] = {"dsn": other.dsn(timeout=60)}
    bridge.settings["worker"]["transports"] = "high async"
    worker = bridge.run_program("worker")
    wait_until(lambda: "is ready" in worker.log(), 15, "the worker is ready")
    other.stop()
    wait_until(lambda: "Reading interrupted" in worker.log(), 15, "the log line")
    with socket.create_server(("127.0.0.1", other.port)) as silent:
        connection, _ = silent.accept()
        for number in range(3):
            add(redis, f"a/{number}", "x")
            sse.wait_topic(f"a/{number}")
        connection.close()


@pytest.mark.waits
def test_a_worker_that_slept_through_a_takeover_writes_no_second_row(make_bridge, redis, make_hub, database):
    hub = make_hub()
    bridges = [make_bridge(redis=redis, hub=hub, database=database, settings={"mercure": {"timeout": "60s"}})
               for _ in range(2)]
    sleeper = bridges[0].run_program("worker")
    wait_until(lambda: "is ready" in sleeper.log(), 15, "the worker is ready")
    hub.freeze()
    add(redis, REFUSED_TOPIC, "poison")
    wait_until(lambda: redis.pending() == 1, 15, "it is on its way to the hub")
    sleeper.send(signal.SIGSTOP)
    hub.thaw()
    successor = bridges[1].run_program("worker")
    rows = wait_until(lambda: database.failures(), 40, "the successor writes the row")
    sleeper.send(signal.SIGCONT)
    wait_until(lambda: "the lease on our consumer name has ended" in sleeper.log() or
               "goes to the failure transport" in sleeper.log(), 20, "the sleeper is awake")
    redis.wait_drained()
    sleeper.stop()
    successor.stop()
    assert database.failures() == rows


@pytest.mark.waits
def test_two_hosts_with_one_instance_id_do_not_take_turns(make_bridge, redis, hub, database, sse):
    settings = {"supervisor": {"instance": "same"}}
    bridges = [make_bridge(redis=redis, hub=hub, database=database, settings=settings) for _ in range(2)]
    first = bridges[0].run_program("worker")
    wait_until(lambda: "is ready" in first.log(), 15, "the first is ready")
    second = bridges[1].run_program("worker")
    wait_until(lambda: "must not share an instance id" in first.log(), 25, "the first says what is wrong")
    add(redis, "a/x", "1")
    sse.wait_topic("a/x")
    assert second.log().count("the lease on our consumer name has ended") == 0


def test_the_limit_option_counts_pending_entries_too(bridge, redis, sse):
    bridge.settings["supervisor"]["instance"] = "here"
    bridge.settings["worker"]["options"] = "--limit=10"
    pend(redis, messages(30))
    process = bridge.run_program("worker")
    assert process.wait(20) == 75
    assert redis.client.xlen("messages") == 20
    assert len(sse.wait_count(10)) == 10


@pytest.mark.timeout(240)
def test_large_entries_do_not_fill_the_memory(bridge, redis, sse):
    payload = "x" * 4_000_000
    for number in range(100):
        redis.client.xadd("messages", {"message": php_value(f"large/{number}", payload)})
    process = bridge.run_program("worker")
    sse.wait_count(100, timeout=200)
    assert peak_bytes(process) < 900_000 * 1024  # all of them at once would take more than twice that
    redis.wait_drained()


@pytest.mark.parametrize("command", ["xack", "xdel", "xreadgroup", "xpending", "xrange", "xclaim", "zadd", "zrem",
                                     "zrangebyscore", "zrange", "smembers", "xadd", "evalsha"])
def test_a_command_that_redis_refuses_is_logged_and_loses_nothing(bridge, redis, sse, database, command):
    bridge.settings["supervisor"]["instance"] = "here"
    bridge.settings["retry"] = {"max_retries": 1, "delay": "100ms"}
    sent = [*messages(5, prefix="pending"), *messages(5, prefix="new"), ("delayed/x", "late")]
    pend(redis, sent[:5])
    add_many(redis, sent[5:10])
    late = php_value(*sent[10]).split(b'"', 1)[1][:-2]
    redis.client.zadd("messages__queue", {late[:-1] + b',"uniqid":"abc"}': 1000})
    client = redis.client
    client.execute_command("ACL", "SETUSER", "default", f"-{command}")
    process = bridge.run_program("worker")
    wait_until(lambda: "NOPERM" in process.log() or "can't run this command" in process.log() or command == "zadd",
               15, "the refusal is logged")
    before = client.info("stats")["total_commands_processed"]
    wait_until(lambda: client.info("stats")["total_commands_processed"] - before > 40, 20, "a few more commands")
    lines = process.log().count("\n")
    assert lines < 60, "it says so, and not again and again"
    client.execute_command("ACL", "SETUSER", "default", "+@all")
    redis.wait_drained(40)
    account_when_seen(sent, sse).assert_nothing_lost()
    assert database.failures() == []


def test_a_redis_that_is_full_can_be_emptied(bridge, makers, redis, hub, sse, database):
    """What Redis refuses for want of memory is what would add to it, not what takes away."""
    proxy = choking_proxy(makers, hub, 418).start()
    bridge.settings["mercure"]["url"] = proxy.url
    bridge.settings["retry"] = {"max_retries": 1, "delay": "100ms"}
    sent = [*messages(300), ("delayed/x", "late")]
    add(redis, "bad/1", "choke")
    add_many(redis, sent[:300])
    late = php_value(*sent[300]).split(b'"', 1)[1][:-2]
    redis.client.zadd("messages__queue", {late[:-1] + b',"uniqid":"abc"}': 1000})
    redis.client.config_set("maxmemory", "1")
    process = bridge.run_program("worker")
    redis.wait_drained()
    account_when_seen(sent, sse).assert_exactly_once()
    assert len(database.failures()) == 1
    assert process.log().count("Retry ") == 1
    refusals = [line for line in process.log().splitlines() if "OOM" in line]
    assert refusals and all("refuses last values" in line for line in refusals)
