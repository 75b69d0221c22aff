"""mqtt-bridge failed: an operator lists, shows, retries and removes what failed, without PHP."""

import json
import os
import pty
import subprocess
import threading
import time
from pathlib import Path

import pytest
from bridge import wait_until
from bridge.entries import entries, php_value
from bridge.failures import (add_rows, json_row, listed, make_table, number_of, numbered, php_row, refuses, sent,
                             start_cli)
from bridge.hub import REFUSED_TOPIC
from bridge.program import build_folder

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


@pytest.fixture
def bridge(make_bridge, redis, database):
    return make_bridge(redis=redis, database=database)


def test_without_a_table_there_are_no_failed_messages(bridge, database):
    assert bridge.cli("failed").stdout == "there are no failed messages\n"
    assert listed(bridge) == [] and not database.has_table()
    assert json.loads(bridge.cli("failed", "stats", "--json").stdout)["total"] == 0
    assert "0 messages dispatched" in bridge.cli("failed", "retry", "--all", "-y").stdout


def test_the_newest_come_first_with_topic_class_error_and_time(bridge, database):
    add_rows(database, [php_row("a/old", "1"), json_row("a/new", "2", error="no \u00e9")])
    new, old = listed(bridge)
    assert (old["topic"], new["topic"]) == ("a/old", "a/new")
    assert new["error"] == "no \u00e9" and old["error"] == "The hub answered 503"
    assert new["class"] == "App\\Message\\MqttMessage" and new["failedAt"] == "2026-11-24T10:00:00.000000Z"
    text = bridge.cli("failed", "list").stdout.splitlines()
    assert text[0].split() == ["ID", "WHEN", "(UTC)", "TOPIC", "CLASS", "ERROR"]
    assert "a/new" in text[1] and "2026-11-24 10:00:00" in text[1] and "no \u00e9" in text[1]
    assert "a/old" in text[2] and len(text) == 3


def test_the_list_is_lined_up_whatever_the_length_of_topics_and_classes(bridge, database):
    add_rows(database, [php_row("a", "1"), php_row("plant/\u00e9/" + "x" * 40, "1"),
                        php_row(None, None, message=("App\\Message\\" + "Y" * 30, {"to": "x"}))])
    head, *rows = bridge.cli("failed", "list").stdout.splitlines()
    assert len(rows) == 3
    assert {row.index("App\\") for row in rows} == {head.index("CLASS")}
    assert {row.index("The hub answered 503") for row in rows} == {head.index("ERROR")}
    add_rows(database, [php_row("t" * 200, "1")])
    head, longest, *rows = bridge.cli("failed", "list").stdout.splitlines()
    assert "t" * 200 + "  App" in longest and {row.index("App\\") for row in rows} == {head.index("CLASS")}


def test_a_long_list_is_cut_and_says_so(bridge, database):
    add_rows(database, [php_row(f"t/{number}", "1") for number in range(60)])
    lines = bridge.cli("failed", "list").stdout.splitlines()
    assert len(lines) == 52 and "--limit 0" in lines[-1] and "t/59" in lines[1]
    assert len(bridge.cli("failed", "list", "--limit=0").stdout.splitlines()) == 61
    assert [row["topic"] for row in listed(bridge, "--limit", "2")] == ["t/59", "t/58"]
    assert len(bridge.cli("failed", "list", "--topic", "t/+", "--limit", "60").stdout.splitlines()) == 61


