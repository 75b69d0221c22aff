"""The failure transport in Redis: what the worker puts there, once each, and Symfony reads."""

import collections
import json
import re
import threading

import pytest
from bridge import wait_until
from bridge.entries import add_many, entries, json_value, php_value, string
from bridge.hub import REFUSED_TOPIC
from bridge.monitor import request, start_monitor
from bridge.proxy import choking_proxy
from drivers import BODY, REFUSED, UNREACHABLE, FailureDriver, build_driver, drivers_of


@pytest.fixture(scope="module")
def program():
    return build_driver("failure_driver")


class StreamDriver(FailureDriver):
    def write(self, body=BODY, headers="[]", dedupe_key="17-1", timeout=20.0, **options):
        return super().write(body, headers, dedupe_key, timeout=timeout, **options)


@pytest.fixture
def make_driver(program, folder):
    with drivers_of(StreamDriver, program, folder) as make:
        yield make


@pytest.fixture
def driver(make_driver, redis):
    return make_driver(redis.dsn("/failed"))


@pytest.fixture
def failing(bridge, redis, hub):
    """The bridge, with its failures in the stream `failed` of the same Redis."""
    bridge.settings["failure"]["dsn"] = redis.dsn("/failed")
    return bridge


def poisons(redis):
    """The numbers of the failed messages."""
    return sorted(int(re.search(rb"poison (\d+)", value)[1]) for value in entries(redis, "failed"))


def poison(redis, *numbers):
    add_many(redis, [(REFUSED_TOPIC, f"poison {number}") for number in numbers])


def test_an_entry_is_what_symfony_writes(driver, redis):
    assert driver.write() == (0, "")
    value, = entries(redis, "failed")
    text = b'{"body":"' + BODY.replace("\\", "\\\\").replace('"', '\\"').encode() + b'","headers":[]}'
    assert value == string(text)


def test_a_bare_entry_is_written_where_the_dsn_says_so(make_driver, redis):
    assert make_driver(redis.dsn("/failed", serializer=0)).write(headers='{"a":"\\u00e9"}') == (0, "")
    assert json.loads(entries(redis, "failed")[0]) == {"body": BODY, "headers": {"a": "\u00e9"}}


def test_an_entry_that_was_written_is_never_written_again(driver, redis):
    for _ in range(2):
        assert driver.write(dedupe_key="17-1") == (0, "")
    redis.client.xtrim("failed", 0)
    assert driver.write(dedupe_key="17-1") == (0, "")
    assert redis.client.xlen("failed") == 0, "nor when it was handled since"
    assert driver.write(dedupe_key="17-10") == (0, "")
    assert redis.client.xlen("failed") == 1


def test_a_copy_of_a_message_is_written_unless_it_is_still_there(driver, redis):
    assert driver.write(dedupe_key="17-1", identity="abc-1") == (0, "")
    assert driver.write(dedupe_key="17-2", identity="abc-1") == (0, "")
    assert redis.client.xlen("failed") == 1
    redis.client.xtrim("failed", 0)
    assert driver.write(dedupe_key="17-3", identity="abc-1") == (0, "")
    assert redis.client.xlen("failed") == 1, "it was retried and has failed again"
    marks = redis.client.keys("{failed}__failed:*")
    assert marks and all(redis.client.ttl(mark) > 600000 for mark in marks)


