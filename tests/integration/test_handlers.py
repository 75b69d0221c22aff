"""[handler:NAME]: a program of the user's says what is published. docs/HANDLERS.md has the table of cases."""

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from bridge import wait_until
from bridge.entries import add_many, pend, php_value
from bridge.faulty import HANG, PROBE, RESET, FaultyHub
from bridge.handlers import handler_command
from bridge.process import is_alive

ROOT = Path(__file__).resolve().parents[2]

# Does as its messages say: {"do": "updates", "updates": [...]}, {"do": "error", ...}, {"do": "exit"}, ...
SCRIPT = '''
import json, os, random, signal, sys, time
out = sys.stdout
def write(text):
    out.write(text + "\\n")
    out.flush()
with open(sys.argv[1] + "/starts", "a") as file:
    file.write(f"{os.getpid()}\\n")
if os.path.exists(sys.argv[1] + "/never-ready"):
    print("not today", file=sys.stderr, flush=True)
    sys.exit(3)
def end(how):
    with open(sys.argv[1] + "/ended", "w") as file:
        file.write(how + "\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: end("SIGTERM"))
write('{"ready":true}')
held = []
for line in sys.stdin:
    message = json.loads(line)
    with open(sys.argv[1] + "/given", "a") as file:
        file.write(line)
    what = message["payload"] if isinstance(message["payload"], dict) else {}
    do, id = what.get("do", "echo"), message["id"]
    if len(sys.argv) > 2:
        time.sleep(random.uniform(0, float(sys.argv[2])))
    if do == "echo":
        write(json.dumps({"id": id, "updates": [{"data": message}]}))
    elif do == "updates":
        write(json.dumps({"id": id, "updates": what["updates"]}))
    elif do == "line":
        write(what["line"].replace("ID", id))
    elif do == "exit":
        print("I must go", file=sys.stderr, flush=True)
        sys.exit(what["code"])
    elif do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif do == "sleep":
        time.sleep(what["seconds"])
        write(json.dumps({"id": id, "updates": [{"data": message}]}))
    elif do == "long":
        out.write("x" * (17 << 20))
        out.flush()
        time.sleep(60)
    elif do == "large":
        write(json.dumps({"id": id, "updates": [{"data": "x" * what["bytes"]}]}))
    elif do == "hold":
        held.append(id)
    elif do == "release":
        for one in [*reversed(held), id]:
            write(json.dumps({"id": one, "updates": [{"data": one}]}))
        held.clear()
end("end of input")
'''


@pytest.fixture
def start(bridge, folder):
    """start(**keys): a worker whose messages all go to that script, with those keys in its section. handlers: names of
    others with the same script."""
    def start_worker(handlers=(), **keys):
        command = handler_command(folder, SCRIPT, folder)
        bridge.settings["worker"] |= {"handler": "test"}
        for name in ("test", *handlers):
            bridge.settings[f"handler:{name}"] = {"command": command, **keys}
        bridge.settings["retry"] = {"max_retries": 1, "delay": "100ms"}
        bridge.settings["supervisor"]["instance"] = "here"
        return bridge.run_program("worker")
    return start_worker


def do(what, **more):
    return json.dumps({"do": what, **more})


def wait_random(rng):
    time.sleep(rng.uniform(0.1, 0.6))  # the moment of a fault: no condition to wait for


def kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has died by itself


def test_a_handler_gets_the_document_of_the_message_and_its_headers(start, redis, sse, given):
    start()
    add_many(redis, [("plant/1", '{"temp": 21.50}'), ("plant/2", "no JSON")])
    first, second = sorted(sse.wait_count(2), key=lambda event: event.document["topic"])
    assert first.document == given()[0]
    assert first.id == "urn:mqtt-bridge:" + first.document["id"]
    assert first.document["payload"] == {"temp": 21.5} and first.document["attempt"] == 1
    assert first.document["retained"] is False and first.document["headers"] == {}
    assert second.document["payload"] == "no JSON"