def test_list_filters_by_topic_class_and_time(bridge, database):
    add_rows(database, [php_row("a/b/1", "1")], created_at="2026-11-20 10:00:00")
    add_rows(database, [json_row("a/b/2", "1"), php_row(None, None, message=("App\\Mail", {"to": "x"}))])
    add_rows(database, [php_row("c", "1")], created_at=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()))

    def topics(*options):
        return [row["topic"] for row in listed(bridge, *options)]
    assert topics() == ["c", None, "a/b/2", "a/b/1"]
    assert topics("--topic", "a/#") == ["a/b/2", "a/b/1"]
    assert topics("--topic", "+/b/1") == ["a/b/1"]
    assert topics("--class-filter", "App\\Mail") == [None]
    assert topics("--since", "1h") == ["c"]
    assert topics("--since=2026-11-24", "--until", "2026-11-24T10:00:01") == [None, "a/b/2"]
    assert topics("--until", "2026-11-24T10:00+00:00") == ["a/b/1"]


@pytest.mark.parametrize("version", ["5.4", "6.4", "7.4"])
@pytest.mark.parametrize("serializer", ["php", "json"])
def test_a_row_of_symfony_s_is_shown_and_sent_again(bridge, database, redis, version, serializer):
    folder = ROOT / "tests/vectors" / version / serializer
    row = [(folder / f"failed-after-retries.{part}").read_text() for part in ("body", "headers")]
    number, = add_rows(database, [row])
    bridge.settings["transport:async"]["serializer"] = serializer
    text = bridge.cli("failed", "show", number).stdout
    for part in ("sensors/room1/temp", "App\\Message\\MqttMessage", "The hub answered 503", "RuntimeException",
                 "async", '{"temp":21.5}', "13 bytes, JSON", "retryCount: 3", "redeliveredAt: 2026-11-24"):
        assert part in text, text
    shown = json.loads(bridge.cli("failed", "show", number, "--json").stdout)
    assert shown["payload"] == {"temp": 21.5} and shown["serializer"] == serializer
    assert [stamp["class"].rsplit("\\", 1)[1] for stamp in shown["stamps"]].count("RedeliveryStamp") == 4
    bridge.cli("failed", "retry", number)
    entry, = entries(redis)
    assert b"SentToFailureTransport" not in entry and b"sensors" in entry
    assert database.failures() == []


@pytest.mark.parametrize("payload, shown", [
    ('{"b":1.50}', "10 bytes, JSON)\n{\"b\":1.50}\n"), ("two\nlines", "text)\ntwo\nlines\n"), ("", "(0 bytes, empty)\n"),
    (b"\x00\xff\x1b[2J", "(6 bytes, binary)\n  00000000  00 ff 1b 5b 32 4a"), ("a\x1b]0;x", "1b 5d"), ("\u009b2J", "c2 9b")])
def test_a_payload_is_shown_the_way_it_came(bridge, database, payload, shown):
    number, = add_rows(database, [php_row("a", payload)])
    text = bridge.cli("failed", "show", number).stdout
    assert shown in text and "\x1b" not in text and "\u009b" not in text
    document = json.loads(bridge.cli("failed", "show", number, "--json").stdout)
    assert ("encoding" in document) == isinstance(payload, bytes)


def test_no_text_of_a_row_reaches_the_terminal_as_control(bridge, database):
    nasty = "\x1b]0;owned\x07\r\u009b2J\n"
    add_rows(database, [json_row(f"t{nasty}", "1", error=nasty, transport=nasty)])
    for arguments in (["list"], ["show", 1], ["stats"], ["retry", 1]):
        result = bridge.cli("failed", *arguments, check=False)
        for text in (result.stdout, result.stderr):
            assert not set(text) & set("\x1b\x07\r\u009b"), (arguments, text)
    assert "owned" in result.stderr and "[transport:" in result.stderr


def test_statistics_count_by_class_topic_error_and_hour(bridge, database):
    add_rows(database, [php_row("a", "1"), php_row("a", "2"), json_row("b", "3", error="x")])
    add_rows(database, [php_row("a", "1")], created_at="2026-11-24 09:59:59")
    stats = json.loads(bridge.cli("failed", "stats", "--json").stdout)
    assert stats["total"] == 4 and stats["topics"] == [{"name": "a", "count": 3}, {"name": "b", "count": 1}]
    assert stats["hours"] == [{"name": "2026-11-24 10", "count": 3}, {"name": "2026-11-24 09", "count": 1}]
    assert stats["classes"] == [{"name": "App\\Message\\MqttMessage", "count": 4}]
    assert stats["errors"][0] == {"name": "The hub answered 503", "count": 3}
    text = bridge.cli("failed", "stats", "--topic", "a").stdout
    assert text.startswith("3 failed messages\n") and "         3  a\n" in text


