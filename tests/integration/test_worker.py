"""The worker by itself: from a stream that holds entries to the hub, and what becomes of the others."""

import re
import time

import pytest
from bridge import account, account_when_seen, wait_until
from bridge.entries import add, add_many, json_value, php_value
from bridge.hub import REFUSED_TOPIC
from bridge.process import free_port
from bridge.proxy import choking_proxy


@pytest.fixture
def worker(bridge):
    """start(*arguments, **settings of [worker])."""
    def start(*arguments, name=None, **settings):
        bridge.settings["worker"].update(settings)
        return bridge.run_program("worker", *arguments, name=name)
    return start


def messages(count, topics=8, prefix="w"):
    return [(f"{prefix}/{number % topics}", f"message {number}") for number in range(count)]


def deliveries(redis):
    return {entry["message_id"].decode(): entry["times_delivered"]
            for entry in redis.client.xpending_range("messages", "symfony", "-", "+", 1000)}


def set_deliveries(redis, entries, count):
    owner = redis.client.xpending_range("messages", "symfony", "-", "+", 1)[0]["consumer"]
    redis.client.xclaim("messages", "symfony", owner, 0, entries, retrycount=count, justid=True)


def test_a_message_of_php_is_published_and_acknowledged(worker, redis, sse):
    entry = add(redis, "sensors/room1/temp", '{"temp":21.5}')
    worker()
    event = sse.wait_topic("sensors/room1/temp")
    identity = event.document["id"]
    assert re.fullmatch(f"{entry}-[0-9a-f]{{8}}", identity)
    assert event.id == f"urn:mqtt-bridge:{identity}"
    assert event.document == {"id": identity, "topic": "sensors/room1/temp", "payload": {"temp": 21.5}}
    redis.wait_drained()


@pytest.mark.parametrize("payload, document", [
    ("", {"payload": ""}),
    ("plain text", {"payload": "plain text"}),
    ("21.5", {"payload": 21.5}),
    ('été "quoted" \\ \n', {"payload": 'été "quoted" \\ \n'}),
    (b"\xff\x00\xfe".decode("latin-1"), {"payload": "ÿ\x00þ"}),
])
def test_every_payload_arrives_as_it_was(worker, redis, sse, payload, document):
    add(redis, "p/x", payload)
    worker()
    assert sse.wait_topic("p/x").document["payload"] == document["payload"]


def test_an_entry_of_the_json_serializer_is_understood_as_well(worker, redis, sse):
    redis.client.xadd("messages", {"message": json_value("j/x", "é/1")})
    redis.client.xadd("messages", {"message": json_value("j/y", "bare").split(b'"', 1)[1][:-2]})
    worker()
    assert sse.wait_topic("j/x").payload == "é/1"
    assert sse.wait_topic("j/y").payload == "bare"


def test_order_per_topic_holds_with_one_worker(worker, redis, sse):
    sent = messages(2000, topics=20)
    add_many(redis, sent)
    worker()
    sse.wait_count(2000, timeout=60)
    result = account_when_seen(sent, sse)
    result.assert_exactly_once()
    result.assert_ordered()
    redis.wait_drained()


def test_kill_9_at_random_moments_loses_nothing(worker, redis, sse, rng):
    sent = messages(6000)
    add_many(redis, sent)
    for _ in range(4):
        process = worker()
        before = len(sse)
        wait_until(lambda: len(sse) > before + rng.randint(1, 700), 20, "the worker publishes")
        process.kill()
    worker()
    redis.wait_drained(60)
    result = account_when_seen(sent, sse)
    result.assert_nothing_lost()
    result.assert_repeats_recognisable()


def test_a_redis_that_is_away_or_frozen_costs_nothing(bridge, worker, redis, sse, rng):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(timeout=1)
    sent = messages(5000)
    add_many(redis, sent)
    process = worker()
    for disturb, mend in ((redis.kill, redis.start), (redis.freeze, redis.thaw)):
        before = len(sse)
        wait_until(lambda: len(sse) > min(before + rng.randint(1, 500), 4900), 20, "the worker publishes")
        times = process.log().count("Reading interrupted")
        disturb()
        wait_until(lambda: process.log().count("Reading interrupted") > times, 15, process.log_tail)
        mend()
        wait_until(lambda: process.log().rfind("reading resumed") > process.log().rfind("Reading interrupted"), 15,
                   process.log_tail)
    redis.wait_drained(60)
    result = account_when_seen(sent, sse)
    result.assert_nothing_lost()
    result.assert_repeats_recognisable()