def test_an_answer_may_have_many_updates_or_none(start, redis, make_sse, database):
    one, private, everything = make_sse("one"), make_sse("two"), make_sse("*")
    start()
    updates = [{"topic": "one", "data": "text\nof two lines", "type": "special", "retry": 3000},
               {"topics": ["two", "three"], "data": {"a": [1, None]}, "id": "urn:mine:7"},
               {"data": 5, "private": True},
               {"data": "last"}]
    add_many(redis, [("plant/1", do("updates", updates=updates)), ("plant/2", do("updates", updates=[]))])
    [event] = one.wait_count(1)
    assert event.data == "text\nof two lines" and event.type == "special"
    base = event.id
    [event] = private.wait_count(1)
    assert event.data == '{"a": [1, null]}' and event.id == "urn:mine:7"
    last = everything.wait_count(3)[-1]
    assert last.data == "last" and last.id == base + "-4"
    redis.wait_drained()
    assert len(everything.events) == 3 and database.failures() == []


def test_an_update_the_hub_never_takes_is_retried_with_earlier_updates(start, bridge, redis, database, given):
    hub = FaultyHub(lambda update: {"flaky": 500 if update.attempt <= 3 else None, "refused": 400}.get(update.topic))
    bridge.settings["mercure"]["url"] = hub.url
    try:
        start()
        for last in ("flaky", "refused"):
            updates = [{"topic": f"before {last}", "data": 1}, {"topic": last, "data": 2}, {"topic": "behind", "data": 3}]
            add_many(redis, [(f"plant/{last}", do("updates", updates=updates))])
        add_many(redis, [(f"plant/{number}", "1") for number in range(20)])
        redis.wait_drained()
    finally:
        hub.close()
    attempts = {topic: [message["attempt"] for message in given() if message["topic"] == f"plant/{topic}"]
                for topic in ("flaky", "refused")}
    assert attempts == {"flaky": [1, 2], "refused": [1]}
    [first] = [id for id, (topic, _) in hub.passed.items() if topic == "before flaky"]
    assert hub.seen[first] == 2 and hub.seen[first + "-2"] == 4 and hub.seen[first + "-3"] == 1
    assert hub.topics().count("behind") == 1, "nothing behind the refused one is published"
    [row] = database.failures()
    assert "plant/refused" in row["body"] and "400" in row["body"]


def test_the_deepest_payload_may_be_echoed(start, redis, sse, database, starts):
    start()
    deep = 512 * "[" + 512 * "]"
    add_many(redis, [("plant/deep", deep), ("plant/deeper", f"[{deep}]"), ("plant/flat", "1")])
    payloads = {event.document["topic"]: event.document["payload"] for event in sse.wait_count(3)}
    assert payloads == {"plant/deep": json.loads(deep), "plant/deeper": f"[{deep}]", "plant/flat": 1}
    redis.wait_drained()
    assert len(starts()) == 1 and database.failures() == []


def test_answers_may_come_in_any_order(start, redis, sse):
    start()
    add_many(redis, [(f"plant/{number}", do("hold")) for number in range(10)])
    add_many(redis, [("plant/x", do("release"))])
    assert len({event.data for event in sse.wait_count(11)}) == 11
    redis.wait_drained()


@pytest.mark.parametrize("line, retried, why", [
    ('{"id":"ID","error":"no such machine"}', True, "no such machine"),
    ('{"id":"ID","error":"never","retry":false}', False, "never"),
    ('{"id":"ID"}', False, "either `updates` or `error`"),
    ('{"id":"ID","updates":[{"data":1,"privat":true}]}', False, "an unknown member `privat`"),
    ('{"id":"ID","updates":[{"topic":"x/.well-known/mercure","data":1}]}', False, "keeps for itself"),
    pytest.param('{"id":"ID","updates":[{"data":' + 1100 * "[" + 1100 * "]" + '}]}', False, "nested deeper than 1024",
                 id="nested too deep"),
])
def test_a_message_that_is_answered_with_a_fault_goes_aside_alone(start, redis, sse, database, given, starts,
                                                                  line, retried, why):
    start()
    add_many(redis, [("plant/1", do("line", line=line)), ("plant/2", "1")])
    sse.wait_topic("plant/2")
    redis.wait_drained()
    [row] = database.failures()
    assert why in row["body"]
    assert [message["attempt"] for message in given() if message["topic"] == "plant/1"] == [1, 2][:1 + retried]
    assert len(starts()) == 1


