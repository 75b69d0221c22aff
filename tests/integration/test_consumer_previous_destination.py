"""What a spool holds for a destination or a client id that is no more. It is sent to that destination, or to the one
that has replaced it."""

import json
import signal

import pytest
from bridge import wait_until
from bridge.consumer import Consumer, assert_all, numbered
from bridge.relays import Relay

MEND = "[spool] former = redirect"


def leave_unsent(consumer, publisher, redis, sent, unsent):
    """Redis has the messages of `sent`; those of `unsent` are in the spool when Redis is lost."""
    consumer.set("supervisor", stop_timeout="2s").start()
    publisher.publish_all(sent)
    consumer.wait_entries(len(sent))
    redis.stop()
    publisher.publish_all(unsent)
    consumer.wait_spooled(unsent)
    consumer.stop()


def ordered(entries):
    return [(entry.topic, entry.payload.decode()) for entry in entries]


def test_redirect_sends_messages_unsent_to_a_lost_redis_to_the_new_one(make_consumer, make_redis, publisher):
    lost, present = make_redis("--requirepass", "hidden", password="hidden"), make_redis()
    consumer = make_consumer(store=lost)
    sent, unsent = numbered(50, "one/topic"), [("one/topic", f"unsent-{number:05d}") for number in range(700)]
    leave_unsent(consumer, publisher, lost, sent, unsent)

    consumer.redis = present
    consumer.set("transport:async", dsn=present.dsn()).start()
    between = [("one/topic", f"between-{number:05d}") for number in range(300)]
    publisher.publish_all(between)
    assert ordered(consumer.wait_entries(300)) == between, "what comes for the present one waits for nothing"
    consumer.wait_log(MEND)
    address = f"127.0.0.1:{lost.port}/messages"
    line = next(line for line in consumer.log().splitlines() if MEND in line)
    assert address in line and "may come twice" in line and "hidden" not in consumer.log()

    consumer.stop()
    consumer.set("spool", former="redirect").start()
    after = [("one/topic", f"after-{number:05d}") for number in range(300)]
    publisher.publish_all(after)
    assert_once_and_in_order(consumer.wait_entries(1300), unsent, between + after)
    assert f"{address} goes to" in consumer.log()

    # It is done: nothing is repeated later, whatever the setting is then.
    consumer.set("spool", former="drain").restart()
    consumer.wait_log("Removed spool")
    publisher.publish("one/topic", "last")
    assert_once_and_in_order(consumer.wait_entries(1301), unsent, [*between, *after, ("one/topic", "last")])


def test_the_reason_of_a_lost_redis_is_in_health_and_status(make_bridge, mosquitto, make_redis, publisher,
                                                                hub, database):
    lost, present = make_redis(), make_redis()
    bridge = make_bridge(mosquitto=mosquitto, redis=lost, hub=hub, database=database)
    consumer = Consumer(bridge, lost)
    leave_unsent(consumer, publisher, lost, numbered(10), [("lost", str(number)) for number in range(10)])
    consumer.set("transport:async", dsn=present.dsn())
    bridge.start(wait=False)

    def answer():
        return bridge.cli("health", check=False)
    wait_until(lambda: MEND in answer().stderr, 20, lambda: answer().stderr)
    assert answer().returncode == 1 and f"127.0.0.1:{lost.port}/messages" in answer().stderr
    assert any(MEND in reason for reason in bridge.status()["reasons"])

    def told():  # also where the broker is connected and the present Redis answers
        code, body = bridge.get("/readyz")
        return code == 503 and any(reason.startswith("spool: consumer: ") and MEND in reason
                                   for reason in json.loads(body)["reasons"])
    wait_until(told, 20, lambda: bridge.get("/readyz")[1])
    bridge.stop()