def test_a_hub_that_is_away_costs_no_retry(worker, redis, make_hub, bridge, database):
    hub = make_hub()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key)
    sse = hub.subscribe("*")
    worker()
    add(redis, "h/before", "1")
    sse.wait_topic("h/before")
    hub.stop()
    sent = messages(300, prefix="h")
    add_many(redis, sent)
    wait_until(lambda: redis.pending() > 0, 10, "the worker has read entries")
    hub.start()
    redis.wait_drained(60)
    result = account(sent, [event for event in sse.caught_up() if event.document["topic"] != "h/before"])
    assert database.failures() == []
    assert not result.strange


def test_a_frozen_hub_then_a_kill_loses_nothing(worker, redis, make_hub, bridge):
    hub = make_hub()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="1s")
    sse = hub.subscribe("*")
    process = worker()
    sent = messages(500, prefix="f")
    hub.freeze()
    add_many(redis, sent)
    wait_until(lambda: redis.pending() >= 100, 10, "the worker holds entries")
    process.kill()
    hub.thaw()
    worker()
    redis.wait_drained(60)
    account_when_seen(sent, sse).assert_repeats_recognisable()
    sse.close()


def test_a_refused_message_goes_to_the_failure_table_without_retry(worker, redis, sse, database):
    entry = add(redis, REFUSED_TOPIC, "poison")
    add(redis, "good/one", "1")
    process = worker()
    sse.wait_topic("good/one")
    rows = wait_until(lambda: database.failures(), 15, "a row")
    redis.wait_drained()
    assert len(rows) == 1 and "Retry" not in process.log()
    assert rows[0]["queue_name"] == "failed"
    assert rows[0]["delivered_at"] is None
    assert "UnrecoverableMessageHandlingException" in rows[0]["body"]
    assert re.search(rf'"X-Mqtt-Entry":"{entry}-[0-9a-f]{{8}}"', rows[0]["headers"])


def test_a_failure_store_that_is_away_loses_nothing_and_doubles_nothing(worker, redis, sse, make_postgres, bridge):
    postgres = make_postgres()
    database = postgres.create_database()
    bridge.settings["failure"]["dsn"] = database.dsn
    postgres.stop()
    add_many(redis, [(REFUSED_TOPIC, f"poison {number}") for number in range(20)])
    add(redis, "good/one", "1")
    worker()
    sse.wait_topic("good/one")
    wait_until(lambda: redis.pending() == 20, 15, "the refused ones stay pending")
    postgres.start()
    redis.wait_drained()
    assert len(database.failures()) == 20


def test_a_worker_killed_while_it_writes_failures_doubles_none(worker, redis, database, rng):
    count = 400
    add_many(redis, [(REFUSED_TOPIC, f"poison {number}") for number in range(count)])
    written = 0
    while written < count - 60:
        process = worker()
        target = min(written + rng.randint(20, 150), count - 1)
        wait_until(lambda: len(database.failures()) >= target or redis.is_drained(), 30, "rows")
        process.kill()
        written = len(database.failures())
    worker()
    redis.wait_drained(60)
    rows = database.failures()
    payloads = [row["body"].split("poison ")[1].split("\\")[0] for row in rows]
    assert sorted(payloads, key=int) == [str(number) for number in range(count)]


def test_another_server_at_the_hubs_address_costs_nothing(worker, redis, hub, bridge, database):
    bridge.settings["mercure"]["url"] = f"http://127.0.0.1:{hub.port}/healthz"  # answers 200, but not with our id
    bridge.settings["retry"] = {"max_retries": 0}
    add_many(redis, messages(40))
    process = worker()
    wait_until(lambda: "something else than the hub answered" in process.log(), 15, "it says why")
    wait_until(lambda: "repeats" in process.log(), 30, "it asks again")
    assert redis.client.xlen("messages") == 40 and redis.client.zcard("messages__queue") == 0
    assert database.failures() == []