@pytest.mark.parametrize("length, end", [(2048, "e"), (2049, "... (the first 2048 of 2049 bytes)")])
def test_two_thousand_bytes_of_an_errors_text_are_kept(start, redis, database, length, end):
    process = start()
    error = "SQLSTATE\n" + (length - 9) * "e"
    add_many(redis, [("plant/1", do("line", line=json.dumps({"id": "ID", "error": error, "retry": False})))])
    redis.wait_drained()
    [row] = database.failures()
    text = "[handler:test] says: " + error[:2048].replace("\n", " ") + end.lstrip("e")
    assert text in row["body"] and text in process.log()


@pytest.mark.parametrize("bad, why", [
    (do("exit", code=7), "exit code 7 (I must go)"),
    (do("kill"), "signal SIGKILL"),
    (do("line", line="this is no JSON"), "a line that is no answer: it is no JSON object"),
    (do("line", line='{"id":"other","updates":[]}'), "a message that it does not have: other"),
    (do("long"), "a line of more than 16 MB"),
    (do("sleep", seconds=60), "not answered within its timeout of 1500 ms"),
])
def test_a_message_that_kills_its_handler_goes_aside_and_others_pass(start, bridge, redis, sse, database, given,
                                                                     starts, bad, why):
    bridge.settings["worker"]["delivery_limit"] = 2
    process = start(timeout="1500ms" if "timeout" in why else "30s", inflight="8")
    add_many(redis, [(f"plant/{number}", "1") for number in range(20)] + [("bad", bad)] +
             [(f"plant/{number}", "2") for number in range(20)])
    redis.wait_drained(60)
    [row] = database.failures()
    assert "its worker or handler died 2 times, the last time: " in row["body"] and why in row["body"]
    seen = {(event.document["topic"], event.document["payload"]) for event in sse.caught_up()}
    assert seen == {(f"plant/{number}", value) for number in range(20) for value in (1, 2)}
    wait_until(lambda: len(starts()) >= 4, 20, "it is started again: once with others in hand, then twice alone")
    assert len(starts()) == 4 or "timeout" in why, "a slow machine may start it too late once more"
    assert [message["attempt"] for message in given() if message["topic"] == "bad"] == [1, 2, 3]
    assert why in process.log()


def test_a_handler_that_does_not_start_uses_up_no_delivery_limit(start, bridge, folder, redis, sse, database, starts):
    (folder / "never-ready").write_text("")
    bridge.settings["worker"]["delivery_limit"] = 1
    process = start()
    add_many(redis, [(f"plant/{number}", "1") for number in range(20)])
    wait_until(lambda: len(starts()) > 3, 20, "it is started again and again")
    assert "[handler:test] does not run: exit code 3 (not today)" in process.log()
    (folder / "never-ready").unlink()
    sse.wait_count(20)
    redis.wait_drained()
    assert database.failures() == []
    assert "[handler:test] is ready again" in process.log()


def test_a_pending_message_whose_handler_does_not_run_holds_up_no_other(start, bridge, folder, redis, sse, database,
                                                                       given):
    (folder / "never-ready").write_text("")
    bridge.settings["route:plain"] = {"match": "plain/#"}
    first, *_ = pend(redis, [("plant/1", "1"), ("plain/1", "1")])
    add_many(redis, [(f"plain/{number}", "2") for number in range(20)])
    start()
    assert {event.document["topic"].split("/")[0] for event in sse.wait_count(21)} == {"plain"}
    wait_until(lambda: redis.pending() == 1, 20, "all others are acknowledged")
    [entry] = redis.client.xpending_range("messages", "symfony", "-", "+", 10)
    assert entry["message_id"].decode() == first and entry["times_delivered"] == 1
    (folder / "never-ready").unlink()
    sse.wait_topic("plant/1")
    redis.wait_drained()
    assert [message["attempt"] for message in given()] == [2] and database.failures() == []