def test_concurrent_writes_of_one_entry_add_it_once(make_driver, redis):
    drivers = [make_driver(redis.dsn("/failed")) for _ in range(4)]
    for number in range(5):
        threads = [threading.Thread(target=driver.write, kwargs={"dedupe_key": f"17-{number}"}) for driver in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert redis.client.xlen("failed") == 5


@pytest.mark.parametrize("refusing", ["-set", "-xadd"])
def test_a_failure_write_denied_in_part_by_an_acl_writes_nothing(driver, redis, refusing):
    redis.client.execute_command("ACL", "SETUSER", "default", refusing)
    result, text = driver.write()
    assert result == REFUSED and re.search("permission|can't run", text), text
    redis.client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert redis.client.keys("*failed*") == []
    assert driver.write() == (0, "")
    assert redis.client.xlen("failed") == 1


def test_a_redis_that_is_full_refuses_for_the_time_being(driver, redis):
    redis.client.config_set("maxmemory", 1)
    assert driver.write()[0] == UNREACHABLE
    redis.client.config_set("maxmemory", 0)
    assert driver.write() == (0, "")
    assert redis.client.xlen("failed") == 1


def test_a_connection_that_was_cut_is_made_anew_at_once(driver, redis):
    assert driver.write(dedupe_key="17-1") == (0, "")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    assert driver.write(dedupe_key="17-2") == (0, "")
    redis.client.script_flush()
    assert driver.write(dedupe_key="17-3") == (0, "")
    assert redis.client.xlen("failed") == 3


def test_a_redis_that_is_away_or_frozen_is_given_up_and_used_again(make_driver, redis):
    redis.client.config_set("appendfsync", "always")  # a killed server keeps what it has acknowledged
    driver = make_driver(redis.dsn("/failed", timeout=1))
    assert driver.write(dedupe_key="17-1") == (0, "")
    redis.freeze()
    result, text = driver.write(dedupe_key="17-2")
    assert result == UNREACHABLE and "no answer in time" in text
    redis.thaw()
    assert driver.write(dedupe_key="17-2") == (0, "")
    redis.kill()
    result, text = driver.write(dedupe_key="17-3")
    assert result == UNREACHABLE and f"127.0.0.1:{redis.port}" in text
    redis.start()
    assert driver.write(dedupe_key="17-3") == (0, "")
    assert redis.client.xlen("failed") == 3


def test_count_adds_stream_entries_and_delayed_members(make_driver, redis):
    driver = make_driver(redis.dsn("/failed"))
    assert driver.count() == (0, 0, "")
    for number in range(3):
        driver.write(dedupe_key=f"17-{number}")
    redis.client.zadd("failed__queue", {"later": 1})
    assert driver.count() == (0, 4, "")


@pytest.mark.parametrize("options", [{}, {"delete_after_ack": 0}], ids=["deleting", "keeping"])
def test_acknowledged_entries_left_in_the_stream_are_not_counted(make_driver, redis, options):
    """Symfony 5.4 keeps acknowledged entries unless its DSN says otherwise, whatever ours says."""
    driver = make_driver(redis.dsn("/failed", **options))
    for number in range(3):
        driver.write(dedupe_key=f"17-{number}")
    assert driver.count() == (0, 3, "")
    redis.client.xgroup_create("failed", "symfony", "0")
    (_, read), = redis.client.xreadgroup("symfony", "php", {"failed": ">"}, count=2)
    redis.client.xack("failed", "symfony", read[0][0])
    assert driver.count() == (0, 2, "")


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_symfony_s_transport_reads_what_failed(failing, redis, make_php_peer, serializer):
    failing.settings["transport:async"]["serializer"] = serializer
    value = php_value if serializer == "php" else json_value
    redis.client.xadd("messages", {"message": value(REFUSED_TOPIC, "it's \"\u20ac\" \\ poison")})
    redis.client.xadd("messages", {"device": "probe-7"})
    failing.run_program("worker")
    redis.wait_drained()
    assert redis.client.xlen("failed") == 2
    peer = make_php_peer(serializer=serializer, env={"MESSENGER_FAILURE_TRANSPORT_DSN":
                                                     redis.dsn("/failed", delete_after_ack=1)})
    peer.run("messenger:consume", "failed", "--limit=2", "--time-limit=20", "-vv", timeout=40)
    assert sorted(peer.handled(), key=lambda message: message["topic"], reverse=True) == [
        {"topic": REFUSED_TOPIC, "payload": "it's \"\u20ac\" \\ poison".encode()},
        {"topic": "$undecodable", "payload": b'a:2:{i:0;s:6:"device";i:1;s:7:"probe-7";}'}]
    assert redis.is_drained("failed")


def test_a_message_that_fails_again_after_its_retry_is_kept_again(failing, redis):
    """The identity of the message passes through the failure transport with it."""
    headers = {"X-Mqtt-Id": f"{7:032x}-1"}
    redis.client.xadd("messages", {"message": php_value(REFUSED_TOPIC, "poison 1", headers)})
    failing.run_program("worker")
    for _ in range(3):
        wait_until(lambda: redis.client.xlen("failed") == 1, 20, "it has failed")
        redis.wait_drained()
        (entry, fields), = redis.client.xrange("failed")
        redis.client.xdel("failed", entry)
        redis.client.xadd("messages", fields)
    wait_until(lambda: redis.client.xlen("failed") == 1, 20, "it has failed again")


def test_copies_of_one_message_fail_once(make_bridge, redis, hub):
    for copy in range(3):
        for number in range(1, 21):
            headers = {"X-Mqtt-Id": f"{7:032x}-{number}"}
            redis.client.xadd("messages", {"message": php_value(REFUSED_TOPIC, f"poison {number} {copy}", headers)})
    for _ in range(2):
        bridge = make_bridge(redis=redis, hub=hub)
        bridge.settings["failure"]["dsn"] = redis.dsn("/failed")
        bridge.run_program("worker")
    redis.wait_drained()
    assert poisons(redis) == list(range(1, 21))


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_failure_redis_that_is_away_costs_no_message_and_no_retry(bridge, redis, make_redis, makers, hub, sse, how):
    failures = make_redis()
    bridge.settings["failure"]["dsn"] = failures.dsn("/failed", timeout=1)
    bridge.settings["mercure"]["url"] = choking_proxy(makers, hub, 403).start().url
    poison(redis, 0)
    worker = bridge.run_program("worker")
    redis.wait_drained()
    getattr(failures, how)()
    add_many(redis, [(f"good/{number}" if number % 2 else "bad/x", f"choke {number}" if number % 2 == 0 else f"{number}")
                     for number in range(1, 201)])
    sse.wait_count(100, timeout=40)
    wait_until(lambda: redis.pending() == 100, 20, lambda: f"{redis.pending()} are pending")
    wait_until(lambda: "The failure transport takes no messages" in worker.log(), 20, worker.log_tail)
    assert redis.client.zcard("messages__queue") == 0, "nothing is spent"
    failures.thaw() if how == "freeze" else failures.start()
    redis.wait_drained()
    found = collections.Counter(re.search(rb"choke (\d+)", value)[1] for value in entries(failures, "failed")[1:])
    assert set(found.values()) == {1} and len(found) == 100
    assert "The failure transport takes messages again" in worker.log()


def test_workers_killed_among_refused_messages_double_no_failure(failing, redis, sse, rng):
    failing.settings["supervisor"]["instance"] = "here"
    workers = [failing.run_program("worker")]
    count = 0
    for _ in range(6):
        numbers = range(count, count + 60)
        count += 60
        for number in numbers:
            poison(redis, number)
            add_many(redis, [(f"good/{number % 7}", f"{number}")])
        moment = rng.randint(0, 50)
        wait_until(lambda: redis.client.xlen("failed") >= numbers[0] + moment, 20, "it is at it")
        workers[-1].kill()
        workers.append(failing.run_program("worker", name=f"worker-{len(workers)}"))
    redis.wait_drained()
    assert poisons(redis) == list(range(count))


def test_a_failure_being_written_while_redis_is_lost_is_written_once(failing, redis, make_redis):
    failures = make_redis()
    failing.settings["failure"]["dsn"] = failures.dsn("/failed")
    poison(redis, 1)
    worker = failing.run_program("worker")
    redis.wait_drained()
    failures.freeze()
    poison(redis, 2, 3)
    wait_until(lambda: worker.log().count("goes to the failure transport") == 3, 15, "they are to be written")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: worker.log().count("goes to the failure transport") == 5, 15, "they are read again")
    failures.thaw()
    redis.wait_drained()
    assert poisons(failures) == [1, 2, 3]
    assert worker.stop() == 0


