"""mqtt-bridge failed over a failure transport in Redis: the same calls, the same promises, no table."""

import json
import re

import pytest
from bridge import wait_until
from bridge.entries import php_value, stored
from bridge.failures import json_row, listed, numbered, php_row, refuses, sent, start_cli
from bridge.hub import REFUSED_TOPIC
from bridge.monitor import request, start_monitor

PATIENCE = 30.0
MS = 1_764_000_000_000  # 2025-11-24T16:00:00Z


@pytest.fixture
def bridge(make_bridge, redis):
    bridge = make_bridge(redis=redis)
    bridge.settings["failure"]["dsn"] = redis.dsn("/failed")
    return bridge


def add(redis, rows, ms=MS):
    """rows: (body, headers) pairs, one a second. Returns their ids."""
    pipeline = redis.client.pipeline()
    for number, (body, headers) in enumerate(rows):
        pipeline.xadd("failed", {"message": stored(body, json.loads(headers))}, id=f"{ms + 1000 * number}-0")
    return [entry.decode() for entry in pipeline.execute()]


def read(redis, consumer, count):
    """Reads from the failure stream as `messenger:consume failed` does."""
    if not redis.client.exists("failed") or not redis.client.xinfo_groups("failed"):
        redis.client.xgroup_create("failed", "symfony", "0", mkstream=True)
    (_, entries), = redis.client.xreadgroup("symfony", consumer, {"failed": ">"}, count=count)
    return [entry.decode() for entry, _ in entries]


def run_worker(bridge, hub, redis):
    bridge.settings["mercure"] |= {"url": hub.url, "jwt_secret": hub.publisher_key}
    worker = bridge.run_program("worker")
    redis.wait_drained(PATIENCE)
    worker.stop()


def test_without_a_stream_there_are_no_failed_messages(bridge, redis):
    assert bridge.cli("failed").stdout == "there are no failed messages\n"
    assert json.loads(bridge.cli("failed", "stats", "--json").stdout)["total"] == 0
    assert "0 messages dispatched" in bridge.cli("failed", "retry", "--all", "-y").stdout
    assert redis.client.keys("failed*") == []


def test_the_newest_come_first_and_filters_leave_what_they_name(bridge, redis):
    first, _, third, last = add(redis, [php_row("a/b/1", "1"), json_row("a/b/2", "1", error="no \u00e9"),
                                        php_row(None, None, message=("App\\Mail", {"to": "x"})), ("garbage", "[]")])

    def topics(*options):
        return [row["topic"] for row in listed(bridge, *options)]
    assert [row["id"] for row in listed(bridge)][::3] == [last, first]
    assert topics() == [None, None, "a/b/2", "a/b/1"]
    assert topics("--topic", "a/#") == ["a/b/2", "a/b/1"] and topics("--class-filter", "App\\Mail") == [None]
    assert topics("--limit", "3") == [None, None, "a/b/2"]
    assert topics("--since", "2025-11-24T16:00:01", "--until", "2025-11-24T16:00:03") == [None, "a/b/2"]
    assert listed(bridge, "--topic", "+/b/2")[0] | {"id": ""} == {
        "id": "", "topic": "a/b/2", "class": "App\\Message\\MqttMessage", "error": "no \u00e9",
        "errorClass": "RuntimeException", "failedAt": "2025-11-24T16:00:01.000000Z", "transport": "async", "taken": False}
    head, *lines = bridge.cli("failed").stdout.splitlines()
    assert {line.index("2025-") for line in lines} == {head.index("WHEN")} and lines[0].startswith(last)
    stats = json.loads(bridge.cli("failed", "stats", "--json", "--until", "2025-11-24T16:00:02").stdout)
    assert stats["total"] == 2 and stats["topics"] == [{"name": "a/b/1", "count": 1}, {"name": "a/b/2", "count": 1}]
    assert "RedeliveryStamp" in bridge.cli("failed", "show", first).stdout
    assert "garbage" in bridge.cli("failed", "show", last).stdout
    assert "there is no such" in refuses(bridge, "show", third.replace("-0", "-7"))
    for wrong in ("7", "x", "0" + first):
        assert "is no message's id" in refuses(bridge, "show", wrong, code=2)