@pytest.mark.parametrize("arguments, part", [
    (["lst"], "did you mean `list`?"), (["show"], "one ID"), (["show", 1, 2], "one ID"),
    (["show", "x1"], "`x1` is no message's id"), (["show", "001"], "`001` is no message's id"),
    (["retry", "001"], "`001` is no message's id"), (["retry"], "say which"), (["retry", 1, "--all"], "say which"),
    (["retry", 1, "--topic", "a"], "go with --all"), (["remove", "1x"], "is a number"), (["list", 1], "takes no ID"),
    (["list", "--topic", "a/#/b"], "--topic"), (["list", "--topic", ""], "--topic"), (["list", "--since", "soon"], "`soon` is no time"),
    (["list", "--since", "1h", "--until", "2h"], "nothing lies between"), (["list", "--limit", "many"], "--limit"),
    (["retry", "--all", "--rate", "0"], "--rate"), (["list", "--rate", "5"], "no option `--rate`"),
    (["stats", "--all"], "no option `--all`"), (["retry", "--all", "-y", "--transport", "mail"], "no [transport:mail]"),
])
def test_a_bad_command_line_is_refused_with_the_remedy(bridge, arguments, part):
    text = refuses(bridge, *arguments, code=2)
    assert part in text and text.startswith("mqtt-bridge: ")


def test_an_unknown_id_is_named_and_nothing_is_done(bridge, database, redis):
    number, = add_rows(database, [php_row("a", "1")])
    for action in ("retry", "remove"):
        assert "77: there is no such failed message" in refuses(bridge, action, number, 77)
    assert "77: there is no such failed message" in refuses(bridge, "show", 77)
    assert len(database.failures()) == 1 and entries(redis) == []


def test_without_a_failure_transport_failed_names_database_url(make_bridge, redis):
    assert "DATABASE_URL" in refuses(make_bridge(redis=redis), "list", code=2)


def test_without_a_terminal_an_unconfirmed_action_is_refused(bridge, database, redis):
    add_rows(database, [php_row("a", "1")])
    for action in ("retry", "remove"):
        assert "1 messages, and nobody can be asked" in refuses(bridge, action, "--all", code=2)
    assert len(database.failures()) == 1 and entries(redis) == []