def test_a_killed_redirect_goes_on_where_it_was(make_consumer, make_redis, publisher):
    lost, present = make_redis(), make_redis()
    consumer = make_consumer(store=lost)
    sent, unsent = numbered(50), [("unsent/0", f"{number:06d}" + "x" * 2000) for number in range(8000)]
    leave_unsent(consumer, publisher, lost, sent, unsent)
    consumer.redis = present
    consumer.set("transport:async", dsn=present.dsn()).set("spool", former="redirect").start(wait=False)
    wait_until(lambda: present.client.xlen("messages") > 0, 20, lambda: consumer.process.log_tail(), every=0.001)
    consumer.kill()
    # The setting has done its work already: what it said is in the spool.
    consumer.set("spool", former="drain").start()
    assert ordered(consumer.wait_entries(len(unsent))) == unsent
    assert_all(unsent, consumer.wait_idle(publisher))


def replicate(source, copy, count):
    copy.client.replicaof("127.0.0.1", source.port)
    wait_until(lambda: copy.client.xlen("messages") == count, 20, "the replica has them")


def assert_once_and_in_order(entries, *parts):
    """Of each spool: its messages stand in the order in which they came."""
    assert_all([message for part in parts for message in part], entries)
    seen = ordered(entries)
    for part in parts:
        assert [message for message in seen if message in set(part)] == part


@pytest.mark.parametrize("former", ["drain", "redirect"])
@pytest.mark.parametrize("old", ["alive", "gone", "gone with unsent"])
def test_a_dsn_changed_to_a_lagging_replica_replays_what_it_lacks(make_consumer, make_redis, publisher, old,
                                                                            former):
    master, replica = make_redis(), make_redis()
    consumer = make_consumer(store=master).set("supervisor", stop_timeout="2s").start()
    sent = numbered(200, "one/topic")
    publisher.publish_all(sent[:100])
    consumer.wait_entries(100)
    replicate(master, replica, 100)
    replica.client.replicaof("NO", "ONE")
    publisher.publish_all(sent[100:])
    consumer.wait_entries(200)
    if old != "alive":
        master.stop()
    if old == "gone with unsent":
        sent += (unsent := [("one/topic", f"unsent-{number:05d}") for number in range(50)])
        publisher.publish_all(unsent)
        consumer.wait_spooled(unsent)
    consumer.stop()

    consumer.redis = replica
    consumer.set("transport:async", dsn=replica.dsn()).set("spool", former=former).start()
    more = [("one/topic", f"more-{number:05d}") for number in range(10)]
    publisher.publish_all(more)
    assert_once_and_in_order(consumer.wait_entries(len(sent) + 10), sent, more)
    consumer.wait_log("has been sent")
    consumer.restart()
    consumer.wait_log("Removed spool")
    assert_once_and_in_order(consumer.wait_idle(publisher), sent, more)
    if old == "alive":
        assert master.client.xlen("messages") == 200


def test_another_name_of_the_same_redis_repeats_and_loses_nothing(consumer, publisher, redis):
    consumer.start()
    sent, unsent = numbered(100, "one/topic"), [("one/topic", f"unsent-{number}") for number in range(20)]
    publisher.publish_all(sent)
    consumer.wait_entries(100)
    redis.freeze()
    publisher.publish_all(unsent)
    consumer.wait_spooled(unsent)
    consumer.process.stop(4, signal.SIGQUIT)
    redis.thaw()
    consumer.set("transport:async", dsn=f"redis://localhost:{redis.port}/messages").start()
    more = [("one/topic", f"more-{number}") for number in range(10)]
    publisher.publish_all(more)
    assert_once_and_in_order(consumer.wait_entries(130), sent + unsent, more)
    consumer.wait_log("No consumer owns spool")
    assert_once_and_in_order(consumer.wait_idle(publisher), sent + unsent, more)


