"""Routes with `publish = latest` and `publish = batch`: what is gathered in a window and published together."""

import json
import random
import threading
import time

import pytest
from bridge import wait_until
from bridge.entries import add_many, pend, php_value, wait_until_claimed
from bridge.faulty import HANG, PROBE, RESET, FaultyHub
from bridge.proxy import choking_proxy


@pytest.fixture
def start(bridge, hub):
    def start_worker(url=None, **route):
        bridge.settings["route:all"] = {"match": "#", **route}
        bridge.settings["mercure"]["url"] = url or hub.url
        bridge.settings["retry"] = {"max_retries": 0}
        bridge.settings["supervisor"]["instance"] = "here"
        return bridge.run_program("worker")
    return start_worker


def documents_of(events):
    """The documents of all batches, in order."""
    return [document for event in events for document in json.loads(event.data)]


def documents(sse):
    return documents_of(sse.caught_up())


def numbered(count, topics=5):
    return [(f"plant/{number % topics}", str(number)) for number in range(count)]


def number_of(identity):
    return int(identity.rsplit("-", 1)[1])


def test_latest_publishes_the_newest_value_of_each_topic(start, redis, sse, database):
    add_many(redis, numbered(2000))
    start(publish="latest", window="1s")
    redis.wait_drained()
    newest = {event.document["topic"]: event.payload for event in sse.caught_up()}
    assert newest == {f"plant/{topic}": 1995 + topic for topic in range(5)}
    assert len(sse.caught_up()) <= 3 * 5 and database.failures() == []


def test_latest_never_publishes_an_older_value_over_a_newer_one(start, redis, sse):
    start(publish="latest", window="20ms")
    for begin in range(0, 3000, 100):
        add_many(redis, numbered(3000)[begin:begin + 100])
        time.sleep(0.01)  # several windows: no condition to wait for
    redis.wait_drained()
    for topic in range(5):
        values = [event.payload for event in sse.caught_up() if event.document["topic"] == f"plant/{topic}"]
        assert values == sorted(values) and values[-1] == 2995 + topic


def test_latest_publishes_the_newest_value_after_an_outage_of_the_hub(start, redis, hub, make_sse):
    start(publish="latest", window="100ms")
    add_many(redis, numbered(10))
    redis.wait_drained()
    hub.stop()
    add_many(redis, numbered(3000)[10:])
    hub.start()
    seen = make_sse("*")
    add_many(redis, [(f"plant/{topic}", str(5000 + topic)) for topic in range(5)])
    redis.wait_drained(40)
    newest = {event.document["topic"]: event.payload for event in seen.caught_up()}
    assert newest == {f"plant/{topic}": 5000 + topic for topic in range(5)}


def test_a_newest_value_that_is_refused_leaves_the_one_before_it(start, makers, redis, hub, sse, database):
    proxy = choking_proxy(makers, hub, status=400).start()
    add_many(redis, [("plant/1", "first"), ("plant/1", "second"), ("plant/1", "choke"), ("plant/2", "other")])
    start(url=proxy.url, publish="latest", window="200ms")
    redis.wait_drained()
    assert [event.payload for event in sse.caught_up() if event.document["topic"] == "plant/1"] == ["second"]
    [row] = database.failures()
    assert "choke" in row["body"]


def test_the_newest_good_value_is_published_and_each_bad_one_has_a_row(start, redis, sse, database):
    start(publish="latest", window="300ms", data="field:value")
    bad = [("plant/1", f'{{"other":{number}}}') for number in range(20)]
    add_many(redis, [("plant/1", '{"value":1}'), ("plant/1", '{"value":2}'), *bad, ("plant/2", '{"value":3}')])
    redis.wait_drained()
    assert sorted(event.data for event in sse.caught_up()) == ["2", "3"]
    assert len(database.failures()) == 20