def test_many_and_large_failures_are_read_in_pages(bridge, redis):
    """Two fill more than a page's bytes, the others more than its entries."""
    large = [php_row(f"large/{number}", "x" * 9_000_000) for number in range(2)]
    ids = add(redis, [*(php_row(f"t/{number}", "1") for number in range(300)), *large, php_row("last", "1")])
    assert [row["id"] for row in listed(bridge, "--limit", "0")] == ids[::-1]


def test_the_monitor_lists_the_newest_100_failures(bridge, redis, hub):
    bridge.settings["mercure"] |= {"url": hub.url, "jwt_secret": hub.publisher_key}
    add(redis, [*(php_row(f"t/{number}", "1") for number in range(101)), php_row("large", "x" * 300_000)])
    start_monitor(bridge)
    wait_until(lambda: request(bridge, "/failures").status == 200, PATIENCE, "they are read")
    document = request(bridge, "/failures").json
    assert len(document["messages"]) == 100 and document["more"] is True
    assert "failed show" in document["messages"][0]["error"] and document["messages"][1]["topic"] == "t/100"


def test_a_retried_message_that_fails_again_is_kept_beside_its_old_entry(bridge, redis, make_redis, hub):
    """The new failure has the same identity as the entry that it was retried from."""
    failures = make_redis()
    bridge.settings["failure"]["dsn"] = failures.dsn("/failed")
    headers = {"X-Mqtt-Id": f"{7:032x}-1"}
    redis.client.xadd("messages", {"message": php_value(REFUSED_TOPIC, "poison", headers)})
    run_worker(bridge, hub, redis)
    for _ in range(2):
        (entry, _), = failures.client.xrange("failed")
        failures.client.execute_command("ACL", "SETUSER", "default", "-xdel")
        assert "none is sent twice" in refuses(bridge, "retry", entry.decode())
        assert redis.client.xlen("messages") == 1
        run_worker(bridge, hub, redis)
        assert failures.client.xlen("failed") == 2, "it has failed again"
        failures.client.execute_command("ACL", "SETUSER", "default", "+@all")
        answer = json.loads(bridge.cli("failed", "retry", entry.decode(), "--json").stdout)
        assert (answer["dispatched"], answer["dispatchedBefore"]) == (0, 1)
        assert redis.client.xlen("messages") == 0 and failures.client.xlen("failed") == 1


def test_a_retry_that_is_killed_sends_each_message_once_and_in_order(bridge, redis):
    add(redis, numbered(1500))
    for least in (300, 800):
        process = start_cli(bridge, "retry", "--all", "-y", "--rate", 500)
        wait_until(lambda: redis.client.xlen("messages") >= least, PATIENCE, "it is under way", every=0.001)
        process.kill()
        process.communicate()
    assert 0 < redis.client.xlen("failed") < 1500
    bridge.cli("failed", "retry", "--all", "-y", timeout=60)
    assert redis.client.xlen("failed") == 0
    numbers = sent(redis)
    assert sorted(numbers) == list(range(1500))
    for topic in (0, 1):
        mine = [number for number in numbers if number % 2 == topic]
        assert mine == sorted(mine), "a topic's messages are in their order"


