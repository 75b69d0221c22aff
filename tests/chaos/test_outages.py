"""Servers that are stopped, killed or frozen under load, and come back: nothing is lost, and meanwhile the
readiness says who is away."""

import os
import signal

import pytest
from bridge import account, account_when_seen, wait_until
from bridge.hub import REFUSED_TOPIC
from load import PATIENCE, identities, wait_away

HOW = ["stopped", "killed", "frozen"]


def take_away(server, how):
    {"stopped": server.stop, "killed": server.kill, "frozen": server.freeze}[how]()


def outage(bridge, server, how, part):
    """Takes one server away until the readiness names it with its port, and brings it back."""
    take_away(server, how)
    wait_until(lambda: str(server.port) in wait_away(bridge, part)[part], PATIENCE,
               f"{part}: port {server.port} is named")
    server.revive()
    wait_away(bridge)


@pytest.fixture
def bridge_with_kept_entries(bridge, redis):
    """The bridge with acknowledged entries kept in the stream, so that each can be counted."""
    bridge.settings["transport:async"]["dsn"] = redis.dsn(delete_after_ack=0, timeout=1, read_timeout=1)
    return bridge.start()


def assert_one_entry_each(load, redis):
    """Waits until everything has been published, seen and acknowledged; then each message has one entry."""
    load.wait_published()
    load.wait_seen()

    def handled():
        group, = redis.client.xinfo_groups("messages")
        return group["lag"] == 0 and group["pending"] == 0
    wait_until(handled, PATIENCE, lambda: str(redis.client.xinfo_groups("messages")))
    ids = [identity for identity, _ in identities(redis)]
    assert len(ids) == len(set(ids)) == len(load.sent)
    result = account(load.sent, load.sse.events)
    result.assert_nothing_lost()
    result.assert_repeats_recognisable()


@pytest.mark.parametrize("how", HOW)
def test_redis_away_under_load_loses_nothing_and_doubles_no_entry(bridge_with_kept_entries, load, redis, database, rng,
                                                                  how):
    load.start(1500, rate=800)
    load.goes_on(rng.randint(100, 1000))
    outage(bridge_with_kept_entries, redis, how, "redis")
    assert_one_entry_each(load, redis)
    assert database.failures() == []
    assert bridge_with_kept_entries.stop() == 0


def test_redis_away_again_and_again_for_moments_doubles_no_entry(bridge_with_kept_entries, load, redis, rng):
    load.start(5000, rate=2000)
    while load.goes_on(rng.randint(50, 800)):
        take_away(redis, rng.choice(HOW))
        load.goes_on(rng.randint(1, 300))
        redis.revive()
    assert_one_entry_each(load, redis)


def test_redis_outages_and_consumer_kills_double_no_spooled_record(bridge_with_kept_entries, load, redis, rng):
    load.start(3000, rate=1500)
    while load.goes_on(rng.randint(200, 1000)):
        take_away(redis, rng.choice(["killed", "frozen"]))
        load.goes_on(rng.randint(1, 100))
        bridge_with_kept_entries.kill_child("consumer")
        redis.revive()
    load.wait_published()
    load.wait_seen()
    records = identities(redis)
    assert len(records) == len(set(records))
    assert len({identity for identity, _ in records}) == len(load.sent)


def test_messages_are_stored_while_redis_is_missing_at_start(bridge, load, redis):
    redis.stop()
    bridge.start(wait=False)
    wait_away(bridge, "redis")
    load.publish(1000)
    assert len(load.sse) == 0
    redis.start()
    load.finish().assert_exactly_once()
    wait_away(bridge)