@pytest.mark.parametrize("answer, left", [("n\n", 3), ("y\n", 0)])
def test_retry_on_a_terminal_asks_and_draws_a_progress_bar(bridge, database, answer, left):
    add_rows(database, [php_row("a", "1")] * 3)
    bridge.write_config()
    here, terminal = pty.openpty()
    process = subprocess.Popen([build_folder() / "mqtt-bridge", "failed", "retry", "--all"], stdin=terminal,
                               stdout=terminal, stderr=terminal, env=bridge.environment())
    os.close(terminal)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(here, 1000)
    os.write(here, answer.encode())
    try:
        while chunk := os.read(here, 1000):
            seen += chunk
    except OSError:
        pass  # the terminal's end
    os.close(here)
    assert process.wait(20) == (0 if left == 0 else 1)
    assert b"retry 3 failed messages?" in seen and (b"[####" in seen) == (left == 0)
    assert len(database.failures()) == left


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_a_message_failed_by_php_is_published_by_us_after_a_retry(bridge, redis, database, hub, make_sse, make_php_peer,
                                                                  serializer):
    bridge.settings["transport:async"]["serializer"] = serializer
    sse = make_sse("*")
    peer = make_php_peer(serializer=serializer)
    peer.dispatch("poison/x", '{"a":1}')
    peer.consume(1)
    row, = database.failures()
    assert "1 message dispatched" in bridge.cli("failed", "retry", row["id"]).stdout
    bridge.settings["mercure"] |= {"url": hub.url, "jwt_secret": hub.publisher_key}
    bridge.run_program("worker")
    assert sse.wait_topic("poison/x", PATIENCE).payload == {"a": 1}
    assert database.failures() == []


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_a_retried_message_that_fails_in_php_again_is_stored_again(bridge, redis, database, make_php_peer, serializer):
    """Symfony never sends an envelope with SentToFailureTransportStamp to the failure transport."""
    bridge.settings["transport:async"]["serializer"] = serializer
    peer = make_php_peer(serializer=serializer, env={"RETRY_MAX": "1", "RETRY_DELAY": "1"})
    peer.dispatch("fail/x", "1")
    peer.consume(2)
    first, = database.failures()
    bridge.cli("failed", "retry", first["id"])
    assert database.failures() == []
    peer.consume(2)
    second, = database.failures()
    stamps = json.loads(bridge.cli("failed", "show", second["id"], "--json").stdout)["stamps"]
    counts = [stamp["properties"]["retryCount"] for stamp in stamps if stamp["class"].endswith("RedeliveryStamp")]
    assert counts == ["1", "0", "0", "1", "0"], "its retries were counted anew"


def test_a_message_failed_by_our_worker_is_handled_by_php_after_a_retry(bridge, redis, database, hub, make_php_peer):
    bridge.settings["mercure"] |= {"url": hub.url, "jwt_secret": hub.publisher_key}
    redis.client.xadd("messages", {"message": php_value(REFUSED_TOPIC, bytes(range(256)))})
    worker = bridge.run_program("worker")
    wait_until(lambda: database.failures(), PATIENCE, worker.log_tail)
    worker.stop()
    bridge.cli("failed", "retry", "--all", "-y")
    peer = make_php_peer()
    peer.consume(1)
    assert peer.handled() == [{"topic": REFUSED_TOPIC, "payload": bytes(range(256))}]


def test_an_entry_that_nobody_could_decode_goes_back_as_it_was(bridge, redis, database, hub):
    bridge.settings["mercure"] |= {"url": hub.url, "jwt_secret": hub.publisher_key}
    redis.client.xadd("messages", {"message": b"garbage \xff"})
    worker = bridge.run_program("worker")
    row, = wait_until(lambda: database.failures(), PATIENCE, worker.log_tail)
    worker.stop()
    assert "could not be decoded" in bridge.cli("failed", "show", row["id"]).stdout
    bridge.cli("failed", "retry", row["id"])
    assert entries(redis) == [b"garbage \xff"] and database.failures() == []


def test_an_unknown_transport_leaves_the_row_and_reports_the_remedy(bridge, database, redis):
    add_rows(database, [php_row("a", "1", transport="mail"), php_row("b", "2"), php_row("c", "3", transport=None),
                        ("garbage", "[]")])
    text = refuses(bridge, "retry", "--all", "-y")
    assert '1: it came from the transport "mail"' in text and "add [transport:mail]" in text
    assert "3: nothing in it says" in text and "4: it can't be read" in text
    assert len(entries(redis)) == 1, "the others go"
    assert [row["id"] for row in database.failures()] == [1, 3, 4]
    bridge.cli("failed", "retry", 1, 3, "--transport", "async")
    assert len(entries(redis)) == 3 and [row["id"] for row in database.failures()] == [4]
    assert "garbage" in bridge.cli("failed", "show", 4).stdout
    bridge.cli("failed", "remove", 4)
    assert database.failures() == []


