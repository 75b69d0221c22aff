"""Kills, freezes, losses and full stores under the consumer: nothing is lost, and what comes twice can be told."""

import contextlib
import subprocess
import time

import pytest
from bridge import wait_until
from bridge.consumer import READY, VERSIONS, assert_all, numbered
from bridge.relays import Counting, LateRelay


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_consumer_kills_under_load_lose_no_message(make_consumer, publisher, rng, version, qos):
    consumer = make_consumer(version=version, qos=qos).start()
    sent = numbered(6000)
    thread = publisher.start_all(sent, qos=qos, rate=2000)
    kills = 0
    while thread.is_alive() or kills < 2:
        time.sleep(rng.uniform(0.05, 0.5))
        consumer.kill()
        kills += 1
        consumer.start()
    thread.join()
    publisher.wait_confirmed()
    entries = consumer.wait_idle(publisher)
    assert_all(sent, entries, repeats=True)
    # Only what was under way at a kill may come twice: the broker has at most 100 unacknowledged.
    assert len(entries) - len(sent) <= kills * 1000


def test_redis_stopped_and_started_loses_and_doubles_nothing(consumer, publisher, redis):
    consumer.start()
    sent = numbered(4000)
    thread = publisher.start_all(sent, rate=2000)
    for _ in range(3):
        time.sleep(0.3)
        redis.restart()
    thread.join()
    publisher.wait_confirmed()
    assert_all(sent, consumer.wait_idle(publisher))


def test_redis_killed_loses_nothing(consumer, publisher, redis):
    """appendfsync everysec, and the machine stays up: what was written is there; what was not is replayed."""
    consumer.start()
    sent = numbered(4000)
    thread = publisher.start_all(sent, rate=2000)
    for _ in range(3):
        time.sleep(0.3)
        redis.kill()
        redis.start()
    thread.join()
    publisher.wait_confirmed()
    assert_all(sent, consumer.wait_idle(publisher))


def assert_no_record_twice(entries):
    """What the broker repeats is a record of its own, of its own time."""
    records = [(entry.id, entry.headers["X-Mqtt-Received-At"]) for entry in entries]
    assert len(records) == len(set(records)), f"{len(records) - len(set(records))} records of the spool twice"


def test_a_late_batch_of_a_dead_consumer_is_fenced(consumer, publisher, redis, makers):
    line = makers.keep(LateRelay(redis.port))
    consumer.set("transport:async", dsn=f"redis://127.0.0.1:{line.port}/messages").start()
    sent = numbered(200)
    publisher.publish_all(sent[:100])
    consumer.wait_entries(100)
    line.hold()
    publisher.publish_all(sent[100:])
    consumer.wait_spooled(sent)
    wait_until(lambda: sent[100][1].encode() in line.held, 10, "a batch is on its way")
    consumer.kill()
    consumer.start()
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)
    line.release()
    wait_until(lambda: b"\r\n" in line.answers, 10, "Redis has answered what came late")
    assert_no_record_twice(consumer.wait_idle(publisher))
    assert b"FENCED" in line.answers


def test_a_kill_while_redis_is_frozen_loses_and_doubles_nothing(consumer, publisher, redis):
    """Batches that lie in the socket of a frozen Redis are executed when it thaws, after the successor has
    been started."""
    consumer.start()
    sent = numbered(3000)
    for part in range(3):
        thread = publisher.start_all(sent[part * 1000:(part + 1) * 1000], rate=3000)
        time.sleep(0.1)
        redis.freeze()
        thread.join()
        publisher.wait_confirmed()
        consumer.stop() if part == 1 else consumer.kill()
        consumer.start(wait=False)
        redis.thaw()
        consumer.wait_log(READY)
        consumer.wait_idle(publisher)
    entries = [entry for entry in consumer.entries() if entry.topic != "marker"]
    assert_all(sent, entries, repeats=True)
    assert_no_record_twice(entries)


def test_a_redis_that_was_frozen_goes_on_without_loss_or_repeat(consumer, publisher, redis):
    consumer.set("transport:async", dsn=redis.dsn(timeout=1, read_timeout=1)).start()
    sent = numbered(3000)
    thread = publisher.start_all(sent, rate=1500)
    time.sleep(0.3)
    redis.freeze()
    consumer.wait_log("no answer in time")
    redis.thaw()
    thread.join()
    publisher.wait_confirmed()
    assert_all(sent, consumer.wait_idle(publisher))


def test_a_flushed_redis_gets_what_the_spool_has_again(consumer, publisher, redis):
    consumer.start()
    sent = numbered(500)
    publisher.publish_all(sent)
    consumer.wait_entries(500)
    redis.client.flushall()
    publisher.publish("load/after", "x")
    sent.append(("load/after", "x"))
    assert_all(sent, consumer.wait_entries(len(sent)))
    consumer.wait_log("sending them again")