def test_a_value_that_is_gone_is_not_published_in_place_of_a_bad_one(start, redis, sse, database):
    process = start(publish="latest", window="2s", data="field:value")
    wait_until(lambda: "is ready" in process.log(), 15, "the group is there")
    values = ['{"value":1}', '{"value":2}', '{"other":3}']
    ids = add_many(redis, [("plant/1", value) for value in values])
    wait_until(lambda: redis.pending() == 3, 15, "all are gathered")
    redis.client.xdel("messages", ids[1])
    redis.wait_drained()
    assert [event.data for event in sse.caught_up()] == ["1"]
    assert len(database.failures()) == 1


def test_a_new_connection_to_redis_forgets_no_value_below_a_bad_one(start, redis, sse, database):
    process = start(publish="latest", window="2s", data="field:value")
    wait_until(lambda: "is ready" in process.log(), 15, "the group is there")
    values = ['{"value":1}'] + [f'{{"other":{number}}}' for number in range(500)]
    add_many(redis, [("plant/1", value) for value in values])
    wait_until(lambda: len(database.failures()) > 5, 15, "bad ones have a row")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    redis.wait_drained()
    assert [event.data for event in sse.caught_up()] == ["1"]
    assert len(database.failures()) == 500


def test_of_several_values_the_one_before_a_refused_one_is_published(start, redis):
    """The hub puts 2 off; 3, 4 and 5 are gathered meanwhile, and 5 is refused."""
    hub = FaultyHub()
    asked = []

    def script(update):
        if update.id == PROBE:
            return None
        asked.append(number_of(update.id))
        return {2: None if 5 in asked else 429, 5: 403}.get(asked[-1])

    def add_value(number):
        headers = {"X-Mqtt-Id": f"{7:032x}-{number}"}
        redis.client.xadd("messages", {"message": php_value("plant/1", str(number), headers)})

    hub.script = script
    try:
        start(url=hub.url, publish="latest", window="20ms")
        for number in (1, 2):
            add_value(number)
            wait_until(lambda number=number: number in asked, 15, f"{number} is sent")
        for number in (3, 4, 5):
            add_value(number)
        redis.wait_drained()
        assert [number_of(identity) for identity in hub.passed if identity != PROBE][-1] == 4
    finally:
        hub.close()


def test_a_value_older_than_the_one_in_flight_is_never_published(start, redis):
    answer = threading.Event()
    hub = FaultyHub(lambda update: None if update.topic != "plant/1" or answer.wait(15) else HANG)

    def add_value(topic, number):
        headers = {"X-Mqtt-Id": f"{7:032x}-{number}"}
        redis.client.xadd("messages", {"message": php_value(topic, str(number), headers)})

    try:
        start(url=hub.url, publish="latest", window="10ms")
        add_value("plant/1", 10)
        wait_until(lambda: hub.seen, 15, "10 is at the hub")
        add_value("plant/1", 9)
        add_value("plant/2", 11)
        wait_until(lambda: "plant/2" in hub.topics(), 15, "what came behind 9 is published")
        answer.set()
        redis.wait_drained()
        assert sorted(number_of(id) for id in hub.seen if id != PROBE) == [10, 11]
    finally:
        hub.close()


def test_a_topic_whose_newest_values_are_never_taken_holds_up_no_other(start, redis, sse, bridge, database):
    bridge.settings["route:bad"] = {"match": "bad/#", "publish": "latest", "window": "50ms", "data": "field:none"}
    bridge.settings["worker"]["prefetch_window"] = "100"
    start(publish="latest", window="50ms")
    for begin in range(0, 1000, 50):
        add_many(redis, [(f"bad/{number % 3}", "1") for number in range(50)] + numbered(1000)[begin:begin + 50])
        time.sleep(0.02)  # several windows: no condition to wait for
    redis.wait_drained()
    newest = {event.document["topic"]: event.payload for event in sse.caught_up()}
    assert newest == {f"plant/{topic}": 995 + topic for topic in range(5)}
    assert len(database.failures()) == 1000


