"""Last values: what Redis keeps of each topic for a page that opens, and GET /latest."""

import http.client
import json
import time
from threading import Thread
from urllib.parse import quote

import pytest
from bridge import wait_until
from bridge.entries import add, add_many, php_value
from bridge.monitor import request, start_monitor

HASH = "{messages}__latest"
SPOOL = "00112233445566778899aabbccddeeff"


def kept(redis):
    """Topic to its document."""
    return {topic.decode(): json.loads(document) for topic, document in redis.client.hgetall(HASH).items()}


def values(redis):
    return {topic: document.get("payload") for topic, document in kept(redis).items()}


def add_numbered(redis, topic, numbers, spool=SPOOL, second=0):
    """As a consumer writes them, with the number as sequence and payload."""
    pipeline = redis.client.pipeline(transaction=False)
    for number in numbers:
        headers = {"X-Mqtt-Id": f"{spool}-{number}", "X-Mqtt-Received-At": f"2026-11-24T10:00:{second:02d}.000000Z"}
        pipeline.xadd("messages", {"message": php_value(topic, str(number), headers)})
    pipeline.execute()


def write(redis, documents):
    redis.client.hset(HASH, mapping=documents)


def document_of(topic, payload="1", number=1):
    return f'{{"id":"{SPOOL}-{number}","topic":{json.dumps(topic)},"payload":{payload}}}'


@pytest.fixture
def start(bridge):
    bridge.settings["retry"] = {"max_retries": 0}

    def start_worker(number=1, **route):
        if route:
            bridge.settings["route:all"] = {"match": "#", **route}
        return bridge.run_program("worker", "--slot", number)
    return start_worker


@pytest.mark.parametrize("publish", ["each", "latest", "batch"])
def test_the_newest_document_of_each_topic_is_kept(start, redis, sse, publish):
    add_many(redis, [(f"plant/{number % 7}", str(number)) for number in range(500)])
    start(publish=publish, window="100ms")
    redis.wait_drained()
    assert values(redis) == {f"plant/{number % 7}": number for number in range(493, 500)}
    published = [document for event in sse.caught_up() for document in
                 (event.document if publish == "batch" else [event.document])]
    documents = kept(redis).values()
    assert documents and all(document in published for document in documents), "just as it was published"


def test_two_workers_and_older_messages_that_come_late_leave_the_newest(start, redis, rng):
    start(1), start(2)
    numbers = list(range(1, 1001))
    for begin in range(0, 1000, 50):  # whole ones out of order, and each of them twice
        some = numbers[begin:begin + 50] * 2
        rng.shuffle(some)
        for topic in ("a", "b"):
            add_numbered(redis, topic, some)
    add_numbered(redis, "a", [999, 3, 998])
    redis.wait_drained()
    assert values(redis) == {"a": 1000, "b": 1000}
    # Of another spool the time decides.
    add_numbered(redis, "a", [7], "f" * 32, second=1)
    add_numbered(redis, "b", [5000], "e" * 32, second=0)
    redis.wait_drained()
    assert values(redis)["a"] == 7


def test_private_dropped_and_partial_routes_leave_no_last_value(bridge, start, redis):
    bridge.settings |= {"route:p": {"match": "private/#", "private": "yes"}, "route:d": {"match": "dropped", "drop": "yes"},
                        "route:b": {"match": "bare", "data": "payload"}, "route:f": {"match": "field", "data": "field:x"}}
    start()
    add_many(redis, [("private/a", "1"), ("dropped", "1"), ("bare", "1"), ("field", '{"x":1,"secret":2}'), ("shown", "1")])
    redis.wait_drained()
    assert values(redis) == {"shown": 1}


def test_updates_refused_by_the_hub_leave_no_last_value(start, redis, database):
    start()
    add(redis, "a", "1")
    add(redis, ".well-known/mercure/a", "1")
    add(redis, "/.well-known/mercure/a", "1")  # 403 for anybody
    redis.wait_drained()
    assert set(values(redis)) == {"a", ".well-known/mercure/a"}


def test_last_values_keep_at_most_the_configured_number_of_topics(bridge, start, redis):
    bridge.settings["page"] = {"last_values": 100}
    start()
    add_many(redis, [(f"t/{number}", str(number)) for number in range(2000)])
    redis.wait_drained()
    found = values(redis)
    assert len(found) == 100 and found["t/1999"] == 1999
    bridge.processes[-1].stop()
    bridge.settings["page"] = {"last_values": 0}
    start()
    wait_until(lambda: not redis.client.exists(HASH), 10, "with none wanted those that were are deleted")
    add(redis, "t/1", "1")
    redis.wait_drained()
    assert not redis.client.exists(HASH)


def test_long_payloads_are_kept_as_their_length(start, redis):
    start()
    add_many(redis, [("long", json.dumps("x" * 20000)), ("longer", "y" * 1000000), ("short", '"z"'), ("t" * 20000, "1")])
    redis.wait_drained()
    found = kept(redis)
    assert set(found) == {"long", "longer", "short"}
    assert (found["long"]["bytes"], found["longer"]["bytes"]) == (20002, 1000000) and "payload" not in found["long"]
    assert max(redis.client.hstrlen(HASH, topic) for topic in found) < 1000


