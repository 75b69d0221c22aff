"""State that is lost or set back. The spool is wiped while Redis holds its mark; Redis is flushed, emptied or set back
while the spool holds records. Nothing that the broker was told we have is lost, as long as one of the two has it;
repeats carry the same id."""

import shutil

import pytest
from bridge import wait_until
from bridge.proxy import choking_proxy
from load import PATIENCE, wait_away


def spool_of(bridge):
    return bridge.state_dir / "spool"


def wait_dispatched(bridge):
    """Until Redis has everything that the spool holds."""
    wait_until(lambda: bridge.status()["spool"]["messages"] == 0, PATIENCE, lambda: str(bridge.status()["spool"]))


def wait_in_redis(load, count):
    wait_until(lambda: load.redis.client.xlen("messages") == count, PATIENCE, load.waiting)


def marks(redis):
    return redis.client.keys("{messages}__spool:*")


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_spool_wiped_while_redis_holds_its_mark_loses_nothing(fragile, own_load, redis, own_hub, end):
    fragile.start()
    own_hub.stop()
    own_load.publish(500)
    wait_in_redis(own_load, 500)
    wait_dispatched(fragile)
    fragile.stop() if end == "stopped" else fragile.kill()
    fragile.assert_nothing_left(PATIENCE)
    shutil.rmtree(spool_of(fragile))
    own_load.publish(500)  # the broker keeps them
    own_hub.start()
    fragile.start(timeout=PATIENCE)
    own_load.publish(500)
    own_load.finish_by_history(own_hub).assert_repeats_recognisable()
    assert len(marks(redis)) == 2


def test_a_state_directory_wiped_under_pending_entries_loses_nothing(fragile, own_load, redis, own_hub):
    """The instance id is lost as well, so the pending entries belong to an unknown consumer."""
    fragile.start()
    own_hub.stop()
    own_load.publish(300)
    wait_in_redis(own_load, 300)
    wait_until(lambda: redis.pending() > 0, PATIENCE, "workers hold entries")
    fragile.stop()
    shutil.rmtree(fragile.state_dir)
    own_hub.start()
    fragile.start(timeout=PATIENCE)
    own_load.publish(300)
    own_load.finish_by_history(own_hub)


def test_a_spool_wiped_under_a_running_consumer_loses_nothing_sent(bridge, load):
    bridge.start()
    load.publish(500)
    load.wait_seen()
    wait_dispatched(bridge)
    shutil.rmtree(spool_of(bridge))
    load.publish(500)
    load.wait_seen()
    wait_dispatched(bridge)
    bridge.restart()
    load.publish(500)
    load.finish()


def test_redis_flushed_under_load_loses_nothing(bridge, load, redis, database, rng):
    bridge.start()
    load.start(3000, rate=1000)
    while load.goes_on(rng.randint(400, 1500)):
        redis.client.flushall()
    load.finish().assert_repeats_recognisable()
    assert database.failures() == []


def test_redis_flushed_while_entries_wait_in_it_loses_nothing(fragile, own_load, redis, own_hub):
    fragile.start()
    own_hub.stop()
    own_load.publish(700)
    wait_in_redis(own_load, 700)
    redis.client.flushall()
    own_load.publish(300)
    own_hub.start()
    own_load.finish_by_history(own_hub).assert_repeats_recognisable()


def test_redis_flushed_while_the_bridge_is_away_loses_nothing(fragile, own_load, redis, own_hub):
    fragile.start()
    own_hub.stop()
    own_load.publish(700)
    wait_in_redis(own_load, 700)
    fragile.stop()
    redis.client.flushall()
    own_hub.start()
    fragile.start(timeout=PATIENCE)
    own_load.finish_by_history(own_hub).assert_repeats_recognisable()


def test_messages_that_wait_for_their_retry_survive_a_flush(bridge, load, redis, hub, makers):
    """The flush deletes the delayed set as well."""
    bridge.settings["mercure"]["url"] = choking_proxy(makers, hub, word="message").start().url
    bridge.settings["retry"] = {"delay": "1h"}
    bridge.start(wait=False).wait_running()
    load.publish(20)
    wait_until(lambda: redis.client.zcard("messages__queue") == 20, PATIENCE, load.waiting)
    bridge.stop()
    redis.client.flushall()
    bridge.settings["mercure"]["url"] = hub.url
    bridge.start()
    load.finish().assert_exactly_once()


def test_redis_set_back_to_an_older_state_loses_nothing(bridge, load, redis, database):
    """As after a restored backup, or a fail-over to a replica that lagged."""
    bridge.start()
    load.publish(500)
    load.wait_seen()
    load.wait_drained()
    data = redis.folder / "appendonlydir"
    shutil.copytree(data, redis.folder / "older")
    load.publish(500)
    load.wait_seen()
    load.start(1000, rate=1000)
    load.goes_on(300)
    redis.kill()
    shutil.rmtree(data)
    shutil.move(redis.folder / "older", data)
    redis.start()
    result = load.finish()
    result.assert_repeats_recognisable()
    assert len(result.repeated) >= 500, "what came after the copy is sent again"
    assert not {("load/%d" % (number % 8), f"message {number}") for number in range(500)} & set(result.repeated)
    assert database.failures() == []
    assert "has lost messages that it had taken: sending them again" in bridge.log()


def test_redis_set_back_to_a_state_in_which_entries_wait_loses_nothing(fragile, own_load, redis, own_hub):
    fragile.start()
    own_hub.stop()
    own_load.publish(400)
    wait_in_redis(own_load, 400)
    wait_until(lambda: redis.pending() > 0, PATIENCE, "workers hold entries")
    data = redis.folder / "appendonlydir"
    shutil.copytree(data, redis.folder / "older")
    own_hub.start()
    own_load.publish(400)
    own_load.wait_drained()
    wait_dispatched(fragile)
    redis.kill()
    shutil.rmtree(data)
    shutil.move(redis.folder / "older", data)
    redis.start()
    own_load.publish(200)
    own_load.finish_by_history(own_hub).assert_repeats_recognisable()


def test_an_empty_redis_in_its_place_gets_what_the_spool_holds(bridge, load, redis):
    bridge.start()
    load.publish(500)
    load.wait_seen()
    load.start(1000, rate=1000)
    load.goes_on(300)
    redis.kill()
    shutil.rmtree(redis.folder / "appendonlydir")
    redis.start()
    load.finish().assert_repeats_recognisable()
    wait_away(bridge)


def test_redis_and_state_restored_from_a_backup_lose_no_new_message(bridge, load, redis):
    """The backup holds Redis and the state directory as they were before some messages."""
    bridge.start()
    load.publish(300)
    load.wait_seen()
    load.wait_drained()
    bridge.stop()
    redis.stop()
    shutil.copytree(redis.folder / "appendonlydir", redis.folder / "older")
    shutil.copytree(bridge.state_dir, bridge.folder / "older")
    redis.start()
    bridge.start()
    load.publish(300)
    load.wait_seen()
    load.wait_drained()
    bridge.stop()
    redis.stop()
    for older, current in ((redis.folder / "older", redis.folder / "appendonlydir"),
                         (bridge.folder / "older", bridge.state_dir)):
        shutil.rmtree(current)
        shutil.move(older, current)
    redis.start()
    bridge.start()
    load.publish(300)
    load.finish()
