"""A Redis as providers run it, and one that refuses for a while: it works, waits or tells, and nothing is lost."""

import contextlib
import threading

import pytest
import redis as redis_py
from bridge import Process, wait_until
from bridge.consumer import numbered

RENAMED = [word for command in ("CONFIG", "CLIENT", "ROLE", "ACL", "DEBUG", "MONITOR", "SHUTDOWN", "FLUSHALL")
           for word in ("--rename-command", command, "")]


def test_a_redis_without_config_client_and_role_works(make_redis, make_bridge, mosquitto, hub, database, publisher, sse,
                                                      check):
    redis = make_redis(*RENAMED)
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=database)
    bridge.start()
    publisher.publish_all(numbered(500))
    sse.wait_count(500, 20)
    redis.wait_drained()
    assert '"appendonly":"yes","appendfsync":"not said","maxmemory_policy":"noeviction"' in bridge.log()
    assert check(redis.dsn()) == (True, "")


def test_check_says_that_redis_refuses_config_get_and_info(make_redis, check):
    redis = make_redis(*RENAMED, "--rename-command", "INFO", "")
    ok, text = check(redis.dsn())
    assert ok and text.startswith("Redis does not tell its settings (CONFIG GET and INFO are refused)")


def test_a_database_that_the_server_does_not_have_is_named(make_redis, check, make_consumer):
    redis = make_redis()
    ok, text = check(redis.dsn(dbindex=99))
    assert not ok and "DB index is out of range; see dbindex" in text
    consumer = make_consumer(store=redis)
    consumer.set("transport:async", dsn=redis.dsn(dbindex=99)).start()
    consumer.wait_log("DB index is out of range; see dbindex, this server has not so many databases")


@contextlib.contextmanager
def script_that_hangs(redis):
    redis.client.config_set("busy-reply-threshold", 50)
    thread = threading.Thread(target=hang, args=(redis,))
    thread.start()
    yield
    redis.client.execute_command("SCRIPT", "KILL")
    thread.join()


def hang(redis):
    try:
        redis_py.Redis(port=redis.port, socket_timeout=60).eval("while true do end", 0)
    except redis_py.ResponseError:
        pass


@contextlib.contextmanager
def replicas_missing(redis):
    redis.client.config_set("min-replicas-to-write", 1)
    yield
    redis.client.config_set("min-replicas-to-write", 0)


@contextlib.contextmanager
def primary_missing(redis):
    redis.client.config_set("replica-serve-stale-data", "no")
    redis.client.replicaof("127.0.0.1", 1)
    yield
    redis.client.replicaof("NO", "ONE")


@contextlib.contextmanager
def restarted_with_much_to_load(redis):
    """Redis loads its file key by key, as slowly as it is told to."""
    redis.client.mset({f"other:{number}": "x" * 4000 for number in range(300)})
    redis.client.bgrewriteaof()
    wait_until(lambda: not redis.client.info("persistence")["aof_rewrite_in_progress"], 10, "the file is compact")
    redis.stop()
    redis.arguments += ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"]
    Process.start(redis)  # a Server's waits until it answers
    yield


TROUBLES = {"BUSY": script_that_hangs, "NOREPLICAS": replicas_missing, "MASTERDOWN": primary_missing,
            "LOADING": restarted_with_much_to_load}


@pytest.mark.parametrize("words", TROUBLES)
def test_a_redis_that_refuses_for_a_while_loses_nothing(make_bridge, make_redis, mosquitto, hub, database, publisher, sse,
                                                        words):
    redis = make_redis()
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=database)
    bridge.start()
    sent = numbered(300)
    publisher.publish_all(sent[:100])
    sse.wait_count(100, 20)
    with TROUBLES[words](redis):
        publisher.publish_all(sent[100:200])
        wait_until(lambda: words in bridge.log(), 15, lambda: f"{words} is logged\n{bridge.supervisor.log_tail(30)}")
    publisher.publish_all(sent[200:])
    wait_until(lambda: len({event.id for event in sse.events}) >= 300, 30,
               lambda: f"all are handled; {len(sse)}\n{bridge.supervisor.log_tail(30)}")
    redis.wait_drained()
    assert not database.failures()