def test_the_monitor_counts_what_failed(failing, redis):
    poison(redis, *range(5))
    failing.run_program("worker")
    redis.wait_drained()
    start_monitor(failing)
    wait_until(lambda: request(failing, "/status").json["failure"] == {"queue": "failed", "messages": 5}, 15,
               lambda: request(failing, "/status").json["failure"])
    metrics = request(failing, "/metrics").text
    assert re.search(r'failure_transport_messages\{queue="failed"\} 5', metrics)


def test_the_environment_of_a_symfony_application_is_understood(make_bridge, redis, hub, database, folder):
    """MESSENGER_FAILURE_TRANSPORT_DSN as its .env has it, and the database of Doctrine's `default`."""
    bridge = make_bridge(redis=redis, hub=hub, env={
        "MESSENGER_FAILURE_TRANSPORT_DSN": "doctrine://default?queue_name=broken&table_name=other_messages",
        "DATABASE_URL": database.dsn})
    poison(redis, 1)
    bridge.run_program("worker")
    redis.wait_drained()
    assert len(database.failures("broken", "other_messages")) == 1


def test_setup_makes_the_stream_and_its_group(failing, redis):
    assert "failed" in failing.cli("setup").stdout
    assert [group["name"] for group in redis.client.xinfo_groups("failed")] == [b"symfony"]