def test_a_message_that_the_hub_fails_on_costs_retries_and_then_a_row(worker, redis, hub, makers, bridge, database):
    bridge.settings["mercure"]["url"] = choking_proxy(makers, hub).start().url
    bridge.settings["retry"] = {"max_retries": 2, "delay": "100ms", "jitter": 0}
    add(redis, "r/x", "choke")
    worker()
    rows = wait_until(lambda: database.failures(), 30, "a row")
    redis.wait_drained()
    assert len(rows) == 1
    assert rows[0]["body"].count("DelayStamp\\0delay") == 3  # 100, 200, 0
    assert 'delay\\";i:100;' in rows[0]["body"] and 'delay\\";i:200;' in rows[0]["body"]


def test_a_due_delayed_entry_is_handled(worker, redis, sse):
    text = php_value("d/x", "late").split(b'"', 1)[1][:-2]
    member = text[:-1] + b',"uniqid":"abc"}'
    redis.client.zadd("messages__queue", {member: 1000})
    worker()
    assert sse.wait_topic("d/x").payload == "late"
    redis.wait_drained()


def test_an_entry_that_cannot_be_decoded_goes_to_the_failure_transport(worker, redis, sse, database):
    for value in (b"garbage", b"", b's:99:"{}";', b'{"body":"x","headers":[]}', b"\xff\xfe\x00"):
        redis.client.xadd("messages", {"message": value})
    redis.client.xadd("messages", {"other": "field"})
    redis.client.zadd("messages__queue", {b"not json": 1000})
    add(redis, "good/one", "1")
    worker()
    sse.wait_topic("good/one")
    redis.wait_drained()
    assert len(database.failures()) == 7


def test_a_flushed_stream_is_made_anew(worker, redis, sse):
    worker()
    add(redis, "a/x", "1")
    sse.wait_topic("a/x")
    redis.client.flushall()
    add(redis, "b/x", "2")
    assert sse.wait_topic("b/x", 20).payload == 2


def test_a_stream_flushed_under_load_is_made_anew_at_once(worker, redis, sse):
    """Acknowledgements that went down with a connection go out with the next, not seconds later."""
    add_many(redis, messages(3000, prefix="load"))
    worker()
    sse.wait_count(100)
    redis.client.flushall()
    flushed = time.monotonic()
    add(redis, "b/x", "2")
    assert sse.wait_topic("b/x", 20).at - flushed < 3


def test_a_trimmed_entry_is_acknowledged_and_counted_as_trimmed(worker, redis, make_hub, bridge, sse):
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    bridge.settings["supervisor"]["instance"] = "here"
    entry = add(redis, "t/x", "gone")
    redis.client.xreadgroup("symfony", "here-1", {"messages": ">"})
    redis.client.xdel("messages", entry)
    process = worker()
    wait_until(lambda: redis.pending() == 0, 15, "the entry is acknowledged")
    assert "its body is gone" in process.log()


def test_only_one_worker_works_in_a_slot(worker):
    first = worker()
    wait_until(lambda: "is ready" in first.log(), 15, "the first is ready")
    second = worker(name="second")
    assert second.wait(10) == 1
    assert "another worker works in slot 1" in second.log()
    assert first.is_running()


def test_another_host_waits_for_the_lease_of_the_same_name(make_bridge, redis, hub, database, sse):
    dsn = redis.dsn("/messages/symfony/same")
    bridges = [make_bridge(redis=redis, hub=hub, database=database, settings={"transport:async": {"dsn": dsn}})
               for _ in range(2)]
    first = bridges[0].run_program("worker")
    wait_until(lambda: "is ready" in first.log(), 15, "the first is ready")
    second = bridges[1].run_program("worker")
    wait_until(lambda: "waiting for its lease" in second.log(), 15, "the second waits")
    add(redis, "l/x", "1")
    sse.wait_topic("l/x")
    assert "is ready" not in second.log()
    first.stop()
    wait_until(lambda: "is ready" in second.log(), 15, "the second takes the lease")


@pytest.mark.waits
def test_a_dead_hosts_entries_are_taken_over_when_its_lease_ends(make_bridge, redis, make_hub, database):
    hub = make_hub()
    bridges = [make_bridge(redis=redis, hub=hub, database=database) for _ in range(2)]
    sse = hub.subscribe("*")
    hub.freeze()
    first = bridges[0].run_program("worker")
    sent = messages(50, prefix="dead")
    add_many(redis, sent)
    wait_until(lambda: redis.pending() == 50, 15, "the first holds them")
    first.kill()
    hub.thaw()
    bridges[1].run_program("worker")
    redis.wait_drained(40)
    account_when_seen(sent, sse).assert_nothing_lost()
    sse.close()