@pytest.mark.parametrize("publish", ["each", "latest", "batch"])
def test_a_worker_that_is_killed_again_and_again_leaves_no_value_behind(bridge, start, redis, rng, publish):
    bridge.settings["supervisor"]["instance"] = "here"
    sent = 0
    for _ in range(6):
        worker = start(publish=publish, window="50ms")
        add_numbered(redis, "a", range(sent + 1, sent + 101))
        add_many(redis, [(f"t/{number}", str(sent + number)) for number in range(50)])
        sent += 100
        left = redis.client.xlen("messages") * rng.random()
        wait_until(lambda: redis.client.xlen("messages") <= left, 20, "some of it is done")
        worker.kill()
    start(publish=publish, window="50ms")
    redis.wait_drained(40)
    assert values(redis) == {"a": sent, **{f"t/{number}": sent - 100 + number for number in range(50)}}


def test_last_values_of_unacknowledged_entries_are_kept_over_a_restart(start, redis, hub):
    """Redis restarts from its append-only file while published entries are not acknowledged yet."""
    start()
    add(redis, "first", "1")
    redis.wait_drained()
    hub.freeze()
    add_many(redis, [(f"t/{number}", "1") for number in range(10)])
    wait_until(lambda: redis.client.xpending("messages", "symfony")["pending"] == 10, 10, "they are on their way")
    redis.freeze()
    hub.thaw()
    redis.kill()
    redis.start()
    redis.wait_drained(30)
    assert set(values(redis)) == {"first", *(f"t/{number}" for number in range(10))}