@pytest.mark.parametrize("publish", ["each", "latest", "batch"])
def test_a_redelivered_message_that_kills_its_worker_goes_aside_alone(start, redis, database, publish):
    hub = FaultyHub()
    process = None

    def kill(update):
        if update.topic == "plant/7":
            process.kill()
            return HANG
        return None

    hub.script = kill
    try:
        pend(redis, numbered(20, topics=20))
        for _ in range(7):
            process = start(url=hub.url, publish=publish, window="50ms")
            wait_until(lambda: not process.is_running() or redis.client.xlen("messages") == 0, 20, "it dies or is done")
            if process.is_running():
                break
        redis.wait_drained()
        [row] = database.failures()
        assert "its worker died 5 times" in row["body"] and "plant/7" in row["body"]
        assert set(hub.topics()) == {f"plant/{number}" for number in range(20) if number != 7}
    finally:
        hub.close()


def test_a_batch_has_every_message_in_its_order(start, redis, sse, database):
    sent = numbered(3000)
    add_many(redis, sent)
    start(publish="batch", window="200ms", batch_topic="plants", batch_max="500")
    redis.wait_drained()
    assert [(document["topic"], str(document["payload"])) for document in documents(sse)] == sent
    sizes = [len(json.loads(event.data)) for event in sse.caught_up()]
    assert max(sizes) == 500 and len(sizes) <= 12
    assert database.failures() == []


def test_batches_are_made_for_each_batch_topic(start, redis, make_sse):
    one, two = make_sse("batch/1"), make_sse("batch/2")
    add_many(redis, numbered(100, topics=3))
    start(publish="batch", window="300ms", batch_topic="batch/{level:2}")
    redis.wait_drained()
    for seen, topic in ((one, 1), (two, 2)):
        assert [document["payload"] for document in documents(seen)] == list(range(topic, 100, 3))


def test_a_batch_holds_more_than_may_be_open_without_a_window(start, redis, sse):
    add_many(redis, numbered(5000))
    start(publish="batch", window="3s", batch_topic="plants", batch_max="10000", batch_bytes="3M")
    redis.wait_drained()
    assert len(sse.caught_up()) == 1 and len(documents(sse)) == 5000


def test_of_a_refused_batch_only_the_message_to_blame_goes_aside(start, makers, redis, hub, sse, database):
    proxy = choking_proxy(makers, hub, status=400).start()
    sent = numbered(200)
    sent[77] = ("plant/x", "choke")
    add_many(redis, sent)
    start(url=proxy.url, publish="batch", window="200ms", batch_topic="plants")
    redis.wait_drained()
    seen = [(document["topic"], str(document["payload"])) for document in documents(sse)]
    assert sorted(seen) == sorted(sent[:77] + sent[78:])
    [row] = database.failures()
    assert "choke" in row["body"]


def test_order_holds_and_batches_go_on_behind_a_batch_that_is_refused(start, makers, redis, hub, sse, database):
    proxy = choking_proxy(makers, hub, status=400).start()
    sent = numbered(400)
    sent[30] = ("plant/x", "choke")
    add_many(redis, sent)
    start(url=proxy.url, publish="batch", window="100ms", batch_topic="plants", batch_max="50")
    redis.wait_drained()
    add_many(redis, numbered(500)[400:])
    redis.wait_drained()
    seen = [(document["topic"], str(document["payload"])) for document in documents(sse)]
    assert seen == sent[:30] + sent[31:] + numbered(500)[400:]
    assert max(len(json.loads(event.data)) for event in sse.caught_up()[-3:]) > 1
    assert len(database.failures()) == 1