def test_a_dsn_that_comes_back_finds_its_own_spool(make_consumer, make_redis, publisher):
    first, second = make_redis(), make_redis()
    consumer = make_consumer(store=first).start()
    sent = numbered(30)
    publisher.publish_all(sent)
    consumer.wait_entries(30)
    consumer.stop()
    consumer.set("transport:async", dsn=second.dsn()).start()
    consumer.redis = second
    publisher.publish("other", "1")
    consumer.wait_entries(1)
    consumer.stop()
    consumer.set("transport:async", dsn=first.dsn()).start()
    consumer.redis = first
    publisher.publish("back", "1")
    assert_all([*sent, ("back", "1")], consumer.wait_idle(publisher))


def test_segments_that_an_earlier_version_has_left_are_sent(make_consumer, make_redis, publisher, redis):
    """Earlier versions kept segments in the client id's folder itself."""
    consumer = make_consumer()
    unsent = [("unsent", str(number)) for number in range(20)]
    leave_unsent(consumer, publisher, redis, numbered(10), unsent)
    folder = consumer.bridge.state_dir / "spool" / "bridge"
    own, = [path for path in folder.iterdir() if path.is_dir()]
    for path in own.iterdir():
        path.rename(folder / path.name)
    own.rmdir()
    redis.start()
    consumer.start()
    consumer.wait_log("has been sent")
    assert_all(numbered(10) + unsent, consumer.wait_idle(publisher))
    consumer.restart()
    consumer.wait_log("Emptied spool")
    assert not list(folder.glob("*segment*"))
    assert_all(numbered(10) + unsent, consumer.wait_idle(publisher))


def test_an_orphan_that_cannot_be_sent_is_counted_and_says_why(make_consumer, make_redis, publisher):
    lost, present = make_redis(), make_redis()
    consumer = make_consumer(store=lost)
    unsent = [("unsent", str(number)) for number in range(20)]
    leave_unsent(consumer, publisher, lost, numbered(10), unsent)
    consumer.redis = present
    consumer.set("mqtt", client_id="another").set("transport:async", dsn=present.dsn()).start()
    consumer.wait_log("spool bridge, of no consumer, keeps 20 messages: the former ")
    line = next(line for line in consumer.log().splitlines() if "of no consumer" in line)
    assert f"127.0.0.1:{lost.port}/messages" in line and MEND in line
    consumer.process.stop(with_signal=signal.SIGQUIT)
    consumer.set("spool", former="redirect").start()
    assert_all(unsent, consumer.wait_entries(20))
    consumer.wait_log("has been sent")


class Refusing(Relay):
    """Hangs up on everybody."""

    tries = 0

    def begin(self, client):
        self.tries += 1


def test_an_orphan_spool_waiting_for_redis_leaves_ours_connected(make_consumer, make_redis, makers,
                                                                                  publisher):
    lost, present = make_redis(), make_redis()
    consumer = make_consumer(store=lost)
    leave_unsent(consumer, publisher, lost, numbered(10), numbered(20, "unsent"))
    bridge = consumer.bridge
    consumer.set("mqtt", client_id="another").set("transport:async", dsn=present.dsn())
    former = makers.keep(Refusing(0, own_port=lost.port))
    consumer.set("mercure", url="http://127.0.0.1:9/.well-known/mercure", jwt_secret="s" * 32)
    bridge.start(wait=False)
    wait_until(lambda: "spool bridge, of no consumer, keeps" in bridge.log(), 20, bridge.supervisor.log_tail)

    def own():
        try:
            processes = json.loads(bridge.get("/status")[1])["processes"]
        except OSError:
            return None  # the monitor is not there yet
        return next((process for process in processes if process["name"] == "consumer"), None)
    wait_until(lambda: (found := own()) and found["connected"], 20, bridge.supervisor.log_tail)
    before = former.tries
    wait_until(lambda: former.tries > before + 1, 20, "the orphan is tried again, and has failed again")
    assert own()["gauges"]["redis_connected"] == 1
    assert "of no consumer" in own()["reason"]
    present.stop()
    wait_until(lambda: own()["gauges"]["redis_connected"] == 0, 20, bridge.supervisor.log_tail)


