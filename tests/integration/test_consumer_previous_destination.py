"""What the spool holds for a destination that is no more, for a client id that is no more, or without
room for what comes: it is said, and there is a way out."""

import json
import signal

from bridge import wait_until
from bridge.consumer import Consumer, assert_all, numbered
from bridge.relays import Relay

MEND = "[spool] former = redirect"


def leave_unsent(consumer, publisher, redis, sent, unsent):
    """Redis has the first; the second are in the spool when it is gone."""
    consumer.set("supervisor", stop_timeout="2s").start()
    publisher.publish_all(sent)
    consumer.wait_entries(len(sent))
    redis.stop()
    publisher.publish_all(unsent)
    consumer.wait_spooled(unsent)
    consumer.stop()


def ordered(entries):
    return [(entry.topic, entry.payload.decode()) for entry in entries]


# A Redis that never comes back ------------------------------------------------------------------------

def test_what_a_lost_redis_had_not_taken_goes_to_the_present_one(make_consumer, make_redis, publisher):
    lost, present = make_redis("--requirepass", "hidden", password="hidden"), make_redis()
    consumer = make_consumer(store=lost)
    sent, unsent = numbered(50, "one/topic"), [("one/topic", f"unsent-{number:05d}") for number in range(700)]
    leave_unsent(consumer, publisher, lost, sent, unsent)

    consumer.redis = present
    consumer.set("transport:async", dsn=present.dsn()).start()
    between = [("one/topic", f"between-{number:05d}") for number in range(300)]
    publisher.publish_all(between)
    consumer.wait_spooled(between)
    consumer.wait_log(MEND)
    place = f"127.0.0.1:{lost.port}/messages"
    line = next(line for line in consumer.log().splitlines() if MEND in line)
    assert place in line and "may come twice" in line and "hidden" not in consumer.log()
    assert present.client.xlen("messages") == 0

    consumer.stop()
    consumer.set("spool", former="redirect").start()
    after = [("one/topic", f"after-{number:05d}") for number in range(300)]
    publisher.publish_all(after)
    entries = consumer.wait_entries(1300)
    assert ordered(entries) == unsent + between + after
    assert_all(unsent + between + after, entries)
    assert f"{place} go to" in consumer.log() and " 700 messages" in consumer.log()

    # It is done: nothing is repeated later, whatever the setting is then.
    consumer.set("spool", former="drain").restart()
    publisher.publish("one/topic", "last")
    assert ordered(consumer.wait_entries(1301)) == unsent + between + after + [("one/topic", "last")]


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


# Room -------------------------------------------------------------------------------------------------

def test_a_message_too_large_for_the_spool_is_kept_as_a_file_and_stops_nothing(make_consumer, redis, publisher):
    """Under MQTT 5 the broker keeps such a message from us."""
    consumer = make_consumer(version="3.1.1").set("spool", size="8M", retain="1M").start()
    publisher.publish("too/large", b"x" * (7 * 1024 * 1024 + 100_000))
    publisher.publish("small", "1")
    assert ordered(consumer.wait_entries(1)) == [("small", "1")]
    file, = (consumer.bridge.state_dir / "spool").rglob("*.oversized")
    assert file.stat().st_size > 7 * 1024 * 1024 + 100_000
    assert 'kept as a file' in consumer.log()


# A spool of nobody's ------------------------------------------------------------------------------------

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


def test_an_orphan_that_waits_for_its_redis_does_not_hide_that_ours_is_connected(make_consumer, make_redis, makers,
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
    wait_until(lambda: own() and own()["connected"], 20, bridge.supervisor.log_tail)
    before = former.tries
    wait_until(lambda: former.tries > before + 1, 20, "the orphan is tried again, and has failed again")
    assert own()["gauges"]["redis_connected"] == 1
    assert "of no consumer" in own()["reason"]
    present.stop()
    wait_until(lambda: own()["gauges"]["redis_connected"] == 0, 20, bridge.supervisor.log_tail)


# What the settings have left behind ----------------------------------------------------------------

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
    assert "sending them there first" in consumer.log()
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
    consumer.restart()
    consumer.wait_log("Removed spool")
    assert {path.name for path in folder.iterdir()} == {"another"}
    assert_all(sent, consumer.wait_idle(publisher))


def test_a_damaged_segment_of_a_former_client_id_is_kept_for_somebody_to_look_at(consumer, publisher, redis):
    consumer.start()
    redis.freeze()
    sent = numbered(700)
    publisher.publish_all(sent)
    consumer.wait_spooled(sent)
    consumer.process.stop(4, signal.SIGQUIT)
    redis.thaw()
    segment, = (consumer.bridge.state_dir / "spool" / "bridge").glob("*/*.segment")
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
    spool, = (path for path in (folder / "bridge").iterdir() if path.is_dir())
    (spool / "000000000000.damaged").write_text("put aside")
    (spool / "notes").write_text("somebody's")
    consumer.set("mqtt", client_id="another").start()
    consumer.wait_log("Emptied spool")
    assert {path.name for path in folder.iterdir()} == {"another", "backup", "bridge", "lost+found"}
    assert {path.name for path in (folder / "backup").iterdir()} == {"dump", "000000000001.segment"}
    assert {path.name for path in spool.iterdir()} == {"000000000000.damaged", "notes"}
    assert "lost+found" not in consumer.log() and "backup" not in consumer.log()
