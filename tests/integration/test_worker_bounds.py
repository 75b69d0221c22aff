"""What a worker keeps in memory is bounded, whatever waits: for the hub, for the database, or to be read. What goes
beyond stays pending in Redis, in its order, and stops nobody."""

import time

import pytest
from bridge import wait_until
from bridge.entries import add, add_many, pend, php_value, wait_until_claimed
from bridge.faulty import HANG, FaultyHub
from bridge.process import peak_bytes, sanitizers
from bridge.proxy import Proxy

MIB = 1024 * 1024


def refused(number):
    return f"devices/.well-known/mercure/{number % 20}"  # the hub answers 403 to it, whoever asks


def payloads(sse, start):
    return [str(event.payload) for event in sse.events if event.document["topic"].startswith(start)]


@pytest.fixture
def hanging(bridge, makers, hub, make_hub):
    """A hub that gets the requests that hold the word `hang`; a test freezes it."""
    hanging = make_hub()
    both = makers.keep(Proxy(makers.new_folder("two-hubs"), f"""
    @hang expression `{{http.request.body}}.contains("hang")`
    reverse_proxy @hang 127.0.0.1:{hanging.port}
    reverse_proxy 127.0.0.1:{hub.port}
""")).start()
    bridge.settings["mercure"].update(url=both.url, timeout="60s")
    bridge.settings["worker"]["prefetch_bytes"] = "1M"
    bridge.settings["supervisor"].update(instance="here", stop_timeout="60s")
    return hanging


@pytest.mark.parametrize("put", [add_many, pend])
def test_a_topic_never_answered_stops_no_other_and_keeps_its_order(bridge, redis, hanging, sse, put):
    events = hanging.subscribe("*")
    hanging.freeze()
    count = 2000 if put is add_many else 200
    size = 1000 if put is add_many else 10000
    put(redis, [("hang/x", f"{number} {'x' * size}") for number in range(count)])
    add_many(redis, [(f"good/{number % 7}", f"{number}") for number in range(300)])
    worker = bridge.run_program("worker")
    sse.wait_count(300, timeout=60)
    wait_until(lambda: redis.pending() == count, 30, lambda: f"{redis.pending()} are pending")
    add(redis, "hang/x", "last")
    add(redis, "good/x", "last")
    sse.wait_topic("good/x")
    assert peak_bytes(worker) < 48 * MIB or "asan" in sanitizers(worker)
    hanging.thaw()
    redis.wait_drained(60)
    events.wait_count(count + 1)
    seen = [payload.split()[0] for payload in payloads(events, "hang")]
    assert seen == [*(str(number) for number in range(count)), "last"]
    events.close()


