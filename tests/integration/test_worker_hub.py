"""The worker and a hub that does not take everything. Updates are too large, a token is for some topics only, a limiter
refuses, a proxy fails on a message."""

from pathlib import Path

import pytest
from bridge import account_when_seen, jwt, wait_until
from bridge.entries import add_many, php_value
from bridge.nginx import Limiter
from bridge.process import resident_bytes, sanitizers
from bridge.proxy import choking_proxy

MIB = 1024 * 1024


def messages(count, topics=8):
    return [(f"sensors/{number % topics}", f"message {number}") for number in range(count)]


@pytest.mark.timeout(300)
def test_updates_that_are_too_large_for_the_hub_leave_no_memory_behind(bridge, redis, hub, database):
    """Each becomes six times as long in a form, on all connections."""
    process = bridge.run_program("worker")
    wait_until(lambda: "is ready" in process.log(), 15, "the worker is ready")
    for size, count in ((5_000_000, 32), (1_600_000, 32), (11_000_000, 2)):
        value = php_value("big/TOPIC", '"' * size)
        for number in range(count):
            redis.client.xadd("messages", {"message": value.replace(b"TOPIC", b"%05d" % number)})
        redis.wait_drained(120)
    assert len(database.failures()) == 34
    wait_until(lambda: resident_bytes(process) < 64 * MIB + 128 * MIB or "asan" in sanitizers(process), 10,
               lambda: f"prefetch_bytes and something: {resident_bytes(process) // MIB} MiB")


def start_worker(bridge, hub, **settings):
    bridge.settings["mercure"].update(url=hub.url, **settings)
    return bridge.run_program("worker")


@pytest.mark.waits
def test_a_refused_token_is_retried_with_back_off(bridge, redis, hub, makers, database):
    counter = makers.keep(Limiter(makers.new_folder("counter"), hub.port, rate="100000r/s", burst=1000)).start()
    process = start_worker(bridge, counter, jwt=jwt("a key of somebody else, of whom the hub doesn't know"),
                           jwt_secret=None)
    add_many(redis, [(f"sensors/{number}", "x") for number in range(40)])
    wait_until(lambda: "does not accept the token (HTTP 401)" in process.log(), 15, "it says why")
    wait_until(lambda: process.log().count("does not accept the token") > 1, 30, "and again, ten seconds later")
    assert set(counter.statuses()) == {401} and len(counter.statuses()) < 60
    assert database.failures() == [] and redis.client.xlen("messages") == 40


@pytest.fixture
def make_limiter(makers):
    return lambda behind, **options: makers.keep(Limiter(makers.new_folder("limiter"), behind, **options)).start()


@pytest.mark.waits
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("rate, burst", [("50r/s", 0), ("5r/s", 0), ("50r/s", 20)])
def test_a_limit_of_requests_costs_no_retry(bridge, redis, hub, sse, database, make_limiter, status, rate, burst):
    bridge.settings["retry"] = {"max_retries": 0}
    limiter = make_limiter(hub.port, rate=rate, burst=burst, status=status)
    sent = messages(24 if rate == "5r/s" else 160, topics=24)
    add_many(redis, sent)
    start_worker(bridge, limiter)
    redis.wait_drained(90)
    assert set(limiter.statuses()) == {200, status}
    assert database.failures() == []
    result = account_when_seen(sent, sse)
    result.assert_exactly_once()
    result.assert_ordered()


@pytest.mark.parametrize("status", [429, 503])
def test_behind_a_rate_limit_only_messages_that_fail_the_hub_are_charged(bridge, makers, redis, hub, sse, database,
                                                                         make_limiter, status):
    bridge.settings["retry"] = {"max_retries": 0}
    limiter = make_limiter(choking_proxy(makers, hub).start().port, rate="50r/s", status=status)
    sent = messages(80, topics=20)
    add_many(redis, [("bad/1", "choke"), *sent[:40], ("bad/2", "choke"), *sent[40:]])
    start_worker(bridge, limiter)
    redis.wait_drained(90)
    assert len(database.failures()) == 2
    account_when_seen(sent, sse).assert_exactly_once()


@pytest.mark.waits
def test_a_retry_after_of_the_hub_is_waited_for(bridge, redis, hub, make_limiter):
    """Each of six waits two seconds; without being told the worker would ask several times in each."""
    limiter = make_limiter(hub.port, rate="30r/m", headers=[("Retry-After", "3")])
    start_worker(bridge, limiter)
    add_many(redis, [("one/topic", str(number)) for number in range(6)])
    redis.wait_drained(60)
    assert limiter.statuses().count(429) <= 6


def unread_requests(port):
    """How many connections to that port hold something that the server has not read."""
    tables = [Path(f"/proc/net/{table}").read_text(encoding="ascii") for table in ("tcp", "tcp6")]
    fields = [line.split() for table in tables for line in table.splitlines()[1:]]
    return sum(field[1].endswith(f":{port:04X}") and field[3] == "01" and not field[4].endswith(":00000000")
               for field in fields)


def test_a_hub_that_was_away_is_asked_on_all_connections_again(bridge, redis, make_hub):
    hub = make_hub()
    process = start_worker(bridge, hub, jwt_secret=hub.publisher_key, timeout="60s")
    wait_until(lambda: "is ready" in process.log(), 15, "the worker is ready")
    hub.stop()
    add_many(redis, messages(400, topics=400))
    wait_until(lambda: "takes no updates" in process.log(), 15, "the worker notices")
    hub.start()
    redis.wait_drained(30)
    hub.freeze()
    add_many(redis, messages(400, topics=400))
    wait_until(lambda: unread_requests(hub.port) >= 16, 15, lambda: f"{unread_requests(hub.port)} of 16 are in use")
    hub.thaw()
    redis.wait_drained(30)