def test_rows_taken_by_a_php_worker_need_the_option_taken(bridge, database, redis):
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    add_rows(database, [php_row("a", "1")], delivered_at=now)
    add_rows(database, [php_row("b", "2")], delivered_at="2026-01-01 00:00:00")
    assert "1 left to PHP workers" in bridge.cli("failed", "retry", "--all", "-y").stdout
    assert len(entries(redis)) == 1
    assert "--taken" in refuses(bridge, "remove", 1)
    assert listed(bridge)[0]["taken"] is True
    bridge.cli("failed", "retry", 1, "--taken")
    assert len(entries(redis)) == 2 and database.failures() == []


@pytest.mark.parametrize("time_type", ["TIMESTAMP(0) WITH TIME ZONE", "TIMESTAMP(6) WITHOUT TIME ZONE"])
def test_time_columns_may_have_a_zone_or_fractions(bridge, database, redis, time_type):
    make_table(database, time_type)
    add_rows(database, [php_row("a", "1")], created_at="2026-11-24 10:00:00+00")
    assert listed(bridge)[0]["failedAt"].startswith("2026-11-24T10:00:00")
    assert listed(bridge, "--since", "2026-11-24T10:00:01") == []
    bridge.cli("failed", "retry", "--all", "-y", "--until", "2026-11-24T10:00:01")
    assert len(entries(redis)) == 1 and database.failures() == []


def test_times_of_rows_are_of_the_zone_of_the_settings(bridge, database):
    bridge.settings["failure"]["timezone"] = "America/New_York"
    add_rows(database, [php_row("old", "1")], created_at="2026-01-20 10:00:00")
    add_rows(database, [php_row("new", "1")])
    database.query("UPDATE messenger_messages SET created_at = now() AT TIME ZONE 'America/New_York' WHERE id = 2")
    assert [each["topic"] for each in listed(bridge, "--since", "1h")] == ["new"]
    [old] = listed(bridge, "--until", "2026-02-01")
    assert old["failedAt"].startswith("2026-01-20T15:00:00")


def test_remove_takes_away_what_is_named_and_no_more(bridge, database, redis):
    add_rows(database, [php_row("a/1", "1"), php_row("b", "2"), php_row("a/2", "3"), php_row("b", "4")])
    assert bridge.cli("failed", "remove", 2).stdout == "1 message removed\n"
    assert json.loads(bridge.cli("failed", "remove", "--all", "-y", "--topic", "a/+", "--json").stdout) == {
        "removed": 2, "inHand": 0, "errors": []}
    assert [row["id"] for row in database.failures()] == [4] and entries(redis) == []


@pytest.mark.parametrize("until", ["1970-01-01", "1970-01-01T00:00+02:00"])
def test_remove_until_1970_or_earlier_removes_nothing(bridge, database, until):
    add_rows(database, [php_row("a", "1")])
    assert bridge.cli("failed", "remove", "--all", "-y", "--until", until).stdout == "0 messages removed\n"
    assert len(database.failures()) == 1


def test_a_redis_that_refuses_leaves_the_rows(bridge, database, redis):
    add_rows(database, [php_row("a", "1"), php_row("a", "2")])
    redis.client.set("messages", "no stream")
    text = refuses(bridge, "retry", "--all", "-y")
    assert "WRONGTYPE" in text and len(database.failures()) == 2
    told = json.loads(bridge.cli("failed", "retry", "--all", "-y", "--json", check=False).stdout)
    assert told["dispatched"] == 0 and "WRONGTYPE" in told["errors"][0]["error"] and told["errors"][0]["id"] is None
    redis.client.delete("messages")
    redis.stop()
    assert "redis://" in refuses(bridge, "retry", "--all", "-y") and len(database.failures()) == 2
    redis.start()
    bridge.cli("failed", "retry", "--all", "-y")
    assert len(entries(redis)) == 2


def in_order(numbers):
    return all(mine == sorted(mine) for mine in ([each for each in numbers if each % 2 == topic] for topic in (0, 1)))


