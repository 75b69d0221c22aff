"""How a worker ends, and what its end costs the entries that it had: nothing, unless it died of them."""

import json
import os
import signal
import socket
import time

import pytest
from bridge import account_when_seen, wait_until
from bridge.entries import add, add_many, pend
from bridge.proxy import Proxy

WORKER = {"count": 1, "delivery_limit": 2}


@pytest.fixture
def charges(redis):
    """A function: the delivery counts that workers set, in order."""
    redis.client.config_set("slowlog-max-len", 100000)
    redis.client.config_set("slowlog-log-slower-than", 0)

    def charges():
        commands = [entry["command"].split() for entry in redis.client.slowlog_get(100000)]
        return [int(words[words.index(b"RETRYCOUNT") + 1]) for words in reversed(commands) if b"RETRYCOUNT" in words]
    return charges


def hang(bridge, pid):
    os.kill(pid, signal.SIGSTOP)


def restart(bridge):
    """Restarts worker:1 without waiting for the successor, unlike the command."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(bridge.socket))
        connection.sendall(b'{"verb":"restart","target":"worker:1","wait":false}')
        assert json.loads(connection.recv(65536))["ok"]


def outlast_the_stop_timeout(bridge, pid):
    os.kill(pid, signal.SIGSTOP)
    restart(bridge)


@pytest.mark.parametrize("end", [hang, outlast_the_stop_timeout])
def test_a_worker_killed_while_it_waits_for_the_hub_charges_no_entry(
        bridge, redis, make_hub, database, charges, end):
    hub = make_hub()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="60s")
    bridge.settings["worker"] = WORKER
    bridge.settings["supervisor"].update(instance="here", hang_timeout="3s" if end is hang else "60s",
                                         stop_timeout="1s")
    sent = [("wait/x", f"message {number}") for number in range(3)]
    pend(redis, sent)
    sse = hub.subscribe("*")
    hub.freeze()
    bridge.start(wait=False)
    for kill in range(1, WORKER["delivery_limit"] + 3):
        pid = wait_until(lambda: bridge.pids("worker"), 20, "a worker runs")[0]
        wait_until(lambda: charges() == [2, 1] * kill, 20,
                   lambda: f"the first was charged, and then the hub was waited for: {charges()}")
        end(bridge, pid)
        wait_until(lambda: pid not in bridge.pids("worker"), 20, "the worker is killed")
    wait_until(lambda: bridge.log().count("SIGKILL") >= WORKER["delivery_limit"] + 2, 10, bridge.supervisor.log_tail)
    hub.thaw()
    redis.wait_drained()
    assert database.failures() == []
    account_when_seen(sent, sse).assert_nothing_lost()
    sse.close()


def test_restarts_while_the_hub_is_frozen_cost_the_entries_nothing(bridge, redis, make_hub, database, charges):
    hub = make_hub()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="60s")
    bridge.settings["worker"] = WORKER
    bridge.settings["supervisor"].update(instance="here", stop_timeout="1s")
    pend(redis, [("wait/x", "1"), ("wait/x", "2")])
    hub.freeze()
    bridge.start(wait=False)
    for turn in range(1, WORKER["delivery_limit"] + 3):
        pid = wait_until(lambda: bridge.pids("worker"), 20, "a worker runs")[0]
        wait_until(lambda: charges().count(2) == turn, 20,
                   lambda: f"the first is charged with one death before it is sent: {charges()}")
        restart(bridge)
        wait_until(lambda: pid not in bridge.pids("worker"), 20, "the worker has ended")
    assert set(charges()) == {1, 2}
    hub.thaw()
    redis.wait_drained()
    assert database.failures() == []


def two_hubs(makers, choking, hub):
    """A proxy that passes requests with the word `choke` to the first hub, and others to the second."""
    return makers.keep(Proxy(makers.new_folder("two-hubs"), f"""
    @choke expression `{{http.request.body}}.contains("choke")`
    reverse_proxy @choke 127.0.0.1:{choking.port}
    reverse_proxy 127.0.0.1:{hub.port}