@pytest.mark.parametrize("count", [1, 600])
def test_a_pending_message_that_hangs_its_handler_holds_up_no_other(start, bridge, redis, sse, database, given, starts,
                                                                    count):
    """Others are pending, new, or for another handler."""
    bridge.settings["worker"]["delivery_limit"] = 2
    bridge.settings["route:plain"] = {"match": "plain/#"}
    bridge.settings["route:other"] = {"match": "other/#", "handler": "other"}
    pend(redis, [("bad", do("sleep", seconds=600)), *((f"plain/{number}", "1") for number in range(count)),
                 ("other/1", "1")])
    start(timeout="8s", handlers=["other"])
    wait_until(lambda: "bad" in [message["topic"] for message in given()], 20, "it is in its handler's hands")
    add_many(redis, [("plain/new", "2"), ("other/new", "2")])
    published = [event.document["topic"] for event in sse.wait_count(count + 3)]
    assert set(published) == {*(f"plain/{number}" for number in range(count)), "plain/new", "other/1", "other/new"}
    assert len(starts()) == 2 and len(given()) == 3, "it is still there"
    redis.wait_drained(60)
    [row] = database.failures()
    assert "its worker or handler died 2 times, the last time: a message was not answered" in row["body"]


def leave_pending(redis, messages, consumer):
    """Leaves all messages pending at a worker of another host that is gone."""
    pipeline = redis.client.pipeline()
    for topic, payload in messages:
        pipeline.xadd("messages", {"message": php_value(topic, payload)})
    pipeline.xreadgroup("symfony", consumer, {"messages": ">"}, count=len(messages))
    pipeline.sadd("{messages}__consumers:symfony", consumer)
    pipeline.execute()


def test_a_message_that_kills_its_worker_is_charged_and_not_a_handlers(start, bridge, redis, database, given):
    """The worker is killed once the hub has been asked for the second message."""
    bridge.settings["worker"]["delivery_limit"] = 2
    bridge.settings["route:plain"] = {"match": "plain/#"}
    hub = FaultyHub(lambda update: HANG if update.topic == "plain/bad" else None)
    bridge.settings["mercure"]["url"] = hub.url
    try:
        process = start()
        wait_until(lambda: "[handler:test] is ready" in process.log() and "Worker 1 is ready" in process.log(), 20, "both")
        leave_pending(redis, [("slow", do("sleep", seconds=1)), ("plain/bad", "1")], "elsewhere-1")
        for kill in range(1, 3):
            wait_until(lambda kill=kill: hub.seen.total() - hub.seen[PROBE] >= kill, 20, "it is published")
            process.kill()
            assert given() == []
            process = start()
        redis.wait_drained()
    finally:
        hub.close()
    [row] = database.failures()
    assert "plain/bad" in row["body"] and "its worker died 2 times" in row["body"]
    assert [message["attempt"] for message in given()] == [2]


def test_check_and_status_say_what_is_wrong_with_a_handler(bridge):
    bridge.settings["handler:one"] = {"command": "no-such-program-here --flag 'a b'"}
    bridge.settings["worker"] |= {"handler": "one", "count": 1}
    result = bridge.cli("check", check=False)
    assert "`no-such-program-here` is no program that can be run here: it is not in PATH" in result.stdout + result.stderr
    bridge.start(wait=False)
    bridge.wait_running()
    wait_until(lambda: "[handler:one] does not run: exit code 127 (no-such-program-here: No such file" in
               bridge.cli("status").stdout, 20, lambda: bridge.cli("status").stdout)
    assert bridge.cli("health", check=False).returncode != 0