def test_ids_of_entries_left_pending_are_bounded_by_prefetch_bytes(bridge, redis, hanging, sse):
    """Each id takes 32 bytes, and `prefetch_bytes` is 1M here."""
    hanging.freeze()
    add_many(redis, [("hang/x", "x")] * 35000)
    add(redis, "good/x", "1")
    bridge.run_program("worker")
    wait_until(lambda: redis.pending() >= MIB // 32, 60, lambda: f"{redis.pending()} are pending")
    time.sleep(2)
    assert redis.pending() < 35000 and sse.caught_up() == []
    hanging.thaw()
    sse.wait_topic("good/x", timeout=60)


def test_entries_a_busy_worker_leaves_pending_are_not_claimed_by_others(make_bridge, bridge, redis, hanging):
    other = make_bridge(redis=redis, hub=hanging)
    for each in (bridge, other):
        each.settings["transport:async"]["dsn"] = redis.dsn(redeliver_timeout=3, claim_interval=200)
    hanging.freeze()
    add_many(redis, [("hang/x", f"{number} {'x' * 100000}") for number in range(30)])
    bridge.run_program("worker")
    wait_until(lambda: redis.pending() == 30, 30, lambda: f"{redis.pending()} are pending")
    rival = other.run_program("worker")
    wait_until(lambda: "is ready" in rival.log(), 15, "the other worker is ready")
    wait_until_claimed(redis, 30)
    owners = {entry["consumer"] for entry in redis.client.xpending_range("messages", "symfony", "-", "+", 30)}
    assert owners == {b"here-1"} and "Took over" not in rival.log()
    hanging.thaw()
    redis.wait_drained(60)


def test_a_limit_counts_what_was_read_and_left_in_redis(bridge, redis):
    """`prefetch_bytes` holds a few of these, and all of one topic wait for the hub."""
    faulty = FaultyHub(lambda update: HANG)
    bridge.settings["worker"].update(prefetch_bytes="1M", options="--limit=20")
    bridge.settings["mercure"].update(url=faulty.url, timeout="1s")
    add_many(redis, [("hang/x", f"{number} {'x' * 100000}") for number in range(60)])
    worker = bridge.run_program("worker")
    wait_until(lambda: "takes no updates" in worker.log(), 30, "the hub does not answer")
    assert redis.pending() == 20
    faulty.script = lambda update: None
    assert worker.wait(30) == 75
    assert redis.client.xlen("messages") == 40 and redis.pending() == 0
    faulty.close()


def test_an_end_does_not_wait_for_a_topic_that_is_never_answered(bridge, redis, hanging, sse):
    hanging.freeze()
    add_many(redis, [("hang/x", f"{number} {'x' * 1000}") for number in range(1500)])
    add(redis, "good/x", "1")
    bridge.settings["supervisor"]["stop_timeout"] = "60s"  # half of it is more than stop() waits for
    worker = bridge.run_program("worker")
    sse.wait_topic("good/x")
    wait_until(lambda: redis.pending() == 1500, 30, lambda: f"{redis.pending()} are pending")
    worker.stop()
    assert redis.pending() == 1500 and not redis.client.keys("*owner*"), "all is pending, the lease is given back"


def test_good_messages_pass_while_more_fail_than_rows_may_wait(bridge, redis, sse, make_postgres):
    postgres = make_postgres()
    database = postgres.create_database()
    bridge.settings["failure"]["dsn"] = database.dsn
    postgres.stop()
    for part in range(30):
        add_many(redis, [(refused(number), f"poison {part} {number}") for number in range(100)])
        add_many(redis, [(f"good/{number}", f"{part}") for number in range(10)])
    bridge.run_program("worker")
    sse.wait_count(300, timeout=60)
    wait_until(lambda: redis.pending() == 3000, 30, lambda: f"{redis.pending()} are pending")
    postgres.start()
    redis.wait_drained(120)
    rows = database.failures()
    assert len(rows) == 3000 and len({row["headers"] for row in rows}) == 3000


def add_large(redis, count, small):
    """Messages of 1 MiB on four topics, and a small one behind each."""
    pipeline = redis.client.pipeline(transaction=False)
    value = php_value("large/TOPIC", "x" * MIB)
    for number in range(count):
        pipeline.xadd("messages", {"message": value.replace(b"TOPIC", b"%05d" % (number % 4))})
        pipeline.xadd("messages", {"message": php_value(small, str(number))})
    pipeline.execute()


@pytest.mark.waits
def test_large_messages_of_many_topics_that_hang_do_not_fill_the_memory(bridge, redis, database):
    """Each of them waits by itself. All others pass, if not as soon."""
    faulty = FaultyHub(lambda update: HANG if update.topic.startswith("bad/") else None)
    bridge.settings["worker"]["prefetch_bytes"] = "16M"
    bridge.settings["mercure"].update(url=faulty.url, timeout="60s")
    bridge.settings["retry"] = {"max_retries": 0}
    for number in range(48):
        add_many(redis, [(f"bad/{number}", "x" * MIB), *((f"good/{number}", f"{part}") for part in range(10))])
    worker = bridge.run_program("worker")
    wait_until(lambda: len(faulty.topics()) == 480, 120, lambda: f"all others pass; {len(faulty.topics())} have")
    peak = peak_bytes(worker)
    assert peak < 160 * MIB or "asan" in sanitizers(worker), f"{peak // MIB} MiB"
    faulty.close()


@pytest.mark.timeout(300)
def test_a_waiting_message_keeps_no_others_of_its_read_in_memory(bridge, redis):
    faulty = FaultyHub(lambda update: time.sleep(1) if update.topic == "slow/x" else None)
    bridge.settings["worker"]["prefetch_bytes"] = "8M"
    bridge.settings["mercure"].update(url=faulty.url, connections=5)
    add_large(redis, 200, "slow/x")
    worker = bridge.run_program("worker")
    wait_until(lambda: sum(topic.startswith("large/") for topic in faulty.topics()) == 200, 120, "all large ones pass")
    assert redis.pending() > 20, "slow ones wait"
    peak = peak_bytes(worker)
    assert peak < 128 * MIB or "asan" in sanitizers(worker), f"{peak // MIB} MiB, and the large messages alone are 200"
    faulty.script = lambda update: None
    redis.wait_drained(60)
    faulty.close()


def test_large_messages_behind_small_ones_do_not_fill_the_memory(bridge, redis, hub):
    """The worker estimates the size of a page by what it read before: after small messages a page may have 128 MiB."""
    bridge.settings["worker"]["prefetch_bytes"] = "8M"
    bridge.settings["mercure"]["connections"] = 4
    small = [(f"small/{number % 8}", "x") for number in range(300)]
    sse = hub.subscribe("order/x")
    add_many(redis, small)
    add_large(redis, 128, "order/x")
    worker = bridge.run_program("worker")
    sse.wait_count(128, timeout=90)
    assert payloads(sse, "order") == [str(number) for number in range(128)]
    redis.wait_drained(60)
    peak = peak_bytes(worker)
    assert peak < 128 * MIB or "asan" in sanitizers(worker), f"{peak // MIB} MiB, and the large messages alone are 128"
    sse.close()
