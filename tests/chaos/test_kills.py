"""kill -9 of every program at random moments, under load."""

import os
import signal

import pytest
from bridge import account_when_seen, wait_until
from bridge.hub import REFUSED_TOPIC
from bridge.process import children_of
from load import PATIENCE


@pytest.mark.parametrize("program", ["consumer", "worker", "monitor"])
def test_a_child_killed_at_random_moments_loses_nothing(bridge, load, database, rng, program):
    bridge.start()
    load.start(5000, rate=1600)
    kills = 0
    while load.goes_on(rng.randint(200, 800)):
        bridge.kill_child(program, with_signal=signal.SIGKILL)
        kills += 1
    result = load.finish()
    assert kills >= 2
    assert database.failures() == []
    if program == "monitor":
        result.assert_exactly_once()
    result.assert_repeats_recognisable()
    bridge.wait_ready(PATIENCE)
    assert bridge.stop() == 0


def test_repeats_after_the_death_of_workers_are_recognisable(bridge, load, rng):
    """What a worker had published and not acknowledged comes again, under the same id."""
    bridge.settings["worker"]["count"] = 3
    bridge.start()
    load.start(3000, rate=1600)
    while load.goes_on(rng.randint(100, 600)):
        for pid in bridge.pids("worker"):
            os.kill(pid, signal.SIGKILL)
    load.finish().assert_repeats_recognisable()


def test_all_children_killed_at_once_again_and_again_lose_nothing(bridge, load, database, rng):
    bridge.start()
    load.start(3000, rate=1500)
    while load.goes_on(rng.randint(300, 1000)):
        for pid in children_of(bridge.supervisor.pid):
            os.kill(pid, signal.SIGKILL)
    load.finish().assert_repeats_recognisable()
    assert database.failures() == []
    bridge.wait_ready(PATIENCE)
    assert bridge.stop() == 0


def test_a_supervisor_killed_under_load_ends_all_and_loses_nothing(bridge, load, database,
                                                                                            rng):
    bridge.start()
    load.start(3000, rate=1500)
    deaths = 0
    while load.goes_on(rng.randint(300, 1500)):
        bridge.kill()
        bridge.assert_nothing_left(PATIENCE)
        bridge.start(timeout=PATIENCE)
        deaths += 1
    load.finish().assert_repeats_recognisable()
    assert deaths >= 1
    assert database.failures() == []
    assert bridge.stop() == 0


def test_a_supervisor_killed_while_it_drains_loses_nothing(bridge, load, rng):
    bridge.start()
    load.start(3000, rate=2000)
    while load.goes_on(rng.randint(500, 1500)):
        bridge.supervisor.send(signal.SIGTERM)
        load.goes_on(rng.randint(1, 200))
        if bridge.supervisor.is_running():
            bridge.kill()
        bridge.assert_nothing_left(PATIENCE)
        bridge.start(timeout=PATIENCE)
    load.finish().assert_repeats_recognisable()


def test_everything_but_the_broker_killed_at_once_loses_nothing(fragile, own_load, redis, own_hub, rng):
    fragile.start()
    own_load.start(2000, rate=800)
    while own_load.goes_on(rng.randint(300, 800)):
        for process in (redis, own_hub):
            os.kill(process.pid, signal.SIGKILL)
        fragile.kill()
        for process in (redis, own_hub):
            process.wait()
            process.start()
        fragile.assert_nothing_left(PATIENCE)
        fragile.start(timeout=PATIENCE)
    own_load.finish_by_history(own_hub).assert_repeats_recognisable()
    assert fragile.database.failures() == []


def test_ten_thousand_messages_survive_a_consumer_kill_and_a_worker_kill(bridge, load, database, mosquitto):
    mosquitto.options["max_inflight_messages"] = 100  # of the sessions that begin behind the signal
    mosquitto.configure()
    os.kill(mosquitto.pid, signal.SIGHUP)
    wait_until(lambda: "Reloading config" in mosquitto.log(), 15, lambda: f"new options\n{mosquitto.log_tail()}")
    bridge.start()
    load.start(10000, rate=3000, topics=50)
    for program, after in (("consumer", 4000), ("worker", 2000)):
        assert load.goes_on(after)
        bridge.kill_child(program)
    result = load.finish()
    assert database.failures() == []
    result.assert_repeats_recognisable()
    # What the broker had no answer for, and what a worker had in hand.
    assert sum(result.repeated.values()) - len(result.repeated) <= 100 + 256


def test_workers_killed_among_refused_messages_double_no_row(bridge, publisher, sse, database, redis, rng):
    bridge.start()
    good = [(f"good/{number % 7}", f"good {number}") for number in range(600)]
    bad = [(REFUSED_TOPIC, f"poison {number}") for number in range(300)]
    mixed = [message for pair in zip(good[::2], bad, good[1::2]) for message in pair]
    thread = publisher.start_all(mixed, rate=400)
    while thread.is_alive():
        before = publisher.sent
        wait_until(lambda: publisher.sent >= before + rng.randint(100, 300) or not thread.is_alive(), PATIENCE,
                   "the device publishes")
        bridge.kill_child("worker")
    publisher.wait_confirmed()
    redis.wait_drained(PATIENCE)
    rows = database.failures()
    payloads = [row["body"].split("poison ")[1].split("\\")[0] for row in rows]
    assert sorted(payloads, key=int) == [str(number) for number in range(300)]
    account_when_seen(good, sse).assert_repeats_recognisable()