def test_a_retry_pushes_nothing_out_of_a_bounded_stream(bridge, database, redis):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(stream_max_entries=100)
    add_rows(database, numbered(700))
    text = refuses(bridge, "retry", "--all", "-y")
    assert "the stream keeps 100 entries (`stream_max_entries`)" in text and "--limit" in text
    assert redis.client.xlen("messages") == 100 and len(database.failures()) == 600


def test_a_retry_waits_for_room_in_a_bounded_stream(bridge, database, redis):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(stream_max_entries=100)
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    add_rows(database, numbered(700))
    process = start_cli(bridge, "retry", "--all", "-y")
    handled = []
    while len(handled) < 700:
        found = redis.client.xreadgroup("symfony", "consumer", {"messages": ">"}, count=50, block=60_000)
        for entry, fields in found[0][1]:
            handled.append(number_of(fields[b"message"]))
            redis.client.xack("messages", "symfony", entry)
            redis.client.xdel("messages", entry)
    assert "700 messages dispatched\n" in process.communicate(timeout=PATIENCE)[0]
    assert sorted(handled) == list(range(700)) and in_order(handled) and database.failures() == []


def test_a_retry_keeps_its_order_while_redis_refuses_now_and_then(bridge, database, redis):
    """A batch is sent at once: messages behind a refused one must not be sent before it."""
    add_rows(database, numbered(1000))
    ended = threading.Event()

    def flap():
        for number in range(1_000_000):
            if ended.is_set():
                break
            redis.client.config_set("min-replicas-to-write", number % 2)
        redis.client.config_set("min-replicas-to-write", 0)
    thread = threading.Thread(target=flap)
    thread.start()
    try:
        for _ in range(20):
            if bridge.cli("failed", "retry", "--all", "-y", check=False).returncode == 0:
                break
    finally:
        ended.set()
        thread.join()
    bridge.cli("failed", "retry", "--all", "-y")
    numbers = sent(redis)
    assert sorted(numbers) == list(range(1000)) and in_order(numbers)


def test_a_database_that_is_away_is_in_the_error(bridge, redis, makers):
    bridge.settings["failure"]["dsn"] = "postgresql://app:secret@127.0.0.1:1/app"
    for arguments in (["list"], ["show", 1], ["stats"], ["retry", "--all", "-y"]):
        text = refuses(bridge, *arguments)
        assert "127.0.0.1:1" in text and "secret" not in text


def test_a_retry_that_is_killed_sends_each_message_once_and_in_order(bridge, database, redis):
    add_rows(database, numbered(3000))
    for least in (400, 1400):
        process = start_cli(bridge, "retry", "--all", "-y", "--rate", 1000)
        wait_until(lambda: redis.client.xlen("messages") >= least, PATIENCE, "it is under way", every=0.001)
        process.kill()
        process.communicate()
    assert 0 < len(database.failures()) < 3000
    result = bridge.cli("failed", "retry", "--all", "-y", "--rate", 4000, timeout=60)
    assert "dispatched" in result.stdout and database.failures() == []
    numbers = sent(redis)
    assert sorted(numbers) == list(range(3000))
    for topic in (0, 1):
        mine = [number for number in numbers if number % 2 == topic]
        assert mine == sorted(mine), "a topic's messages are in their order"


def test_two_operators_send_each_message_once_and_in_order(bridge, database, redis):
    add_rows(database, numbered(2000))
    both = [start_cli(bridge, "retry", "--all", "-y", "--json") for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    numbers = sent(redis)
    assert sorted(numbers) == list(range(2000)) and database.failures() == []
    assert in_order(numbers)
    assert sum(answer["dispatched"] for answer in answers) == 2000


def test_an_operator_who_holds_rows_is_named_to_the_next(bridge, database, redis):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(timeout=60, read_timeout=60)
    add_rows(database, numbered(10))
    redis.client.config_set("min-replicas-to-write", 1)
    first = start_cli(bridge, "retry", "--all", "-y")  # it waits for a replica
    holding = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = %s)"
    wait_until(lambda: database.query(holding, database.name), PATIENCE, "it has taken them")
    assert "another `failed retry`" in refuses(bridge, "remove", "--all", "-y")
    redis.client.config_set("min-replicas-to-write", 0)
    assert "10 messages dispatched" in first.communicate(timeout=PATIENCE)[0]


