"""A worker that ends in good order gives back what it has: the next one finds new what was not begun."""

import signal
import threading

import pytest
from bridge import wait_until
from bridge.entries import add_many, pend
from bridge.faulty import FaultyHub
from bridge.handlers import handler_command
from bridge.process import is_pending

# Answers `slow` once the test releases it, and `hold` when `release` comes: handed over one at a time, that is never. With `deaf`
# it hears neither the end of its input nor SIGTERM.
SCRIPT = '''
import json, os, signal, sys, time
def answer(id):
    print(json.dumps({"id": id, "updates": [{"data": id}]}), flush=True)
print('{"ready":true}', flush=True)
held = []
for line in sys.stdin:
    message = json.loads(line)
    with open(sys.argv[1], "a") as file:
        file.write(line)
    if message["payload"] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if message["payload"] == "hold":
        held.append(message["id"])
        continue
    if message["payload"] == "slow":
        while not os.path.exists(sys.argv[1] + ".release"):
            time.sleep(0.01)
    for id in [*held, message["id"]]:
        answer(id)
    held.clear()
'''


@pytest.fixture
def given(given, folder, bridge):
    """What the handler has been given, in order; each message goes to it."""
    bridge.settings["worker"] = {"count": 1, "handler": "test"}
    bridge.settings["handler:test"] = {"command": handler_command(folder, SCRIPT, folder / "given"), "inflight": 1}
    bridge.settings["supervisor"].update(instance="here", stop_timeout="60s")
    return given


def counts(redis):
    """The delivery counts of all pending entries."""
    return [entry["times_delivered"] for entry in redis.client.xpending_range("messages", "symfony", "-", "+", 100000)]


def release_slow(folder, worker):
    """Once the worker knows that it is to end."""
    wait_until(lambda: not is_pending(worker, signal.SIGTERM), 20, "the worker has taken the signal")
    (folder / "given.release").touch()


@pytest.mark.parametrize("successor", ["here", "elsewhere"])
def test_messages_no_handler_had_are_new_after_an_end(bridge, redis, database, folder, given, successor):
    add_many(redis, [("plant", "slow"), *[("plant", "hold")] * 20, ("plant", "release")])
    process = bridge.run_program("worker")
    wait_until(lambda: given() and redis.pending() == 22, 20, "all are read, and one is in hand")
    process.send(signal.SIGTERM)
    release_slow(folder, process.pid)
    assert process.wait() == 0
    assert len(given()) == 1 and counts(redis) == [0] * 21
    bridge.settings["handler:test"]["inflight"] = 32
    bridge.settings["supervisor"]["instance"] = successor
    bridge.run_program("worker")
    redis.wait_drained()
    assert [message["attempt"] for message in given()] == [1] * 22
    assert database.failures() == []


def test_messages_given_back_that_a_reading_leaves_out_stay_new(bridge, redis, folder, given):
    bridge.settings["worker"]["prefetch_bytes"] = "16M"
    sent = [("plant", "slow"), *[("plant", "1")] * 30, *[("plant", "x" * 400_000)] * 10]
    add_many(redis, sent)
    process = bridge.run_program("worker")
    wait_until(lambda: given() and redis.pending() == len(sent), 20, "all are read, and one is in hand")
    process.send(signal.SIGTERM)
    release_slow(folder, process.pid)
    assert process.wait() == 0 and counts(redis) == [0] * (len(sent) - 1)
    bridge.settings["worker"]["prefetch_bytes"] = "1M"
    bridge.settings["handler:test"]["inflight"] = 32
    bridge.run_program("worker")
    redis.wait_drained()
    assert [message["attempt"] for message in given()] == [1] * len(sent)


def test_messages_no_handler_had_are_new_after_a_reload(bridge, redis, database, folder, given):
    add_many(redis, [("plant", "slow"), *[("plant", "hold")] * 20, ("plant", "release")])
    bridge.start()
    wait_until(lambda: given() and redis.pending() == 22, 20, "all are read, and one is in hand")
    bridge.settings["handler:test"]["inflight"] = 32
    bridge.write_config()
    worker, = bridge.pids("worker")
    bridge.supervisor.send(signal.SIGHUP)
    wait_until(lambda: "stopping" in [process["state"] for process in bridge.status()["processes"]], 20, "it is to end")
    release_slow(folder, worker)
    redis.wait_drained()
    assert [message["attempt"] for message in given()] == [1] * 22
    assert database.failures() == []


def test_a_message_given_back_is_charged_when_its_worker_dies(bridge, redis, given):
    """As one that comes from the stream."""
    bridge.settings["supervisor"]["stop_timeout"] = "2s"
    add_many(redis, [("plant/1", "hold"), ("plant/2", "hold")])
    process = bridge.run_program("worker")
    wait_until(lambda: given() and redis.pending() == 2, 20, "one is in hand, the other waits")
    assert process.stop() == 0 and counts(redis) == [1, 0]
    process = bridge.run_program("worker")
    wait_until(lambda: len(given()) == 2, 20, "the one that is new is in hand")
    process.kill()
    assert counts(redis) == [1, 1]
    bridge.run_program("worker")
    wait_until(lambda: len(given()) == 3, 20, "one is in hand once more")
    assert [(message["topic"], message["attempt"]) for message in given()] == [
        ("plant/1", 1), ("plant/2", 1), ("plant/1", 2)]


def test_a_message_in_hand_at_each_end_is_not_new_and_not_charged(bridge, redis, database, given):
    bridge.settings["supervisor"]["stop_timeout"] = "2s"
    bridge.settings["worker"]["delivery_limit"] = 1
    add_many(redis, [("plant", "hold")])
    for count in (1, 2, 3):
        process = bridge.run_program("worker")
        wait_until(lambda: len(given()) == count, 20, "it is in hand")
        assert process.stop() == 0 and counts(redis) == [1]
    assert [message["attempt"] for message in given()] == [1, 2, 2] and database.failures() == []


def test_an_end_charges_no_redelivered_message(bridge, redis, given):
    bridge.settings["supervisor"]["stop_timeout"] = "2s"
    pend(redis, [("plant", "hold"), ("plant", "hold")])
    process = bridge.run_program("worker")
    wait_until(given, 20, "one is in hand")
    assert process.stop() == 0
    assert counts(redis) == [1, 1]


def test_a_worker_sends_nothing_once_it_has_given_back(bridge, redis, given):
    """The handler makes the end last a second, and the hub answers within it."""
    released = threading.Event()
    hub = FaultyHub(lambda update: released.wait(20) and None)
    bridge.settings["mercure"] |= {"url": hub.url, "connections": 1}
    bridge.settings["supervisor"]["stop_timeout"] = "2s"
    bridge.settings["route:plain"] = {"match": "plain/#"}
    add_many(redis, [("plant", "deaf"), *[(f"plain/{number}", "1") for number in range(3)]])
    try:
        process = bridge.run_program("worker")
        wait_until(lambda: given() and hub.seen and redis.pending() == 4, 20, "one is in hand, one is at the hub")
        process.send(signal.SIGTERM)
        wait_until(lambda: counts(redis) == [1, 0, 0, 0], 20, "what no handler has is given back")
        released.set()
        assert process.wait() == 0
        assert hub.topics() == ["plain/0"]
        assert redis.pending() in (3, 4), "4: the worker had ended before the hub's answer came"
    finally:
        hub.close()