def test_route_says_which_handler_takes_a_topic(bridge):
    bridge.settings["handler:one"] = {"command": "cat"}
    bridge.settings["route:all"] = {"match": "plant/#", "handler": "one"}
    text = bridge.cli("route", "plant/7").stdout
    assert "given to [handler:one]" in text and "cat" in text and "data" not in text
    assert json.loads(bridge.cli("route", "plant/7", "--json").stdout)["handler"] == "one"
    assert json.loads(bridge.cli("route", "other", "--json").stdout)["handler"] is None


def test_a_handler_has_no_secrets_but_those_that_pass_env_names(bridge, folder, redis):
    script = folder / "env.py"
    script.write_text("import json, os, sys\n"
                      "json.dump(dict(os.environ), open(sys.argv[1] + '.new', 'w'))\n"
                      "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
                      "print('{\"ready\":true}', flush=True)\nsys.stdin.read()\n")
    bridge.env |= {"APP_ENV": "prod", "MQTT_PASSWORD": "secret", "MQTT_USERNAME": "me", "OWN": "1", "HUB_KEY": "k" * 40,
                   "DATABASE_URL": bridge.settings["failure"].pop("dsn")}
    bridge.settings["mercure"]["jwt_secret"] = "${HUB_KEY}"
    for name, passed in (("one", "DATABASE_URL APP_ENV"), ("two", "HUB_KEY")):
        bridge.settings[f"handler:{name}"] = {"pass_env": passed, "command": shlex.join(
            [sys.executable, str(script), str(folder / name)])}
    bridge.settings["route:one"] = {"match": "one", "handler": "one"}
    bridge.settings["worker"] |= {"handler": "two", "count": 1}
    bridge.start(wait=False)

    def seen(name):
        wait_until(lambda: (folder / name).exists(), 20, f"handler {name} runs")
        return json.loads((folder / name).read_text())
    one, two = seen("one"), seen("two")
    assert one["OWN"] == two["OWN"] == "1"
    assert one["APP_ENV"] == "prod" and one["DATABASE_URL"] == bridge.env["DATABASE_URL"] and "HUB_KEY" not in one
    assert two["HUB_KEY"] == "k" * 40 and "DATABASE_URL" not in two and "APP_ENV" not in two
    for environment in (one, two):
        assert not [name for name in environment if name.startswith("MQTT_")]


def wait_given(given, count):
    wait_until(lambda: len(given()) >= count, 20, lambda: f"{count} are given; {len(given())} so far")


def test_a_slow_handler_gets_at_most_inflight_and_little_is_read_ahead(start, bridge, redis, given, sse):
    bridge.settings["worker"]["prefetch"] = 16
    start(inflight="4")
    add_many(redis, [("plant", do("hold"))] * 3 + [("plant", do("release"))] + [("plant", do("hold"))] * 60)
    sse.wait_count(4)
    wait_given(given, 8)
    wait_until(lambda: redis.client.xpending("messages", "symfony")["pending"] == 16, 20, "as many as may be are read")
    assert len(given()) == 8


def test_a_handler_is_given_nothing_while_its_answers_wait_for_the_hub(start, bridge, redis, given):
    hub = FaultyHub(lambda update: 500)
    bridge.settings["mercure"]["url"] = hub.url
    bridge.settings["worker"]["prefetch_bytes"] = "1M"
    try:
        process = start(inflight="2")
        add_many(redis, [(f"plant/{number}", do("large", bytes=400_000)) for number in range(40)])
        wait_until(lambda: "The hub takes no updates" in process.log(), 20, "the hub is down")
        wait_until(lambda: hub.seen[PROBE] >= 5, 20, lambda: f"it is asked again and again: {hub.seen}")
        assert len(given()) <= 10, "of 40: what `prefetch_bytes` has room for, and what was in hand"
        hub.script = lambda update: None
        redis.wait_drained()
        assert len(hub.topics()) == 40
    finally:
        hub.close()