def test_a_redis_flushed_while_the_consumer_is_down_gets_it_again(consumer, publisher, redis):
    consumer.start()
    sent = numbered(300)
    publisher.publish_all(sent)
    consumer.wait_entries(300)
    consumer.stop()
    redis.client.flushall()
    consumer.start()
    assert_all(sent, consumer.wait_entries(300))


def test_a_redis_set_back_gets_only_what_it_lost(consumer, publisher, make_redis, redis):
    consumer.start()
    sent = numbered(200)
    publisher.publish_all(sent)
    consumer.wait_entries(200)
    mark = next(key for key in redis.client.keys("*__spool:*"))
    value, ids = redis.client.get(mark), [entry_id for entry_id, _ in redis.client.xrange("messages")]
    more = [("load/later", str(number)) for number in range(100)]
    publisher.publish_all(more)
    consumer.wait_entries(300)
    consumer.stop()
    redis.client.set(mark, value)
    for entry_id, _ in redis.client.xrange("messages"):
        if entry_id not in ids:
            redis.client.xdel("messages", entry_id)
    consumer.start()
    assert_all(sent + more, consumer.wait_entries(300))


def test_a_wiped_spool_under_a_mark_goes_on(consumer, publisher, redis):
    consumer.start()
    sent = numbered(100)
    publisher.publish_all(sent)
    consumer.wait_entries(100)
    consumer.stop()
    subprocess.run(["rm", "-rf", consumer.bridge.state_dir / "spool"], check=True)
    publisher.publish("load/down", "1")
    consumer.start()
    publisher.publish("load/after", "2")
    sent += [("load/down", "1"), ("load/after", "2")]
    assert_all(sent, consumer.wait_entries(102))


def test_an_old_spool_under_a_newer_mark_repeats_rather_than_skips(consumer, publisher, redis):
    """A restored volume: the mark is above the spool's last record."""
    consumer.start()
    first = numbered(50)
    publisher.publish_all(first)
    consumer.wait_entries(50)
    consumer.stop()
    spool = consumer.bridge.state_dir / "spool"
    subprocess.run(["cp", "-a", spool, f"{spool}-copy"], check=True)
    consumer.start()
    publisher.publish_all([("load/between", str(number)) for number in range(50)])
    consumer.wait_entries(100)
    consumer.stop()
    subprocess.run(["rm", "-rf", spool], check=True)
    subprocess.run(["mv", f"{spool}-copy", spool], check=True)
    consumer.start()
    consumer.wait_log("repeats are possible")
    publisher.publish_all([("load/after", str(number)) for number in range(50)])
    seen = {(entry.topic, entry.payload) for entry in consumer.wait_idle(publisher)}
    assert {("load/after", str(number).encode()) for number in range(50)} <= seen
    assert {("load/between", str(number).encode()) for number in range(50)} <= seen


@contextlib.contextmanager
def out_of_memory(redis):
    redis.client.config_set("maxmemory", 1)
    yield
    redis.client.config_set("maxmemory", 0)


@contextlib.contextmanager
def key_of_another_type(redis):
    redis.client.rename("messages", "aside")
    redis.client.set("messages", "not a stream")
    yield
    redis.client.rename("aside", "messages")


@contextlib.contextmanager
def demoted(redis):
    redis.client.replicaof("127.0.0.1", 1)
    yield
    redis.client.replicaof("NO", "ONE")


def save(redis, status):
    redis.client.bgsave()
    wait_until(lambda: redis.client.info("persistence")["rdb_last_bgsave_status"] == status, 10, status)


@contextlib.contextmanager
def disk_failing(redis):
    redis.client.config_set("save", "3600 1")
    obstacle = redis.folder / "dump.rdb"
    obstacle.mkdir()
    save(redis, "err")
    yield
    obstacle.rmdir()
    save(redis, "ok")


@contextlib.contextmanager
def forbidden(redis):
    redis.client.execute_command("ACL", "SETUSER", "default", "-xadd")
    yield
    redis.client.execute_command("ACL", "SETUSER", "default", "+xadd")


@contextlib.contextmanager
def scripts_forgotten(redis):
    """Between any two of our commands, since requests of that kind wait at every moment."""
    flushing = subprocess.Popen(["redis-benchmark", "-p", str(redis.port), "-c", "4", "-P", "16", "-n", "2000000000",
                                 "-q", "SCRIPT", "FLUSH"], stdout=subprocess.DEVNULL)
    wait_until(lambda: redis.client.info("commandstats").get("cmdstat_script|flush"), 20, "the first flush")
    yield
    flushing.kill()
    flushing.wait()


@pytest.mark.waits
@pytest.mark.parametrize("trouble, words, keeps_connection", [
    (out_of_memory, "OOM", True), (key_of_another_type, "WRONGTYPE", True), (disk_failing, "MISCONF", True),
    (forbidden, "can't run this command", True), (demoted, "READONLY", False), (scripts_forgotten, "NOSCRIPT", False)])
