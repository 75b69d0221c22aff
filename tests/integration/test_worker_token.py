"""Workers whose token is for some topics only, or for none. Refused messages keep no others from being handled, in
whatever order and number they come."""

import pytest
from bridge import account_when_seen, jwt, wait_until
from bridge.entries import add, add_many, pend
from bridge.proxy import choking_proxy


def narrow(bridge, hub):
    bridge.settings["mercure"].update(url=hub.url, jwt=jwt(hub.publisher_key, publish=["sensors/{name}"]),
                                      jwt_secret=None)
    bridge.settings.setdefault("retry", {"max_retries": 0})
    bridge.settings["supervisor"]["instance"] = "here"


@pytest.fixture
def start(bridge, hub):
    def start_worker(connections=16, **settings):
        narrow(bridge, hub)
        bridge.settings["mercure"]["connections"] = connections
        bridge.settings["worker"].update(settings)
        return bridge.run_program("worker")
    return start_worker


def wait_refused(process):
    wait_until(lambda: "does not accept the token (HTTP 401)" in process.log(), 15, "it is refused")


def wait_for_another_read(redis):
    """Until the read that is under way has ended, whether another one follows at once or not."""
    def reads():
        return redis.client.info("commandstats").get("cmdstat_xreadgroup", {"calls": 0})["calls"]

    def is_waiting():
        return any("b" in client["flags"] for client in redis.client.client_list())
    before = reads()
    wait_until(lambda: reads() > before or not is_waiting(), 15, "the read that was under way has ended")


def test_a_token_for_some_topics_only_finds_a_hub_that_was_away(bridge, redis, make_hub, database):
    """A single lane: only our own probe is left to ask with, and the token does not allow it."""
    hub = make_hub()
    narrow(bridge, hub)
    process = bridge.run_program("worker")
    add(redis, "sensors/a", "1")
    redis.wait_drained()
    hub.stop()
    add(redis, "sensors/a", "2")
    wait_until(lambda: "takes no updates" in process.log(), 15, "the worker notices")
    hub.start()
    redis.wait_drained(60)
    assert database.failures() == []


def assert_others_pass(redis, sse, database, refused):
    """Messages of allowed topics pass in every lane, and the refused ones then count as failures of their own."""
    add_many(redis, [(f"sensors/{number}", "x") for number in range(40)])
    sse.wait_count(40, timeout=30)
    wait_until(lambda: add(redis, "sensors/0", "x") and len(database.failures()) == refused, 30,
               "refused messages are set apart", every=0.2)
    redis.wait_drained(30)
    rows = database.failures()
    assert len(rows) == refused and all("for this message and not for others" in row["body"] for row in rows)


def test_a_topic_that_the_token_is_not_for_holds_up_no_other(start, redis, sse, database):
    """The refused message is alone at first, so the worker cannot tell whether topic or token is at fault."""
    process = start()
    add(redis, "elsewhere", "1")
    wait_refused(process)
    assert_others_pass(redis, sse, database, refused=1)


def test_a_refused_topic_that_is_found_pending_holds_up_no_other(start, redis, sse, database):
    process = start()
    add(redis, "elsewhere", "1")
    wait_refused(process)
    add_many(redis, [("elsewhere", "2"), ("elsewhere", "3")])
    wait_until(lambda: redis.client.xpending("messages", "symfony")["pending"] == 3, 15, "they are read")
    process.kill()
    wait_refused(start())
    assert_others_pass(redis, sse, database, refused=3)


def test_a_message_that_fails_the_hub_is_charged_with_any_token(bridge, makers, redis, hub, database):
    """Our own probe is refused by the token, and yet shows that only this message fails."""
    narrow(bridge, hub)
    bridge.settings["mercure"]["url"] = choking_proxy(makers, hub).start().url
    bridge.run_program("worker")
    add(redis, "sensors/a", "choke")
    redis.wait_drained(60)
    assert len(database.failures()) == 1


@pytest.mark.waits
def test_the_worker_reads_on_after_its_only_message_was_refused(start, redis, database):
    """No entry is left to ask the hub with, and the hub's last answer was a refusal."""
    process = start()
    add(redis, "elsewhere", "1")
    wait_refused(process)
    add(redis, "sensors/1", "x")
    wait_until(lambda: len(database.failures()) == 1, 30, "it is set apart")
    for name in ("sensors/2", "sensors/3"):
        wait_for_another_read(redis)
        add(redis, name, "x")
        redis.wait_drained(20)


def test_the_retry_of_a_refused_message_is_read_when_it_is_due(start, bridge, redis):
    bridge.settings["retry"] = {"max_retries": 1, "delay": "6s", "jitter": 0}
    process = start()
    add(redis, "elsewhere", "1")
    wait_refused(process)
    add(redis, "sensors/1", "x")
    for size, what in ((1, "it is set apart"), (0, "it is due")):
        wait_until(lambda: redis.client.zcard("messages__queue") == size, 30, what)


REFUSED = [("elsewhere", str(number)) for number in range(60)]


def test_refused_messages_that_fill_the_prefetch_hold_up_no_other(start, redis, sse):
    start(prefetch=16)
    add_many(redis, [*REFUSED, ("sensors/1", "x")])
    sse.wait_count(1, timeout=60)