@pytest.mark.parametrize("how", HOW)
def test_the_hub_away_under_load_loses_nothing_and_costs_no_retry(fragile, own_load, redis, own_hub, rng, how):
    fragile.settings["mercure"]["timeout"] = "1s"
    fragile.start()
    own_load.start(1000, rate=400)
    own_load.goes_on(rng.randint(50, 500))
    outage(fragile, own_hub, how, "hub")
    assert redis.client.zcard("messages__queue") == 0
    own_load.finish_by_history(own_hub).assert_repeats_recognisable()
    assert '"retry":' not in fragile.log()
    assert fragile.database.failures() == []


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_the_broker_away_under_load_loses_nothing(bridge, load, mosquitto, database, rng, how):
    bridge.settings["mqtt"]["keepalive"] = "1s"
    bridge.start()
    # At QoS 1 the device itself sends again what the broker had stored and not acknowledged: as a new message. At QoS 2
    # Mosquitto 2.0.11 completes some of the device's handshakes after a restart, and forwards the message to nobody.
    load.start(1500, rate=800, qos=1 if how == "stopped" else 2)
    load.goes_on(rng.randint(100, 1000))
    outage(bridge, mosquitto, how, "broker")
    result = load.finish()
    if how == "frozen":
        result.assert_repeats_recognisable()
    assert database.failures() == []
    assert bridge.stop() == 0


def test_messages_saved_by_a_broker_before_its_kill_arrive(bridge, load, mosquitto):
    """Messages that the broker had not saved are lost before the bridge sees them; a real broker saves often."""
    bridge.start()
    load.publish(200)
    load.wait_seen()
    consumer = bridge.kill_child("consumer", with_signal=signal.SIGSTOP)  # so the broker queues
    load.publish(500)
    mosquitto.save()
    mosquitto.kill()
    mosquitto.start()
    os.kill(consumer, signal.SIGCONT)
    load.finish().assert_repeats_recognisable()


def test_after_the_kill_of_a_broker_everything_new_arrives(bridge, load, mosquitto, rng):
    bridge.start()
    load.start(1000, rate=1000)
    load.goes_on(rng.randint(100, 800))
    mosquitto.kill()
    mosquitto.start()
    load.wait_published()
    wait_away(bridge)
    before = set(load.sent)
    load.publish(500)
    wait_until(lambda: not set(account(load.sent, load.sse.events).missing) - before, PATIENCE,
               "everything that was published after it is seen")


@pytest.mark.parametrize("how", HOW)
def test_postgresql_away_loses_no_refused_message_and_doubles_no_row(fragile, own_postgres, publisher, own_load, redis,
                                                                     rng, how):
    fragile.start()
    good = [(f"good/{number % 7}", f"good {number}") for number in range(600)]
    bad = [(REFUSED_TOPIC, f"poison {number}") for number in range(300)]
    thread = publisher.start_all([message for trio in zip(good[::2], bad, good[1::2]) for message in trio], rate=300)
    moment = rng.randint(50, 500)
    wait_until(lambda: publisher.sent >= moment, PATIENCE, "the device publishes")
    take_away(own_postgres, how)
    assert wait_away(fragile, "database")["database"]
    assert fragile.get("/readyz")[0] == 200, "messages flow without it"
    own_postgres.revive()
    thread.join()
    publisher.wait_confirmed(PATIENCE)
    redis.wait_drained(PATIENCE)
    payloads = [row["body"].split("poison ")[1].split("\\")[0] for row in fragile.database.failures()]
    assert sorted(payloads, key=int) == [str(number) for number in range(300)]
    account_when_seen(good, own_load.sse).assert_exactly_once()
    wait_away(fragile)


def test_all_servers_behind_the_broker_away_at_once_lose_nothing(fragile, own_load, redis, own_hub, own_postgres):
    fragile.start()
    own_load.start(1000, rate=500)
    own_load.goes_on(300)
    for server in (redis, own_hub, own_postgres):
        server.kill()
    wait_away(fragile, "redis", "hub", "database")
    for server in (own_hub, own_postgres, redis):
        server.start()
    wait_away(fragile)
    own_load.finish_by_history(own_hub).assert_repeats_recognisable()