def test_answers_without_room_behind_a_topic_set_aside_come_once_more(start, bridge, redis, database, given):
    hub = FaultyHub(lambda update: 500 if update.attempt == 1 and len(hub.seen) == 1 else None)
    bridge.settings["mercure"]["url"] = hub.url
    bridge.settings["worker"]["prefetch_bytes"] = "1M"
    try:
        start(inflight="8")
        add_many(redis, [("plant/1", do("large", bytes=400_000))] * 8)
        redis.wait_drained()
        assert hub.topics().count("plant/1") == 8 and database.failures() == []
    finally:
        hub.close()
    ids = [message["id"] for message in given()]
    assert len(set(ids)) == 8 and len(ids) > 8, "some are given twice"
    assert {message["attempt"] for message in given()} == {1}


def test_an_answer_that_the_hub_has_not_taken_at_the_end_is_asked_anew(start, bridge, redis, database, given):
    hub = FaultyHub(lambda update: 500)
    bridge.settings["mercure"]["url"] = hub.url
    try:
        process = start()
        add_many(redis, [("plant/1", "1")])
        wait_until(lambda: "The hub takes no updates" in process.log(), 20, "the answer waits for the hub")
        assert process.stop() == 0
        assert redis.pending() == 1 and len(given()) == 1
        hub.script = lambda update: None
        start()
        redis.wait_drained()
        assert hub.topics().count("plant/1") == 1 and database.failures() == []
    finally:
        hub.close()
    assert len(given()) == 2


def test_an_end_waits_for_what_is_in_hand_and_leaves_the_rest(start, bridge, folder, redis, sse, given, starts):
    bridge.settings["supervisor"]["stop_timeout"] = "12s"
    process = start(inflight="2")
    add_many(redis, [("plant/1", do("sleep", seconds=1)), ("plant/2", "1"), ("plant/3", "1"), ("plant/4", "1")])
    wait_given(given, 1)
    assert process.stop() == 0
    assert {event.document["topic"] for event in sse.wait_count(2)} == {"plant/1", "plant/2"}
    assert redis.client.xlen("messages") == 2 and redis.client.xpending("messages", "symfony")["pending"] == 2
    assert (folder / "ended").read_text() == "end of input\n"
    assert not is_alive(starts()[0])


def test_messages_unanswered_by_a_handler_at_the_end_keep_their_count(start, bridge, folder, redis, given, starts):
    bridge.settings["supervisor"]["stop_timeout"] = "4s"
    process = start()
    add_many(redis, [("plant/1", do("sleep", seconds=60))])
    wait_given(given, 1)
    assert process.stop() == 0
    wait_until(lambda: not is_alive(starts()[0]), 10, "the handler is ended as well")
    assert (folder / "ended").read_text() == "SIGTERM\n", "it is asked first"
    assert "[handler:test] died" not in process.log()
    [entry] = redis.client.xpending_range("messages", "symfony", "-", "+", 10)
    assert entry["times_delivered"] == 1


def test_a_handler_dies_with_its_worker_and_what_it_had_is_charged(start, redis, given, starts, sse):
    process = start()
    add_many(redis, [("plant/1", do("sleep", seconds=2))])
    wait_given(given, 1)
    process.kill()
    wait_until(lambda: not is_alive(starts()[0]), 10, "the handler dies with the worker")
    start()
    sse.wait_count(1)
    redis.wait_drained()
    assert [message["attempt"] for message in given()] == [1, 2]


def test_answers_for_what_was_lost_with_redis_are_dropped(start, redis, given, starts, sse, database):
    start(inflight="4")
    add_many(redis, [("plant/1", do("sleep", seconds=3)), ("plant/2", "1"), ("plant/3", "1")])
    wait_given(given, 1)
    redis.stop()
    redis.start()
    sse.wait_count(3, timeout=30)
    redis.wait_drained()
    assert len(starts()) == 1 and database.failures() == []
    by_topic = {}
    for event in sse.caught_up():
        by_topic.setdefault(event.document["topic"], set()).add(event.id)
    assert [len(ids) for ids in by_topic.values()] == [1, 1, 1]


