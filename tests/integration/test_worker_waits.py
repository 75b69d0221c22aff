"""What a worker does while it waits for the hub or for Redis: it says so, it keeps what it has, and it costs
nothing."""

import signal
import time

import pytest
from bridge import wait_until
from bridge.entries import add, add_many, pend, wait_until_claimed
from bridge.process import assert_idle


@pytest.fixture
def slow_hub(bridge, make_hub):
    """A hub that can be frozen for long."""
    hub = make_hub()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="60s")
    bridge.settings["supervisor"].update(instance="here", stop_timeout="60s")
    return hub


def messages(count, prefix="w"):
    return [(f"{prefix}/{number}", f"message {number}") for number in range(count)]


def wait_log(process, text):
    wait_until(lambda: text in process.log(), 20, lambda: f"{text!r} is logged\n{process.log_tail()}")


def test_a_frozen_redis_is_waited_for_without_work(bridge, redis, sse):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(timeout=30)
    add(redis, "a/x", "1")
    worker = bridge.run_program("worker")
    sse.wait_topic("a/x")
    redis.wait_drained()
    redis.freeze()
    time.sleep(11)  # the lease is to be renewed every 5 s, and twice no answer comes
    assert_idle(worker)
    redis.thaw()
    add(redis, "a/x", "2")
    sse.wait_count(2)


def test_after_a_cut_what_is_on_the_wire_is_waited_for_without_work(bridge, redis, slow_hub):
    pend(redis, messages(2))
    slow_hub.freeze()
    worker = bridge.run_program("worker")
    wait_until(lambda: 2 in [entry["times_delivered"] for entry in
                             redis.client.xpending_range("messages", "symfony", "-", "+", 2)], 15, "one is in hand")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    wait_log(worker, "Reading interrupted")
    time.sleep(1.5)  # past the second after which a charge is taken back
    assert_idle(worker)
    slow_hub.thaw()
    redis.wait_drained()


def test_a_worker_that_is_full_waits_without_work(bridge, redis, slow_hub):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(claim_interval=500)
    slow_hub.freeze()
    worker = bridge.run_program("worker")
    wait_log(worker, "is ready")
    add_many(redis, messages(600))
    wait_until(lambda: redis.pending() > 200 or "takes no updates" in worker.log(), 15, "it reads no more")
    time.sleep(1)  # past the claim interval
    assert_idle(worker)
    slow_hub.thaw()
    redis.wait_drained()


def test_a_worker_that_ends_without_redis_waits_for_the_hub_without_work(bridge, redis, slow_hub):
    worker = bridge.run_program("worker")
    wait_log(worker, "is ready")
    slow_hub.freeze()
    add(redis, "a/x", "1")
    wait_until(lambda: redis.pending() == 1, 15, "it is on its way")
    redis.stop()
    wait_log(worker, "Reading interrupted")
    worker.send(signal.SIGTERM)
    time.sleep(2)  # past the moment at which Redis is given up
    assert_idle(worker)
    assert worker.is_running()


def test_a_worker_is_ready_while_a_transport_waits_for_its_lease(bridge, redis, slow_hub):
    bridge.settings["transport:low"] = {"dsn": redis.dsn("/low")}
    bridge.settings["worker"]["transports"] = "async low"
    add_many(redis, messages(600))
    slow_hub.freeze()
    worker = bridge.run_program("worker")
    wait_log(worker, "is ready")


def test_a_worker_with_pending_entries_is_connected_and_says_so(bridge, redis, slow_hub):
    pend(redis, messages(20))
    slow_hub.freeze()
    bridge.settings["worker"]["count"] = 1
    bridge.start(wait=False)
    wait_log(bridge.supervisor, "Worker 1 is ready")
    assert "not connected yet" not in str([p for p in bridge.status()["processes"] if p["name"] == "worker"])


def test_entries_that_wait_for_the_hub_are_not_taken_for_forgotten_ones(make_bridge, bridge, redis, slow_hub, sse):
    """The entries were pending at the start; other workers claim what was idle for redeliver_timeout."""
    dsn = redis.dsn(redeliver_timeout=3, claim_interval=200)
    bridge.settings["transport:async"]["dsn"] = dsn
    other = make_bridge(redis=redis, hub=slow_hub)
    other.settings["transport:async"]["dsn"] = dsn
    pend(redis, messages(3))
    slow_hub.freeze()
    bridge.run_program("worker")
    rival = other.run_program("worker")
    wait_log(rival, "is ready")
    wait_until_claimed(redis, 3)  # for longer than redeliver_timeout
    owners = {entry["consumer"] for entry in redis.client.xpending_range("messages", "symfony", "-", "+", 3)}
    assert owners == {b"here-1"} and "Took over" not in rival.log()
    slow_hub.thaw()
    redis.wait_drained()