@pytest.mark.parametrize("prefetch", [16, 256])
def test_refused_messages_that_were_pending_hold_up_no_other(start, redis, sse, database, prefetch):
    pend(redis, [*REFUSED, ("sensors/1", "x")])
    start(prefetch=prefetch)
    sse.wait_count(1, timeout=30)
    for number in range(2, 4):
        add(redis, f"sensors/{number}", "x")
    redis.wait_drained(60)
    rows = database.failures()
    assert len(rows) == 60 and all("for this message and not for others" in row["body"] for row in rows)


def test_refused_topics_that_were_pending_hold_up_no_other(start, redis, sse):
    """So many that the rests are longer than a charge stands, and that there are several to a lane."""
    pend(redis, [(f"elsewhere/{number}", "x") for number in range(9)] + [("sensors/1", "x")])
    start(connections=2)
    sse.wait_count(1, timeout=60)


def test_refused_messages_of_a_topic_hold_up_no_lower_transport(start, bridge, redis, sse):
    bridge.settings["transport:low"] = {"dsn": redis.dsn("/low")}
    add_many(redis, REFUSED[:2])
    wait_refused(start(transports="async low"))
    add(redis, "sensors/1", "x", stream="low")
    sse.wait_count(1, timeout=30)


def test_topic_order_holds_behind_messages_refused_with_401(start, redis, sse, database):
    sent = [(f"sensors/{number % 5}", str(number)) for number in range(200)]
    mixed = [message for number, message in enumerate(sent)
             for message in ([(f"elsewhere/{number % 3}", str(number))] if number % 10 == 0 else []) + [message]]
    add_many(redis, mixed)
    start(connections=1)
    redis.wait_drained(60)
    result = account_when_seen(sent, sse)
    result.assert_exactly_once()
    result.assert_ordered()
    assert len(database.failures()) == 20


def test_a_wrong_token_costs_nothing_once_the_hub_takes_it(bridge, redis, make_hub, database):
    """Some are pending, some new; and it reads on beyond its prefetch of 256."""
    sent = [(f"sensors/{number % 3}", str(number)) for number in range(600)]
    wrong = make_hub(publisher_key="of a hub that is not yet set up as it should be")
    bridge.settings["mercure"].update(url=wrong.url)
    bridge.settings["retry"] = {"max_retries": 0}
    bridge.settings["supervisor"]["instance"] = "here"
    pend(redis, sent[:50])
    add_many(redis, sent[50:])
    worker = bridge.run_program("worker")
    wait_refused(worker)
    wait_until(lambda: redis.pending() > 256, 60, "it reads on")
    wrong.stop()
    worker.freeze()  # until somebody listens
    sse = make_hub(port=wrong.port).subscribe("*")
    worker.thaw()
    redis.wait_drained(60)
    assert database.failures() == []
    result = account_when_seen(sent, sse)
    result.assert_exactly_once()
    result.assert_ordered()
    sse.close()


def test_workers_that_come_and_go_beside_a_redis_that_breaks_lose_nothing(make_bridge, redis, hub, sse, database, rng):
    """Entries that are refused change hands, and are forgotten and read again."""
    bridges = [make_bridge(redis=redis, hub=hub, database=database) for _ in range(3)]
    for number, bridge in enumerate(bridges):
        narrow(bridge, hub)
        bridge.settings["supervisor"]["instance"] = f"host-{number}"
        bridge.settings["transport:async"]["dsn"] = redis.dsn(timeout=1)
        bridge.settings["worker"].update(prefetch=32)
    sent = [(f"sensors/{number % 20}", str(number)) for number in range(1500)]
    refused = [(f"elsewhere/{number % 4}", str(number)) for number in range(60)]
    add_many(redis, rng.sample(sent + refused, len(sent) + len(refused)))
    workers = [bridge.run_program("worker") for bridge in bridges]

    def wait_for_some():
        before = len(sse)
        wait_until(lambda: len(sse) > min(before + rng.randint(1, 200), 1400), 30, "they publish")

    for end in (workers[0].kill, workers[1].stop):
        wait_for_some()
        end()
        wait_for_some()
        redis.kill()
        redis.start()
    workers.append(bridges[1].run_program("worker"))

    def all_are_told_apart():
        """Nobody is to blame until another message passes: one passes beside."""
        sent.append(("sensors/0", str(len(sent))))
        add_many(redis, sent[-1:])
        return len(database.failures()) == len(refused)

    wait_until(all_are_told_apart, 90, "what is refused is in the failure table", every=0.5)
    redis.wait_drained(30)
    result = account_when_seen(sent, sse)
    result.assert_nothing_lost()
    result.assert_repeats_recognisable()
    assert len(database.failures()) == 60
    for worker in workers[2:]:
        assert worker.stop() == 0


def test_a_hub_that_refuses_the_probe_is_asked_with_an_entry_of_redis(bridge, redis, make_hub):
    """The worker forgot all entries in hand when hub and Redis were away."""
    hub = make_hub()
    narrow(bridge, hub)
    process = bridge.run_program("worker")
    add(redis, "sensors/1", "x")
    redis.wait_drained()
    hub.stop()
    add(redis, "sensors/1", "y")
    wait_until(lambda: "takes no updates" in process.log(), 15, "it notices")
    redis.kill()
    wait_until(lambda: "Reading interrupted" in process.log(), 15, "it notices that as well")
    hub.start()
    wait_refused(process)
    redis.start()
    redis.wait_drained(30)