def test_kills_of_workers_and_handlers_and_outages_lose_nothing(bridge, folder, redis, database, rng, starts):
    """Topics are one a message, so an update's topic tells the message."""
    count, hub = 3000, FaultyHub()
    bridge.settings["mercure"]["url"] = hub.url
    bridge.settings["worker"] |= {"handler": "test", "count": 2}
    bridge.settings["handler:test"] = {"command": handler_command(folder, SCRIPT, folder, 0.002), "inflight": 16}
    messages = [(f"plant/{number}", str(number)) for number in range(count)]
    for number in range(0, count, 1000):
        messages[number] = (f"bad/{number}", do("kill"))
    try:
        bridge.start(wait=False)
        wait_until(lambda: len(starts()) >= 2, 20, "both handlers run")
        add_many(redis, messages)
        for step in range(12):
            what = rng.choice(["worker", "handler", "handler", "hub", "redis"]) if step > 4 else \
                ["worker", "handler", "hub", "redis", "handler"][step]
            wait_random(rng)
            if what == "worker":
                bridge.kill_child("worker", rng.randrange(2) if len(bridge.pids("worker")) == 2 else 0)
            elif what == "handler":
                alive = [pid for pid in starts() if is_alive(pid)]
                if alive:
                    kill_quietly(rng.choice(alive))
            elif what == "hub":
                hub.script = lambda update: RESET
                wait_random(rng)
                hub.script = lambda update: None
            else:
                redis.stop()
                wait_random(rng)
                redis.start()
        redis.wait_drained(90)
    finally:
        hub.close()
    passed = [topic for topic, _ in list(hub.passed.values()) if topic != PROBE]
    assert sorted(passed) == sorted(topic for topic, _ in messages if topic.startswith("plant/")), \
        "each message once by its ids, however often it was published"
    rows = database.failures()
    assert len(rows) == 3 and all("bad/" in row["body"] and "died 5 times" in row["body"] for row in rows)


def test_the_python_example_publishes_what_its_function_returns(bridge, redis, sse, database):
    bridge.settings["worker"]["handler"] = "example"
    bridge.settings["handler:example"] = {"command": f"{sys.executable} {ROOT}/examples/python/handler.py"}
    messages = [(f"plant/{number}", str(number)) for number in range(500)]
    add_many(redis, [*messages[:250], ("plant/digits", "9" * 5000), *messages[250:]])
    process = bridge.run_program("worker")
    redis.wait_drained()
    assert sorted(json.loads(event.data)["value"] for event in sse.wait_count(500)) == list(range(500))
    [row] = database.failures()
    assert "plant/digits" in row["body"] and "its updates are no JSON" in row["body"]
    assert "[handler:example] died" not in process.log() and process.stop() == 0


@pytest.mark.parametrize("application", ["bus", "kernel"])
def test_the_php_example_dispatches_into_the_bus_of_an_application(bridge, folder, redis, sse, database, application):
    handled = folder / "handled"
    bridge.env["HANDLED_FILE"] = handled
    bridge.env["HOME"] = folder
    bridge.settings["retry"] = {"max_retries": 1, "delay": "100ms"}
    bridge.settings["worker"]["handler"] = "app"
    bridge.settings["handler:app"] = {
        "command": f"php {ROOT}/examples/php/handler.php {ROOT}/tests/integration/php/{application}.php"}
    add_many(redis, [("plant/1", '{"temp": 21.50}\n'), ("plant/2", "été"), ("fail/3", "1"), ("poison/4", "1")])
    process = bridge.run_program("worker")
    redis.wait_drained()
    lines = [json.loads(line) for line in handled.read_text().splitlines()]
    assert {(line["topic"], bytes.fromhex(line["payload_hex"]).decode()) for line in lines} == \
        {("plant/1", '{"temp": 21.50}\n'), ("plant/2", "été")}
    fail, poison = sorted((row["body"] for row in database.failures()), key=lambda body: "poison/4" in body)
    assert "the handler fails on fail/3" in fail and "RedeliveryStamp" in fail
    assert "the handler can never take poison/4" in poison and 'retryCount\\";i:1' not in poison
    assert sse.caught_up() == [] and ("[handler:app] handling plant/1" in process.log()) == (application == "kernel")