def test_ours_and_a_php_worker_share_the_failure_transport(bridge, database, redis, php_peer):
    php_peer.run("messenger:setup-transports")
    add_rows(database, [php_row(f"t/{number}", str(number)) for number in range(400)])
    php = php_peer.start_consumer("failed", "--time-limit=60")
    wait_until(lambda: len(php_peer.handled()) >= 5, PATIENCE, php.log_tail)
    bridge.cli("failed", "retry", "--all", "-y", "--rate", 400)
    wait_until(lambda: database.failures() == [], PATIENCE, "PHP ends what it has in hand")
    theirs = [int(message["payload"]) for message in php_peer.handled()]
    assert len(theirs) >= 5
    # The consumer reads the stream, too: what ours sent is among what it handled, or still there.
    wait_until(lambda: sorted(int(message["payload"]) for message in php_peer.handled()) == list(range(400)), PATIENCE,
               lambda: f"{len(php_peer.handled())} handled")


@pytest.fixture
def slow_delete(database):
    """A row's removal takes long: between sending and removing there is time for a kill."""
    def make():
        database.query("CREATE FUNCTION nap() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(60); RETURN OLD; END' "
                       "LANGUAGE plpgsql")
        database.query("CREATE TRIGGER nap BEFORE DELETE ON messenger_messages FOR EACH ROW EXECUTE FUNCTION nap()")

    def end():
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                       "AND pid <> pg_backend_pid() AND query LIKE '%%DELETE%%'")
        database.query("DROP TRIGGER nap ON messenger_messages")
    make.end = end
    return make


def test_a_message_that_fails_again_before_its_row_is_gone_is_kept(bridge, database, redis, hub, slow_delete):
    """The worker looks for a row of the same message: the one that goes must not count."""
    bridge.settings["mercure"] |= {"url": hub.url, "jwt_secret": hub.publisher_key}
    identity = {"X-Mqtt-Id": f"{'0123456789abcdef' * 2}-7"}
    first, = add_rows(database, [php_row(REFUSED_TOPIC, "1", headers=json.dumps(identity))])
    slow_delete()
    process = start_cli(bridge, "retry", first)
    wait_until(lambda: redis.client.xlen("messages") == 1, PATIENCE, "it is sent")
    worker = bridge.run_program("worker")
    wait_until(lambda: len(database.failures()) == 2, PATIENCE, worker.log_tail)
    redis.wait_drained(PATIENCE)
    worker.stop()
    process.kill()
    process.communicate()
    slow_delete.end()
    assert "had been dispatched before" in bridge.cli("failed", "retry", first).stdout
    second, = database.failures()
    assert redis.client.xlen("messages") == 0, "the first is not sent a second time"
    bridge.cli("failed", "retry", second["id"])
    assert redis.client.xlen("messages") == 1 and database.failures() == []


def test_a_changed_timezone_setting_sends_no_retry_twice(bridge, database, redis, slow_delete):
    first, = add_rows(database, [php_row("a", "1")])
    slow_delete()
    process = start_cli(bridge, "retry", first)
    wait_until(lambda: redis.client.xlen("messages") == 1, PATIENCE, "it is sent")
    process.kill()
    process.communicate()
    slow_delete.end()
    bridge.settings["failure"]["timezone"] = "America/New_York"
    bridge.write_config()
    assert "had been dispatched before" in bridge.cli("failed", "retry", first).stdout
    assert redis.client.xlen("messages") == 1 and database.failures() == []