@pytest.mark.parametrize("refuse, allow", [
    (("ACL", "SETUSER", "default", "-hset"), ("ACL", "SETUSER", "default", "+hset")),
    (("ACL", "SETUSER", "default", "-hlen"), ("ACL", "SETUSER", "default", "+hlen")),
    (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    (("SET", HASH, "no hash"), ("DEL", HASH)),
], ids=["hset", "hlen", "memory", "type"])
def test_a_redis_that_refuses_values_holds_up_no_message(start, redis, sse, refuse, allow):
    worker = start()
    add(redis, "before", "1")
    redis.wait_drained()
    entries = [(f"t/{number}", str(number)) for number in range(300)]
    add_many(redis, entries[:150])
    redis.client.execute_command("DEL", HASH)
    redis.client.execute_command(*refuse)
    wait_until(lambda: redis.client.xlen("messages") == 0, 20, "they are acknowledged all the same")
    redis.client.execute_command(*allow)
    add_many(redis, entries[150:])
    redis.wait_drained()
    wait_until(lambda: set(values(redis)) >= {topic for topic, _ in entries[150:]}, 10, "values are kept again")
    sse.wait_count(301)
    refusals = worker.log().count("refuses last values")
    assert refusals <= 1
    if refusals:
        wait_until(lambda: "are kept again" in worker.log(), 10, worker.log_tail)


def read_all(bridge, query=""):
    """All parts of /latest."""
    messages, parts, cursor = [], [], ""
    while cursor is not None:
        parts.append(request(bridge, f"/latest?{query}{cursor}"))
        assert parts[-1].status == 200, parts[-1].text
        messages += parts[-1].json["messages"]
        cursor = parts[-1].json["cursor"] and f"&cursor={parts[-1].json['cursor']}"
    return messages, parts


def test_latest_gives_every_value_in_parts(bridge, redis):
    start_monitor(bridge)
    assert request(bridge, "/latest").json == {"cursor": None, "messages": []}
    topics = {f"site/{number}/é" for number in range(5000)}
    write(redis, {topic: document_of(topic, json.dumps("x" * 100)) for topic in topics})
    messages, parts = read_all(bridge)
    assert {message["topic"] for message in messages} == topics
    assert len(parts) > 2 and max(len(part.text) for part in parts) < 300 * 1024
    assert parts[0].headers["Content-Type"] == "application/json" and parts[0].headers["Cache-Control"] == "no-store"
    head = request(bridge, "/latest", method="HEAD")
    assert (head.status, head.text) == (200, "")


def test_latest_takes_a_filter(bridge, redis):
    start_monitor(bridge)
    topics = ("plant/1/temp", "plant/2/temp", "plant/1/mode", "plant", "$SYS/x", "salle été")
    write(redis, {topic: document_of(topic) for topic in topics})

    def found(topic_filter):
        return {message["topic"] for message in read_all(bridge, f"filter={quote(topic_filter, safe='')}")[0]}
    assert found("plant/+/temp") == {"plant/1/temp", "plant/2/temp"}
    assert found("plant/#") == {"plant/1/temp", "plant/2/temp", "plant/1/mode", "plant"}
    assert found("salle été") == {"salle été"} and "$SYS/x" not in found("#")
    for query in ("filter=", "filter=a%23", "cursor=x", "cursor=-1", "filter=%FF"):
        refused = request(bridge, f"/latest?{query}")
        assert refused.status == 400 and refused.json["error"].startswith(query.split("=")[0]), query


def test_latest_shows_nothing_that_the_routes_now_hide(bridge, redis):
    bridge.settings |= {"route:p": {"match": "private/#", "private": "yes"}, "route:d": {"match": "dropped", "drop": "yes"}}
    start_monitor(bridge)
    write(redis, {topic: document_of(topic) for topic in ("private/a", "dropped", "shown")})
    assert [message["topic"] for message in read_all(bridge)[0]] == ["shown"]


@pytest.mark.parametrize("section", ["worker", "route:plant"])
def test_a_reload_with_a_handler_hides_what_was_kept_before(bridge, redis, publisher, section):
    bridge.settings |= {"handler:mask": {"command": "cat"}, "route:plant": {"match": "plant/#"}}
    bridge.start()
    hidden, shown = ("other", "plant/a") if section == "worker" else ("plant/a", "other")
    publisher.publish_all([("plant/a", "1"), ("other", "1")])
    wait_until(lambda: {message["topic"] for message in read_all(bridge)[0]} == {hidden, shown}, 20, "both are served")
    bridge.settings[section]["handler"] = "mask"
    bridge.write_config()
    bridge.cli("reload")  # answered when the monitor runs with the new settings
    assert [message["topic"] for message in read_all(bridge)[0]] == [shown]


def test_latest_leaves_out_malformed_values_of_other_programs(bridge, redis):
    start_monitor(bridge)
    write(redis, {"list": "[1]", "none": "", "open": '{"id":', "two": '{"id":1}{"id":2}', "raw": b'{"a":"\xff"}',
                  "deep": "[" * 600, "text": '"x"', "large": '{"x":"' + "x" * 100000 + '"}'})
    topics = {f"t/{number}" for number in range(300)}
    write(redis, {topic: document_of(topic) for topic in topics})
    assert {message["topic"] for message in read_all(bridge)[0]} == topics
    write(redis, {f"huge/{number}": '{"x":"' + "x" * 3000000 + '"}' for number in range(10)})
    assert {message["topic"] for message in read_all(bridge)[0]} <= topics, "what is behind them may be left out as well"


def test_latest_wants_the_token_and_a_name_of_ours(bridge, redis, folder):
    (folder / "token").write_text("s3cret\n")
    bridge.settings["http"]["token_file"] = folder / "token"
    token = {"Authorization": "Bearer s3cret"}
    start_monitor(bridge, token)
    write(redis, {"t": document_of("t")})
    assert request(bridge, "/latest").status == 401
    assert request(bridge, "/latest", headers={"Authorization": "Bearer s3cre"}).status == 401
    assert request(bridge, "/latest", headers={**token, "Host": "evil.example"}).status == 421
    assert request(bridge, "/latest", method="POST", headers=token).status == 405
    assert "messages" in request(bridge, "/latest", headers=token).json


def test_without_last_values_latest_says_so(bridge):
    bridge.settings["page"] = {"last_values": 0}
    start_monitor(bridge)
    answer = request(bridge, "/latest")
    assert answer.status == 404 and "last_values" in answer.json["error"]
    assert request(bridge, "/config.json").json["last_values"] == 0


def ask_a_frozen_redis(bridge):
    """Asks for the values, 20 times at once. Returns how many seconds the slowest of other answers took meanwhile."""
    answers, seconds = [], []
    threads = [Thread(target=lambda: answers.append(request(bridge, "/latest"))) for _ in range(20)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for _ in range(20):
        asked = time.monotonic()
        assert request(bridge, "/healthz").status == 200
        seconds.append(time.monotonic() - asked)
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 6
    assert {answer.status for answer in answers} == {503} and len(answers) == 20
    errors = {answer.json["error"] for answer in answers}
    assert any("no answer within 2 s" in error for error in errors) and "too many ask at once" in errors
    return max(seconds)


def test_a_redis_that_is_away_or_frozen_is_reported_and_delays_no_answer(bridge, redis):
    start_monitor(bridge)
    write(redis, {"t": document_of("t")})
    assert len(read_all(bridge)[0]) == 1
    redis.freeze()
    assert any(ask_a_frozen_redis(bridge) < 1 for _ in range(3)), "Redis has 2 s"
    redis.thaw()
    assert len(read_all(bridge)[0]) == 1
    redis.kill()
    answer = request(bridge, "/latest")
    assert answer.status == 503 and f"127.0.0.1:{redis.port}" in answer.json["error"]
    redis.start()
    wait_until(lambda: request(bridge, "/latest").status == 200, 10, "it is asked anew")


def test_a_monitor_ends_while_somebody_waits_for_values(bridge, redis):
    monitor = start_monitor(bridge)
    redis.freeze()
    answers = []

    def ask():
        try:
            answers.append(request(bridge, "/latest"))
        except (OSError, http.client.HTTPException):
            pass  # its connection ended
    thread = Thread(target=ask)
    thread.start()
    wait_until(lambda: request(bridge, "/healthz").status == 200, 5, "it answers others")
    assert monitor.stop() == 0
    thread.join()
    assert all(answer.status == 503 for answer in answers)