def test_a_changed_stream_gets_only_what_was_stored_for_it(consumer, publisher, redis):
    consumer.start()
    redis.freeze()
    before = numbered(700, topic="before/{}")
    publisher.publish_all(before)
    consumer.wait_spooled(before)
    consumer.process.stop(4, signal.SIGQUIT)
    redis.thaw()
    consumer.set("transport:async", dsn=redis.dsn("/other")).start()
    after = numbered(700, topic="after/{}")
    publisher.publish_all(after)
    wait_until(lambda: redis.client.xlen("other") == 700, 20, lambda: consumer.process.log_tail())
    assert_all(before, consumer.entries("messages"))
    assert_all(after, consumer.entries("other"))
    assert "No consumer owns spool" in consumer.log()
    consumer.restart()
    publisher.publish("last", "")
    wait_until(lambda: redis.client.xlen("other") == 701, 20, lambda: consumer.process.log_tail())
    assert redis.client.xlen("messages") == 700


def test_the_spool_of_a_former_client_id_is_sent_and_then_removed(consumer, publisher, redis):
    consumer.start()
    redis.freeze()
    sent = numbered(700)
    publisher.publish_all(sent)
    consumer.wait_spooled(sent)
    consumer.process.stop(4, signal.SIGQUIT)
    redis.thaw()
    consumer.set("mqtt", client_id="another").start()
    consumer.wait_log("has been sent")
    assert_all(sent, consumer.wait_entries(700))
    folder = consumer.bridge.state_dir / "spool"
    assert {path.name for path in folder.iterdir()} == {"bridge", "another"}
    (folder / "bridge" / "subscriptions.new").write_text("of a process that was killed while it wrote")
    consumer.restart()
    consumer.wait_log("Removed spool")
    assert {path.name for path in folder.iterdir()} == {"another"}
    assert_all(sent, consumer.wait_idle(publisher))


def test_a_damaged_segment_of_a_former_client_id_is_kept(consumer, publisher, redis):
    consumer.start()
    redis.freeze()
    sent = numbered(700)
    publisher.publish_all(sent)
    consumer.wait_spooled(sent)
    consumer.process.stop(4, signal.SIGQUIT)
    redis.thaw()
    segment, = (consumer.bridge.state_dir / "spool" / "bridge").rglob("*.segment")
    folder = segment.parent
    whole = segment.read_bytes()
    # In neither of the two batches, of 256 at most, that may wait in the frozen server's socket.
    assert whole.count(b"00000600") == 1
    segment.write_bytes(whole.replace(b"00000600", b"0000x600"))
    consumer.set("mqtt", client_id="another").start()
    consumer.wait_log("has been sent")
    lost = sent.pop(600)
    assert lost[1] == "00000600"
    assert_all(sent, consumer.wait_entries(699))
    consumer.restart()
    consumer.wait_log("Emptied spool")
    assert [path.name for path in folder.iterdir()] == [segment.with_suffix(".damaged").name]
    consumer.restart()
    assert "No consumer owns" not in consumer.log()


def test_a_folder_beside_the_spools_that_is_none_is_left_alone(consumer, redis):
    consumer.start()
    consumer.process.stop()
    folder = consumer.bridge.state_dir / "spool"
    (folder / "lost+found").mkdir()
    (folder / "backup").mkdir()
    (folder / "backup" / "dump").write_text("precious")
    (folder / "backup" / "000000000001.segment").write_text("no header")
    own, = (path for path in (folder / "bridge").iterdir() if path.is_dir())
    (own / "000000000000.damaged").write_text("put aside")
    (own / "notes").write_text("somebody's")
    consumer.set("mqtt", client_id="another").start()
    consumer.wait_log("Emptied spool")
    assert {path.name for path in folder.iterdir()} == {"another", "backup", "bridge", "lost+found"}
    assert {path.name for path in (folder / "backup").iterdir()} == {"dump", "000000000001.segment"}
    assert {path.name for path in own.iterdir()} == {"000000000000.damaged", "notes"}
    assert "lost+found" not in consumer.log() and "backup" not in consumer.log()
