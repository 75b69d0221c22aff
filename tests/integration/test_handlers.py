"""[handler:NAME]: a program of the user's says what is published. docs/HANDLERS.md has the table of cases."""

import json
import shlex
import sys

import pytest
from bridge import wait_until
from bridge.entries import add_many, failed_rows

# Does as its messages say: {"do": "updates", "updates": [...]}, {"do": "error", ...}, {"do": "exit"}, ...
SCRIPT = '''
import json, os, signal, sys, time
out = sys.stdout
def write(text):
    out.write(text + "\\n")
    out.flush()
with open(sys.argv[1] + "/starts", "a") as file:
    file.write(f"{os.getpid()}\\n")
if os.path.exists(sys.argv[1] + "/never-ready"):
    print("not today", file=sys.stderr, flush=True)
    sys.exit(3)
write('{"ready":true}')
held = []
for line in sys.stdin:
    message = json.loads(line)
    with open(sys.argv[1] + "/given", "a") as file:
        file.write(line)
    what = message["payload"] if isinstance(message["payload"], dict) else {}
    do, id = what.get("do", "echo"), message["id"]
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
    elif do == "hold":
        held.append(id)
    elif do == "release":
        for one in [*reversed(held), id]:
            write(json.dumps({"id": one, "updates": [{"data": one}]}))
        held.clear()
'''


@pytest.fixture
def start(bridge, folder):
    """start(**keys): a worker whose messages all go to that script, with those keys in its section."""
    def start_worker(count=None, **keys):
        script = folder / "handler.py"
        script.write_text(SCRIPT)
        bridge.settings["worker"] |= {"handler": "test"}
        bridge.settings["handler:test"] = {"command": shlex.join([sys.executable, str(script), str(folder)]), **keys}
        bridge.settings["retry"] = {"max_retries": 1, "delay": "100ms"}
        bridge.settings["supervisor"]["instance"] = "here"
        return bridge.run_program("worker")
    return start_worker


@pytest.fixture
def given(folder):
    """What the handlers have been given, in order."""
    path = folder / "given"
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def starts(folder):
    path = folder / "starts"
    return lambda: [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_acknowledged(redis, timeout=20):
    wait_until(lambda: redis.client.xlen("messages") == 0 and redis.client.zcard("messages__queue") == 0, timeout,
               lambda: f"all is acknowledged; {redis.client.xlen('messages')} are not")


def do(what, **more):
    return json.dumps({"do": what, **more})


def test_a_handler_is_given_the_document_with_what_is_known_of_the_message(start, redis, sse, given):
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
    wait_acknowledged(redis)
    assert len(everything.events) == 3 and failed_rows(database) == []


def test_answers_may_come_in_any_order(start, redis, sse):
    start()
    add_many(redis, [(f"plant/{number}", do("hold")) for number in range(10)])
    add_many(redis, [("plant/x", do("release"))])
    assert len({event.data for event in sse.wait_count(11)}) == 11
    wait_acknowledged(redis)


@pytest.mark.parametrize("line, retried, why", [
    ('{"id":"ID","error":"no such machine"}', True, "no such machine"),
    ('{"id":"ID","error":"never","retry":false}', False, "never"),
    ('{"id":"ID"}', False, "either `updates` or `error`"),
    ('{"id":"ID","updates":[{"data":1,"privat":true}]}', False, "an unknown member `privat`"),
    ('{"id":"ID","updates":[{"topic":"x/.well-known/mercure","data":1}]}', False, "keeps for itself"),
])
def test_a_message_that_is_answered_with_a_fault_goes_aside_alone(start, redis, sse, database, given, starts,
                                                                  line, retried, why):
    start()
    add_many(redis, [("plant/1", do("line", line=line)), ("plant/2", "1")])
    sse.wait_topic("plant/2")
    wait_acknowledged(redis)
    [row] = failed_rows(database)
    assert why in row["body"]
    assert [message["attempt"] for message in given() if message["topic"] == "plant/1"] == [1, 2][:1 + retried]
    assert len(starts()) == 1


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
    wait_acknowledged(redis, 60)
    [row] = failed_rows(database)
    assert "its handler died 2 times, the last time: " in row["body"] and why in row["body"]
    seen = {(event.document["topic"], event.document["payload"]) for event in sse.events}
    assert seen == {(f"plant/{number}", value) for number in range(20) for value in (1, 2)}
    assert len(starts()) == 4, "once with others in hand, then twice alone"
    assert [message["attempt"] for message in given() if message["topic"] == "bad"] == [1, 2, 3]
    assert why in process.log()


def test_nothing_is_charged_while_a_handler_does_not_start(start, bridge, folder, redis, sse, database, starts):
    (folder / "never-ready").write_text("")
    bridge.settings["worker"]["delivery_limit"] = 1
    process = start()
    add_many(redis, [(f"plant/{number}", "1") for number in range(20)])
    wait_until(lambda: len(starts()) > 3, 20, "it is started again and again")
    assert "[handler:test] does not run: exit code 3 (not today)" in process.log()
    (folder / "never-ready").unlink()
    sse.wait_count(20)
    wait_acknowledged(redis)
    assert failed_rows(database) == []
    assert "[handler:test] is ready again" in process.log()


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