def test_a_topic_with_nul_bytes_joins_no_batch(start, redis, bridge):
    """Another program's topic, made of a route's name and the topic of its batches. MQTT forbids NUL in a topic."""
    hub = FaultyHub(lambda update: HANG if update.attempt == 1 and update.topic == "plants" else None)
    bridge.settings["route:r"] = {"match": "plant/#", "publish": "batch", "window": "10ms", "batch_topic": "plants"}
    bridge.settings["mercure"]["timeout"] = "2s"
    try:
        process = start(url=hub.url, match="other")
        add_many(redis, [("plant/1", "1")])
        wait_until(lambda: hub.seen, 15, "the batch is at the hub")
        add_many(redis, [("\0r\0plants", "2"), ("\0\0", "3"), ("", "4")])
        wait_until(lambda: "\0r\0plants" in hub.topics(), 15, lambda: process.log())
        redis.wait_drained()
        assert process.is_running()
        assert {"plants", "\0r\0plants"} <= set(hub.topics())
    finally:
        hub.close()


@pytest.mark.parametrize("publish", ["latest", "batch"])
def test_a_window_ends_early_when_prefetch_window_is_full(start, redis, sse, bridge, publish):
    bridge.settings["worker"].update(prefetch="65536", prefetch_window="100")
    add_many(redis, numbered(3000))
    start(publish=publish, window="1h", batch_topic="plants", batch_max="10000")
    wait_until(lambda: redis.client.xlen("messages") < 100, 20, "all but what fits into a window is acknowledged")


@pytest.mark.parametrize("answer", [429, HANG])
@pytest.mark.parametrize("publish", ["latest", "batch"])
def test_a_topic_that_fails_leaves_the_window_to_the_others(start, redis, bridge, publish, answer):
    hub = FaultyHub(lambda update: answer if update.topic == "bad" else None)
    bridge.settings["worker"]["prefetch_window"] = "1000"
    try:
        start(url=hub.url, publish=publish, window="50ms", batch_topic="{level:1}")
        for number in range(100):
            add_many(redis, [("bad", "1")] * 40 + [(f"other/{number}" if publish == "latest" else f"other{number}", "1")])
            time.sleep(0.04)  # some 1,000 a second: no condition to wait for
        wait_until(lambda: len(set(hub.topics()) - {"bad"}) == 100, 5, "the others are published")
        assert "bad" not in hub.topics()
        hub.script = lambda update: None
        redis.wait_drained(60)
    finally:
        hub.close()


def test_a_full_prefetch_limit_is_logged_until_messages_are_read_again(start, redis, bridge):
    hub = FaultyHub(lambda update: 429 if update.topic == "bad" else None)
    bridge.settings["worker"]["prefetch_bytes"] = "1M"
    bridge.settings["worker"]["prefetch_window"] = "1000"
    try:
        process = start(url=hub.url, publish="latest", window="50ms")
        add_many(redis, [("bad", "1")] * 100000)
        wait_until(lambda: "fill [worker] prefetch_bytes" in process.log(), 40, "it is said")
        hub.script = lambda update: None
        redis.wait_drained(60)
        assert "have left: reading resumed" in process.log()
    finally:
        hub.close()


@pytest.mark.parametrize("publish", ["latest", "batch"])
def test_a_stopped_worker_publishes_its_open_windows(start, redis, sse, publish):
    process = start(publish=publish, window="1h", batch_topic="plants")
    add_many(redis, [("plant/1", "1"), ("plant/1", "2")])
    wait_until(lambda: "is ready" in process.log(), 15, "the group is there")
    wait_until(lambda: redis.client.xpending("messages", "symfony")["pending"] == 2, 15, "both are gathered")
    assert process.stop() == 0
    assert redis.client.xlen("messages") == 0
    assert '"payload":2' in sse.wait_count(1)[0].data