"""))


def test_a_message_that_kills_only_when_it_is_sent_again_goes_aside_too(bridge, makers, redis, hub, make_hub, database,
                                                                        charges):
    choking = make_hub()
    both = two_hubs(makers, choking, hub).start()
    choking.freeze()
    bridge.settings["mercure"].update(url=both.url, timeout="1500ms")
    bridge.settings["worker"] = WORKER
    bridge.settings["supervisor"]["instance"] = "here"
    pend(redis, [("a/x", "choke")])
    deaths = 0
    while deaths < WORKER["delivery_limit"]:
        process = bridge.run_program("worker", name=f"worker-{len(charges())}")
        # It failed, our own probe passed, and it is charged for a second before it is sent again.
        wait_until(lambda: "and not on others" in process.log() and charges()[-2:] == [deaths + 1, deaths + 2], 40,
                   lambda: f"it is charged once more: {charges()}\n{process.log_tail()}")
        process.kill()
        deaths = charges()[-1] - 1  # as many as before if the second was over
    bridge.run_program("worker")
    redis.wait_drained()
    rows = database.failures()
    assert len(rows) == 1
    assert f"its worker died {WORKER['delivery_limit']} times" in rows[0]["body"]


def test_a_message_that_only_the_hub_fails_on_is_rejected_when_charged(bridge, makers, redis, hub, make_hub, database,
                                                                       charges):
    choking = make_hub()
    both = two_hubs(makers, choking, hub).start()
    choking.stop()
    bridge.settings["mercure"]["url"] = both.url
    bridge.settings["retry"] = {"max_retries": 0}
    bridge.settings["supervisor"]["instance"] = "here"
    pend(redis, [("a/x", "choke")])
    bridge.run_program("worker")
    redis.wait_drained()
    rows = database.failures()
    assert len(rows) == 1
    assert "again and again" in rows[0]["body"]
    assert charges() == [2, 1, 2, 1, 2, 1, 2]


def test_a_late_hub_answer_is_settled_only_while_the_entry_is_charged(bridge, redis, make_hub, charges):
    hub = make_hub()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="60s")
    bridge.settings["supervisor"]["instance"] = "here"
    pend(redis, [("late/x", "1")])
    hub.freeze()
    bridge.run_program("worker")
    wait_until(lambda: charges() == [2, 1], 15, "it was charged, and then the hub was waited for")
    hub.thaw()
    redis.wait_drained()
    assert charges() == [2, 1, 2]


def drain_without_redis(bridge, redis, hub, count=5):
    """A worker that has been told to end, whose entries are published and which can't tell Redis."""
    bridge.settings["supervisor"]["stop_timeout"] = "60s"
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="60s")
    add_many(redis, [(f"drain/{number}", "x") for number in range(count)])
    hub.freeze()
    process = bridge.run_program("worker")
    wait_until(lambda: redis.pending() == count, 15, "the entries are read")
    redis.stop()
    wait_until(lambda: "Reading interrupted" in process.log(), 15, "the worker knows")
    process.send(signal.SIGTERM)
    return process


def test_a_drain_without_redis_ends_when_nothing_more_can_be_settled(bridge, redis, make_hub):
    hub = make_hub()
    process = drain_without_redis(bridge, redis, hub)
    hub.thaw()
    assert process.wait(10) == 0
    assert "entries are done but could not be acknowledged; they will be handled once more" in process.log()


def test_a_drain_takes_no_longer_than_half_of_the_stop_timeout(bridge, redis, make_hub):
    """The supervisor may need the other half for the consumers."""
    hub = make_hub()
    bridge.settings["supervisor"]["stop_timeout"] = "10s"
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="60s")
    add(redis, "drain/x", "1")
    hub.freeze()
    process = bridge.run_program("worker")
    wait_until(lambda: redis.pending() == 1, 15, "the entry is read")
    process.send(signal.SIGTERM)
    assert process.wait(8) == 0


def test_a_redis_back_during_the_drain_gets_its_acknowledgements(bridge, redis, make_hub):
    hub = make_hub()
    process = drain_without_redis(bridge, redis, hub)
    redis.start()
    hub.thaw()
    assert process.wait(20) == 0
    assert redis.is_drained()


def test_entries_of_others_are_found_behind_own_unreadable_ones(bridge, redis, sse):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(redeliver_timeout=1, claim_interval=500)
    bridge.settings["failure"]["dsn"] = ""
    bridge.settings["supervisor"]["instance"] = "here"
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    for number in range(600):
        redis.client.xadd("messages", {"message": f"not an envelope {number}"})
    redis.client.xreadgroup("symfony", "here-1", {"messages": ">"}, count=600)
    add(redis, "php/x", "1")
    redis.client.xreadgroup("symfony", "php", {"messages": ">"})
    bridge.run_program("worker")
    sse.wait_topic("php/x")


def test_entries_acknowledged_but_not_deleted_by_php_are_deleted(bridge, redis):
    """The PHP worker was killed between its XACK and its XDEL."""
    bridge.settings["transport:async"]["dsn"] = redis.dsn(claim_interval=1000)
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    worker = bridge.run_program("worker")
    wait_until(lambda: redis.client.exists("{messages}__since:symfony"), 15, "it has looked")
    added = redis.client.pipeline()  # in one step, so that the worker does not read it
    added.xadd("messages", {"message": "x"})
    added.xreadgroup("symfony", "consumer", {"messages": ">"})
    entry = added.execute()[0]
    redis.client.xack("messages", "symfony", entry)
    wait_until(lambda: "Removed 1 entries that others had acknowledged and left in the stream" in worker.log(), 15,
               worker.log_tail)
    assert redis.is_drained()


@pytest.mark.parametrize("while_away", ["skipped", "dropped"])
def test_unacknowledged_entries_that_are_not_pending_are_kept(bridge, redis, while_away):
    """An operator made the group skip a backlog, or deleted the name of a consumer with pending entries."""
    bridge.settings["transport:async"]["dsn"] = redis.dsn(claim_interval=1000)
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    worker = bridge.run_program("worker")
    wait_until(lambda: redis.client.exists("{messages}__since:symfony"), 15, "it has looked")
    added = redis.client.pipeline()  # in one step, so that the worker does not read them
    for number in range(5):
        added.xadd("messages", {"message": str(number)})
    if while_away == "skipped":
        added.xgroup_setid("messages", "symfony", "$")
    else:
        added.xreadgroup("symfony", "consumer", {"messages": ">"})
        added.xgroup_delconsumer("messages", "symfony", "consumer")
    added.execute()
    known = redis.client.get("{messages}__since:symfony")
    wait_until(lambda: redis.client.get("{messages}__since:symfony") != known, 15, "it has looked again")
    time.sleep(3)
    assert redis.client.xlen("messages") == 5, worker.log_tail()