def test_a_worker_that_stops_hands_its_entries_over_at_once(make_bridge, redis, make_hub, database):
    hub = make_hub()
    bridges = [make_bridge(redis=redis, hub=hub, database=database) for _ in range(2)]
    sse = hub.subscribe("*")
    hub.stop()
    first = bridges[0].run_program("worker")
    sent = messages(50, prefix="over")
    add_many(redis, sent)
    wait_until(lambda: redis.pending() > 0, 15, "the first holds some")
    assert first.stop() == 0
    assert redis.client.keys("*__owner:*") == []
    hub.start()
    bridges[1].run_program("worker")
    redis.wait_drained(12)  # less than a lease's 15 s
    sse.close()


def test_an_entry_that_its_worker_dies_of_goes_aside_and_only_that(worker, redis, make_hub, bridge, database):
    hub = make_hub()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key, timeout="60s")
    bridge.settings["worker"]["delivery_limit"] = 3
    hub.freeze()
    entries = add_many(redis, messages(5, topics=1, prefix="kill"))
    process = worker()
    wait_until(lambda: redis.pending() == 5, 15, "the entries are read")
    process.kill()
    delivered = 1
    while delivered <= 3:
        process = worker()
        wait_until(lambda: deliveries(redis)[entries[0]] == delivered + 1, 15, "the first is charged before it is handled")
        process.kill()  # at once: the charge stands for a second
        counts = deliveries(redis)
        if counts.pop(entries[0]) == delivered + 1:
            assert list(counts.values()) == [1] * 4
            delivered += 1
        else:  # the second was over, and the next may be charged
            set_deliveries(redis, list(counts), 1)
    hub.thaw()
    worker()
    redis.wait_drained()
    rows = database.failures()
    assert len(rows) == 1
    assert "its worker died 3 times" in rows[0]["body"]


def test_limit_ends_the_worker_after_exactly_so_many(worker, redis, sse):
    add_many(redis, messages(30, prefix="limit"))
    process = worker(options="--limit=10")
    assert process.wait(20) == 75
    assert redis.client.xlen("messages") == 20
    assert len(sse.wait_count(10)) == 10


def test_sigterm_drains_what_is_in_hand(worker, redis, sse):
    sent = messages(3000, prefix="term")
    add_many(redis, sent)
    process = worker()
    sse.wait_count(200)
    assert process.stop() == 0
    assert redis.pending() == 0
    worker()
    redis.wait_drained()
    account_when_seen(sent, sse).assert_exactly_once()


def test_transports_are_read_in_order_of_priority(worker, redis, sse, bridge):
    bridge.settings["transport:low"] = {"dsn": redis.dsn("/low")}
    add_many(redis, messages(500, prefix="low"), stream="low")
    add_many(redis, messages(500, prefix="high"))
    worker(transports="async low")
    sse.wait_count(1000, timeout=30)
    first = [event.document["topic"].split("/")[0] for event in sse.caught_up()][:400]
    assert first.count("high") > 380


def test_a_worker_whose_hub_token_cannot_work_says_so_and_ends(worker, bridge):
    bridge.settings["mercure"]["jwt_secret"] = "short"
    process = worker()
    assert process.wait(10) == 2
    assert "jwt_secret (MERCURE_JWT_SECRET) is 5 bytes long" in process.log()


def test_a_wrong_token_waits_and_never_fails_messages(worker, redis, bridge, database):
    bridge.settings["mercure"]["jwt_secret"] = "another secret that is long enough for it"
    add(redis, "auth/x", "1")
    process = worker()
    wait_until(lambda: "(HTTP 401)" in process.log(), 15, "the hub's answer is logged")
    assert redis.pending() == 1
    assert database.failures() == []


def test_a_hub_that_is_not_there_at_start_is_waited_for(worker, redis, bridge, make_hub):
    port = free_port()
    hub = make_hub(port=port)
    hub.stop()
    bridge.settings["mercure"].update(url=hub.url, jwt_secret=hub.publisher_key)
    add(redis, "wait/x", "1")
    worker()
    wait_until(lambda: redis.pending() == 1, 15, "the entry is read")
    hub.start()
    redis.wait_drained()