@pytest.mark.parametrize("fault", [RESET, HANG])
@pytest.mark.parametrize("publish", ["latest", "batch"])
def test_windows_that_no_hub_takes_at_the_end_are_gathered_again(start, redis, bridge, hub, sse, database, publish,
                                                                 fault):
    faulty = FaultyHub(lambda update: fault, behind=hub.port)
    bridge.settings["supervisor"]["stop_timeout"] = "2s"
    window = {"publish": publish, "batch_topic": "plants", "batch_max": "1000"}
    sent = numbered(300)
    add_many(redis, sent)
    try:
        process = start(url=faulty.url, window="1h", **window)
        wait_until(lambda: redis.pending() == 300, 15, "all are gathered")
        assert process.stop() == 0
        pending = redis.client.xpending_range("messages", "symfony", "-", "+", 1000)
        assert [entry["times_delivered"] for entry in pending] == [0] * 300
        faulty.script = lambda update: None
        start(url=faulty.url, window="1s", **window)
        redis.wait_drained()
        if publish == "batch":
            [batch] = sse.caught_up()
            assert [(document["topic"], str(document["payload"])) for document in json.loads(batch.data)] == sent
        else:
            assert sorted(event.payload for event in sse.caught_up()) == [295, 296, 297, 298, 299]
        assert database.failures() == []
    finally:
        faulty.close()


@pytest.mark.parametrize("publish", ["latest", "batch"])
def test_a_window_longer_than_redeliver_timeout_keeps_its_entries(start, redis, bridge, hub, sse, publish):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(redeliver_timeout=1, claim_interval=100)
    process = start(publish=publish, window="1h", batch_topic="plants", batch_max="1000")
    add_many(redis, numbered(300))
    wait_until(lambda: redis.pending() == 300, 15, "all are gathered")
    rival = bridge.run_program("worker", "--slot", "2")
    wait_until(lambda: "Worker 2 is ready" in rival.log(), 15, "a rival reads")
    wait_until_claimed(redis, 300)
    assert redis.client.xpending("messages", "symfony")["consumers"] == [{"name": b"here-1", "pending": 300}]
    assert process.stop() == 0
    redis.wait_drained()
    seen = documents(sse) if publish == "batch" else [event.document for event in sse.caught_up()]
    assert sorted(document["payload"] for document in seen)[-5:] == [295, 296, 297, 298, 299]
    assert len(seen) == (300 if publish == "batch" else 5)


@pytest.mark.parametrize("publish", ["latest", "batch"])
def test_a_reload_of_a_changed_route_publishes_its_open_windows(bridge, redis, sse, publish):
    route = {"match": "#", "publish": publish, "window": "1h", "batch_topic": "before"}
    bridge.settings["route:all"] = route
    bridge.settings["worker"]["count"] = 1
    bridge.start()
    add_many(redis, numbered(90))
    wait_until(lambda: redis.pending() == 90, 15, "all are gathered")
    route.update(publish="each", topic="behind/{topic}")
    route.pop("batch_topic")
    bridge.write_config()
    bridge.cli("reload")
    sse.wait_count(1 if publish == "batch" else 5)
    add_many(redis, [("plant/0", "100")])
    redis.wait_drained()
    events = sse.caught_up()
    last = events.pop()
    before = documents_of(events) if publish == "batch" else [event.document for event in events]
    assert sorted(document["payload"] for document in before)[-5:] == [85, 86, 87, 88, 89]
    assert len(before) == (90 if publish == "batch" else 5) and last.document["payload"] == 100


def test_a_worker_that_is_behind_publishes_less_often(start, redis, sse, database):
    add_many(redis, numbered(60000))
    began = time.monotonic()
    start(publish="latest", window="20ms")
    redis.wait_drained(60)
    took = time.monotonic() - began
    seen = [event.payload for event in sse.caught_up() if event.document["topic"] == "plant/0"]
    assert seen[-1] == 59995 and database.failures() == []
    assert len(seen) < 16 + 3 * took, f"{len(seen)} updates of a topic in {took:.1f} s"