def test_a_redis_that_refuses_is_asked_less_and_less_often(make_consumer, publisher, redis, makers, trouble, words,
                                                           keeps_connection):
    relay = makers.keep(Counting(redis.port))
    consumer = make_consumer().set("transport:async", dsn=f"redis://127.0.0.1:{relay.port}/messages").start()
    sent = numbered(100, "before/{}")
    publisher.publish_all(sent)
    consumer.wait_entries(100)
    lines = consumer.log().count("\n")
    with trouble(redis):
        sent += (behind := numbered(600))
        publisher.publish_all(behind)
        consumer.wait_log(words)
        time.sleep(6)
        assert "takes messages again" not in consumer.log()
        assert consumer.log().count("\n") - lines < 10, consumer.log()
        assert relay.connections == 1 if keeps_connection else relay.connections < 10
    consumer.wait_log("takes messages again")
    assert_all(sent, consumer.wait_idle(publisher))
    assert consumer.log().count("takes messages again") == 1


def test_a_redis_that_fills_up_is_waited_out(make_consumer, make_redis, publisher):
    redis = make_redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    consumer = make_consumer(store=redis).start()
    sent = [("big", f"{number:06d}" + "x" * 3000) for number in range(1500)]
    publisher.publish_all(sent)
    consumer.wait_log("OOM")
    redis.client.config_set("maxmemory", "100mb")
    assert_all(sent, consumer.wait_entries(len(sent)))


def test_two_copies_of_one_state_directory_both_go_on_with_few_repeats(make_consumer, make_mosquitto, make_publisher,
                                                                       publisher, redis):
    """A clone, or a backup that was restored beside the original: two brokers, one stream."""
    first, broker = make_consumer(), make_mosquitto()
    second = make_consumer(broker=broker)
    other = make_publisher(broker.port)
    first.start()
    sent = numbered(20, "shared/{}")
    publisher.publish_all(sent)
    first.wait_entries(20)
    first.stop()
    subprocess.run(["cp", "-a", first.bridge.state_dir, second.bridge.state_dir], check=True)
    first.start()
    second.start()
    for number in range(20):  # in turn: each finds the other's mark
        for client, name in ((publisher, "first"), (other, "second")):
            sent.append((f"load/{name}", f"{number:08d}"))
            client.publish(*sent[-1])
            wait_until(lambda: sent[-1][1].encode() in [entry.payload for entry in first.entries()
                                                        if entry.topic == sent[-1][0]], 20, first.process.log_tail)
    seen = [(entry.topic, entry.payload.decode()) for entry in first.entries()]
    assert set(seen) == set(sent)
    # What is kept comes once more when a strange mark is found, and once more under a mark of one's own.
    assert max(seen.count(message) for message in sent) <= 5 and len(seen) < 4 * len(sent)
    assert "Another process writes the mark of this spool" in first.log() + second.log()
    count = redis.client.xlen("messages")
    publisher.publish("load/last", "first")
    other.publish("load/last", "second")
    wait_until(lambda: redis.client.xlen("messages") == count + 2, 20, "nothing is repeated any more")


def test_the_broker_restarted_loses_nothing(make_consumer, mosquitto, publisher):
    consumer = make_consumer(reconnect_max="300ms").start()
    sent = numbered(2000)
    thread = publisher.start_all(sent, rate=1000)
    time.sleep(0.5)
    mosquitto.restart()
    thread.join()
    publisher.wait_confirmed()
    consumer.wait_log(READY, 2)
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)


def test_a_full_spool_leaves_the_broker_and_comes_back(make_consumer, publisher, redis):
    consumer = make_consumer(version="5").set("spool", size="32M", retain="1M").start()
    redis.freeze()
    sent = [("fill", f"{number:06d}" + "x" * 2000) for number in range(15000)]
    thread = publisher.start_all(sent)
    consumer.wait_log("The spool is nearly full", timeout=30)
    thread.join()
    publisher.wait_confirmed()
    assert consumer.process.is_running()
    redis.thaw()
    consumer.wait_log("The spool has room again", timeout=30)
    consumer.wait_log(READY, 2)
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)


def test_a_consumer_that_ends_on_a_full_spool_sends_first_at_its_start(consumer, publisher, redis):
    consumer.set("spool", size="1M", retain="0").start()
    redis.freeze()
    sent = [("fill", f"{number:06d}" + "x" * 30000) for number in range(90)]
    consumer.process.freeze()  # so that more has come than fits when it looks, and it can't leave in time
    publisher.publish_all(sent)
    consumer.process.thaw()
    assert consumer.process.wait() == 1, "it left in time"
    assert "ending without acknowledging it" in consumer.log()
    consumer.start(wait=False)
    consumer.wait_log("not connected to the broker")
    assert READY not in consumer.log()
    redis.thaw()
    # What the broker has kept is several times the spool's size: it may take some starts.
    def all_there():
        if not consumer.process.is_running():
            consumer.start(wait=False)
        return len(set(consumer.payloads())) == len(sent)
    wait_until(all_there, 30, lambda: consumer.process.log_tail())
    assert_all(sent, consumer.entries(), repeats=True)
