"""[handler:NAME] while Redis is away: what a handler has in hand then is charged for deaths, not for cuts."""

import json

import pytest
from bridge import wait_until
from bridge.entries import add_many, pend
from bridge.handlers import handler_command

# A message {"wait": NAME} is answered once the file NAME is there; its number N stands for the N-th time in this process.
# {"die": NAME} ends the handler once that file is there, {"fail": TEXT} is answered with that error.
SCRIPT = '''
import json, os, sys, time
folder = sys.argv[1]
def note(name, text):
    with open(f"{folder}/{name}", "a") as file:
        file.write(text + "\\n")
def wait(name):
    while not os.path.exists(f"{folder}/{name}"):
        time.sleep(0.01)
note("starts", str(os.getpid()))
print('{"ready":true}', flush=True)
times = 0
for line in sys.stdin:
    message = json.loads(line)
    note("given", line.strip())
    what = message["payload"] if isinstance(message["payload"], dict) else {}
    if "wait" in what:
        times += 1
        wait(what["wait"].replace("N", str(times)))
    if "die" in what:
        wait(what["die"])
        os._exit(9)
    if "fail" in what:
        print(json.dumps({"id": message["id"], "error": what["fail"]}), flush=True)
        continue
    print(json.dumps({"id": message["id"], "updates": [{"data": message}]}), flush=True)
'''


@pytest.fixture
def start(bridge, folder):
    def start_worker(**worker):
        bridge.settings["supervisor"]["instance"] = "here"
        bridge.settings["worker"] |= {"handler": "test", "delivery_limit": 2, **worker}
        bridge.settings["handler:test"] = {"inflight": "8", "command": handler_command(folder, SCRIPT, folder)}
        bridge.settings["retry"] = {"max_retries": 1, "delay": "100ms"}
        return bridge.run_program("worker")
    return start_worker


def times_given(given, topic):
    return [message["topic"] for message in given()].count(topic)


def wait_given(given, topic, count):
    wait_until(lambda: times_given(given, topic) >= count, 20, lambda: f"{topic} is given {count} times: {given()}")


def wait_lost(process, count=1):
    wait_until(lambda: process.log().count("Reading interrupted") >= count, 20, "the worker has lost Redis")


def cut(redis, process):
    """Until the worker has seen the cut, and reads again."""
    cuts, resumed = (process.log().count(text) for text in ("Reading interrupted", "reading resumed"))
    redis.client.client_kill_filter(_type="normal", skipme=True)
    wait_lost(process, cuts + 1)
    wait_until(lambda: process.log().count("reading resumed") > resumed, 20, "it reads again")


def die_during_outage(redis, process, folder, cuts=1):
    """Until the handler has died of what it has in hand while Redis was away. cuts: how many the worker has seen then."""
    redis.stop()
    wait_lost(process, cuts)
    (folder / "go").write_text("")
    wait_until(lambda: "exit code 9" in process.log(), 20, "the handler has died")
    redis.start()


def deliveries(redis, entry):
    [found] = redis.client.xpending_range("messages", "symfony", entry, entry, 1)
    return found["times_delivered"]


def test_cuts_of_redis_are_not_charged_to_what_a_handler_has(start, folder, redis, sse, database, given):
    entry, *_ = pend(redis, [("slow", json.dumps({"wait": "goN"}))])
    process = start()
    for number in range(1, 5):
        wait_given(given, "slow", number)
        wait_until(lambda: deliveries(redis, entry) == 2, 20, "it is counted before it is given")
        cut(redis, process)
        wait_until(lambda: deliveries(redis, entry) == 1, 20, "the count is taken back")
        (folder / f"go{number}").write_text("")
    (folder / "go5").write_text("")
    redis.wait_drained()
    assert [event.document["topic"] for event in sse.caught_up()] == ["slow"] and database.failures() == []
    assert [message["attempt"] for message in given()] == [2] * 5


def test_a_cut_while_redis_stays_away_is_not_charged_either(start, folder, redis, sse, database, given):
    entry, *_ = pend(redis, [("slow", json.dumps({"wait": "goN"}))])
    process = start()
    wait_given(given, "slow", 1)
    redis.stop()
    (folder / "go1").write_text("")
    wait_lost(process)
    redis.start()
    wait_given(given, "slow", 2)
    wait_until(lambda: deliveries(redis, entry) == 2, 20, "it was given once more, and nobody has died")
    (folder / "go2").write_text("")
    redis.wait_drained()
    assert [event.document["topic"] for event in sse.caught_up()] == ["slow"] and database.failures() == []


def test_a_retry_that_redis_refuses_is_no_death(start, redis, database, given):
    """Another message is under suspicion as well: so the first one still is when it is read again."""
    pend(redis, [("bad", json.dumps({"fail": "not today"})), ("other", "1")])
    redis.client.set("messages__queue", "no sorted set")
    start(delivery_limit=1)
    wait_given(given, "bad", 2)
    redis.client.delete("messages__queue")
    redis.wait_drained()
    [row] = database.failures()
    assert "[handler:test] says: not today" in row["body"] and "died" not in row["body"]