@pytest.mark.parametrize("publish", ["latest", "batch"])
def test_kills_with_open_windows_lose_nothing(start, redis, sse, publish):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    sent = numbered(20000, topics=50)
    add_many(redis, sent)
    for _ in range(6):
        process = start(publish=publish, window="100ms", batch_topic="plants/{level:2}")
        time.sleep(chance.uniform(0.1, 0.6))  # the moment of the kill
        process.kill()
    start(publish=publish, window="100ms", batch_topic="plants/{level:2}")
    redis.wait_drained(60)
    if publish == "batch":
        wait_until(lambda: {document["payload"] for document in documents(sse)} == set(range(20000)), 15,
                   "every message is seen")
    def newest():
        values = {}
        for document in documents(sse) if publish == "batch" else [event.document for event in sse.caught_up()]:
            values[document["topic"]] = max(values.get(document["topic"], -1), document["payload"])
        return values
    wait_until(lambda: newest() == {f"plant/{topic}": 19950 + topic for topic in range(50)}, 15,
               lambda: f"the newest values are seen: {newest()}")


def test_a_new_connection_to_redis_divides_no_batch(start, redis, sse):
    process = start(publish="batch", window="3s", batch_topic="plants", batch_max="500")
    sent = numbered(100)
    add_many(redis, sent)
    wait_until(lambda: redis.pending() == 100, 15, "all are gathered")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    redis.wait_drained()
    [batch] = sse.caught_up()
    assert [(document["topic"], str(document["payload"])) for document in json.loads(batch.data)] == sent
    assert "Reading interrupted" in process.log()


def test_redelivered_messages_stay_in_batches_of_one_after_a_reconnect(start, redis):
    hub = FaultyHub(lambda update: 503)
    try:
        pend(redis, numbered(20))
        process = start(url=hub.url, publish="batch", window="50ms", batch_topic="plants")
        wait_until(lambda: hub.answers[503] > 0, 15, "the first one is tried")
        redis.client.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda: "Reading interrupted" in process.log(), 15, "the connection is lost")
        hub.script = lambda update: None
        redis.wait_drained()
        batches = [id for id in hub.passed if id != PROBE]
        assert len(batches) == 20 and all(id.endswith("+0") for id in batches), batches
    finally:
        hub.close()


def test_metrics_count_conflated_and_batched_messages(bridge, redis, sse):
    bridge.settings["route:all"] = {"match": "plant/0", "publish": "latest", "window": "1s"}
    bridge.settings["route:rest"] = {"match": "#", "publish": "batch", "window": "1s", "batch_topic": "plants"}
    add_many(redis, numbered(100, topics=2))
    bridge.start()
    redis.wait_drained()
    text = wait_until(lambda: (lambda text: text if "mqtt_bridge_batch_messages_sum" in text and
                               "mqtt_bridge_messages_conflated_total" in text else None)(bridge.get("/metrics")[1]),
                      10, "the metrics are there")
    def total(name):
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))
    assert total("mqtt_bridge_messages_conflated_total") + total("mqtt_bridge_messages_handled_total") == 100
    assert total("mqtt_bridge_batch_messages_sum") == 50


def test_route_shows_a_batch_and_its_window(bridge):
    bridge.settings["route:all"] = {"match": "plant/+", "publish": "batch", "batch_topic": "plants/{1}", "window": "2s"}
    text = bridge.cli("route", "plant/7", "21").stdout
    assert "  topic      plants/7\n" in text and "urn:mqtt-bridge:EXAMPLE-1+0" in text and "window 2000 ms" in text
    assert '"payload":21' in text and "  data       [{" in text


def test_check_says_that_several_workers_do_not_keep_an_order(bridge):
    bridge.settings["route:all"] = {"match": "#", "publish": "latest"}
    bridge.settings["worker"]["count"] = 2
    result = bridge.cli("check")
    assert "subscribers must compare ids" in result.stdout + result.stderr
    bridge.settings["worker"]["count"] = 1
    bridge.write_config()
    result = bridge.cli("check")
    assert "subscribers must compare ids" not in result.stdout + result.stderr