def test_two_operators_never_send_one_message_twice(bridge, redis):
    add(redis, numbered(1500))
    both = [start_cli(bridge, "retry", "--all", "-y", "--json") for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sorted(sent(redis)) == list(range(1500)) and redis.client.xlen("failed") == 0
    assert sum(answer["dispatched"] for answer in answers) == 1500


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_an_entry_with_fields_of_its_own_goes_back_as_it_was(bridge, redis, hub, serializer):
    bridge.settings["transport:async"]["serializer"] = serializer
    fields = {b"device": b"probe-7", b"temp": b"21.5", b"raw": b"\xff\x00"}
    redis.client.xadd("messages", fields)
    redis.client.xadd("messages", {"message": b'a:2:{i:0;s:1:"x";i:1;s:1:"y";}'})
    run_worker(bridge, hub, redis)
    assert redis.client.xlen("failed") == 2 and redis.client.xlen("messages") == 0
    assert "2 messages dispatched" in bridge.cli("failed", "retry", "--all", "-y").stdout
    assert [entry for _, entry in redis.client.xrange("messages")] == [
        fields, {b"message": b'a:2:{i:0;s:1:"x";i:1;s:1:"y";}'}]


def test_entries_pending_at_a_php_worker_need_the_option_taken(bridge, redis):
    ids = add(redis, [php_row(f"t/{number}", "1") for number in range(3)])
    assert read(redis, "php", 2) == ids[:2]
    redis.client.execute_command("XCLAIM", "failed", "symfony", "dead", 0, ids[1], "IDLE", 90_000_000)
    assert [row["taken"] for row in listed(bridge)] == [False, False, True], "a day is enough"
    assert "1 left to PHP workers" in bridge.cli("failed", "retry", "--all", "-y").stdout
    assert "--taken" in refuses(bridge, "remove", ids[0])
    assert redis.client.xlen("messages") == 2 and redis.client.xlen("failed") == 1
    bridge.cli("failed", "retry", ids[0], "--taken")
    assert redis.client.xlen("messages") == 3 and redis.is_drained("failed")


@pytest.mark.parametrize("options", [{}, {"delete_after_ack": 0}], ids=["deleting", "keeping"])
def test_acknowledged_entries_left_in_the_stream_are_not_retried(bridge, redis, options):
    """Symfony 5.4 keeps acknowledged entries unless its DSN says otherwise, whatever ours says; and any version keeps
    one that is killed between XACK and XDEL."""
    bridge.settings["failure"]["dsn"] = redis.dsn("/failed", **options)
    ids = add(redis, [php_row(f"t/{number}", "1") for number in range(4)])
    read(redis, "php", 2)
    redis.client.xack("failed", "symfony", ids[0])
    assert [(row["id"], row["taken"]) for row in listed(bridge)] == [(ids[3], False), (ids[2], False), (ids[1], True)]
    assert "there is no such" in refuses(bridge, "retry", ids[0])
    assert "2 messages dispatched" in bridge.cli("failed", "retry", "--all", "-y").stdout
    assert [entry.decode() for entry, _ in redis.client.xrange("failed")] == ids[:2]


def test_a_user_who_may_not_ask_about_groups_still_lists_and_sends(bridge, redis):
    add(redis, [php_row(f"t/{number}", "1") for number in range(2)])
    read(redis, "php", 1)
    redis.client.execute_command("ACL", "SETUSER", "default", "-xinfo")
    assert [row["taken"] for row in listed(bridge)] == [False, True]
    assert "1 message dispatched" in bridge.cli("failed", "retry", "--all", "-y").stdout


def test_remove_takes_away_what_is_named_and_no_more(bridge, redis):
    ids = add(redis, [php_row("a/1", "1"), php_row("b", "2"), php_row("a/2", "3"), php_row("b", "4")])
    assert bridge.cli("failed", "remove", ids[1], ids[1]).stdout == "1 message removed\n"
    assert json.loads(bridge.cli("failed", "remove", "--all", "-y", "--topic", "a/+", "--json").stdout) == {
        "removed": 2, "inHand": 0, "errors": []}
    assert [row["id"] for row in listed(bridge)] == ids[3:] and redis.client.xlen("messages") == 0


def test_concurrent_removals_each_count_only_their_own(bridge, redis):
    add(redis, numbered(3000))
    both = [start_cli(bridge, "remove", "--all", "-y", "--json") for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sum(answer["removed"] for answer in answers) == 3000, answers
    assert redis.client.xlen("failed") == 0


@pytest.mark.parametrize("until", ["1970-01-01", "1970-01-01T00:00+02:00"])
def test_remove_until_1970_or_earlier_removes_nothing(bridge, redis, until):
    add(redis, [php_row("a", "1")])
    assert bridge.cli("failed", "remove", "--all", "-y", "--until", until).stdout == "0 messages removed\n"
    assert redis.client.xlen("failed") == 1


def test_a_redis_that_refuses_or_is_away_is_in_the_error(bridge, redis, make_redis):
    failures = make_redis()
    bridge.settings["failure"]["dsn"] = failures.dsn("/failed")
    failures.client.set("failed", "no stream")
    for arguments in (["list"], ["stats"], ["retry", "--all", "-y"]):
        assert "WRONGTYPE" in refuses(bridge, *arguments)
    failures.stop()
    assert re.search(rf"redis://127\.0\.0\.1:{failures.port}.*refused", refuses(bridge, "list"))