def test_a_message_whose_retry_is_cut_off_stays_under_suspicion(start, folder, redis, database, given):
    """The connection of the retry ends before the other one: the worker learns of the cut by the retry."""
    pend(redis, [("bad", json.dumps({"wait": "goN", "fail": "not today"}))])
    process = start()
    wait_given(given, "bad", 1)
    redis.client.client_pause(60000, all=False)
    (folder / "go1").write_text("")
    wait_until(lambda: "not today" in process.log(), 20, "the retry is sent")
    for client in redis.client.client_list():
        if client["cmd"] not in ("client|list", "xreadgroup"):
            redis.client.client_kill_filter(client["id"])
    wait_lost(process)
    redis.client.client_unpause()
    wait_given(given, "bad", 2)
    for number in (2, 3):
        (folder / f"go{number}").write_text("")
    redis.wait_drained()
    assert [message["attempt"] for message in given()][:2] == [2, 2] and len(database.failures()) == 1


def test_a_count_stands_if_another_process_had_the_lease_meanwhile(start, folder, redis, given):
    """Whether somebody has died of the message then, this worker can't know."""
    pend(redis, [("slow", json.dumps({"wait": "goN"}))])
    process = start()
    wait_given(given, "slow", 1)
    [lease] = redis.client.scan_iter("*here-1*")
    redis.client.set(lease, "another")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    redis.client.config_resetstat()
    wait_lost(process)
    wait_until(lambda: "cmdstat_evalsha" in redis.client.info("commandstats"), 20, "the lease is refused")
    redis.client.delete(lease)
    for number in (1, 2):
        (folder / f"go{number}").write_text("")
    redis.wait_drained()
    assert [message["attempt"] for message in given()] == [2, 3]


def test_a_worker_that_ends_soon_after_a_cut_takes_counts_back(start, bridge, folder, redis, make_redis, given):
    """A message of the first transport waits behind the other one: so the second transport is not read again."""
    other = make_redis()
    bridge.settings["transport:other"] = {"dsn": other.dsn()}
    bridge.settings["supervisor"]["stop_timeout"] = "2s"
    entry, *_ = pend(redis, [("slow", json.dumps({"wait": "goN"}))])
    process = start(transports="other, async")
    wait_given(given, "slow", 1)
    redis.stop()
    wait_lost(process)
    add_many(other, [("plant", "1")])
    wait_until(lambda: other.pending() == 1, 20, "the other message is read")
    redis.start()
    wait_until(lambda: "reading resumed" in process.log(), 20, "it could read again")
    assert deliveries(redis, entry) == 2
    process.stop()
    assert deliveries(redis, entry) == 1 and len(given()) == 1


def test_a_message_that_kills_its_handler_behind_a_cut_is_charged(start, folder, redis, sse, database, given):
    pend(redis, [("bad", json.dumps({"die": "go"}))])
    process = start()
    wait_given(given, "bad", 1)
    cut(redis, process)
    (folder / "go").write_text("")
    add_many(redis, [(f"plant/{number}", "1") for number in range(20)])
    redis.wait_drained()
    [row] = database.failures()
    assert "its worker or handler died 2 times, the last time: exit code 9" in row["body"]
    assert times_given(given, "bad") == 2 and len(sse.caught_up()) == 20


def test_a_message_that_kills_its_handler_during_an_outage_is_charged(start, folder, redis, sse, database, given):
    pend(redis, [("bad", json.dumps({"die": "go"}))])
    process = start()
    wait_given(given, "bad", 1)
    die_during_outage(redis, process, folder)
    redis.wait_drained()
    [row] = database.failures()
    assert "its worker or handler died 2 times, the last time: exit code 9" in row["body"]
    assert times_given(given, "bad") == 2


def test_a_new_message_that_kills_its_handler_during_an_outage_is_charged(start, folder, redis, sse, database, given):
    add_many(redis, [("bad", json.dumps({"die": "go"})), ("plant", "1")])
    process = start()
    wait_given(given, "bad", 1)
    die_during_outage(redis, process, folder)
    redis.wait_drained()
    [row] = database.failures()
    assert "bad" in row["body"] and "exit code 9" in row["body"]
    assert [message["attempt"] for message in given() if message["topic"] == "bad"] == [1, 2, 3]
    assert [event.document["topic"] for event in sse.caught_up()] == ["plant"]


def test_a_message_that_kills_its_handler_behind_two_cuts_is_charged(start, folder, redis, database, given):
    entry, *_ = pend(redis, [("bad", json.dumps({"die": "go"}))])
    process = start()
    wait_given(given, "bad", 1)
    cut(redis, process)
    wait_until(lambda: deliveries(redis, entry) == 1, 20, "it is read again, and waits for the handler")
    die_during_outage(redis, process, folder, cuts=2)
    redis.wait_drained()
    [row] = database.failures()
    assert "its worker or handler died 2 times, the last time: exit code 9" in row["body"]
    assert times_given(given, "bad") == 2


def test_a_message_under_suspicion_stays_alone_while_its_redis_is_away(start, bridge, folder, redis, make_redis, sse,
                                                                       database, given):
    """Other messages come from another server."""
    other = make_redis()
    bridge.settings["transport:other"] = {"dsn": other.dsn()}
    pend(redis, [("bad", json.dumps({"die": "go"}))])
    process = start(transports="async, other")
    wait_given(given, "bad", 1)
    redis.stop()
    wait_lost(process)
    add_many(other, [(f"plant/{number}", "1") for number in range(20)])
    wait_until(lambda: other.pending() == 20, 20, "the others are read")
    (folder / "go").write_text("")
    sse.wait_count(20)
    other.wait_drained()
    assert [message["attempt"] for message in given() if message["topic"] != "bad"] == [1] * 20
    redis.start()
    redis.wait_drained()
    [row] = database.failures()
    assert "bad" in row["body"] and "exit code 9" in row["body"]
