"""The consumer's session with the broker: how it comes back, to which server and with which version."""

import re
import time

import pytest
from bridge import wait_until
from bridge.consumer import READY, VERSIONS, assert_all, numbered
from bridge.relays import DeafBroker, OldBroker
from bridge.scripted import ScriptedBroker

REFUSALS = {"3.1.1's refusal": bytes([0x20, 2, 0, 1]), "5's refusal": bytes([0x20, 3, 0, 0x84, 0]), "hangs up": b""}

SESSION_TAKEN_OVER = 0x8e


def waits_after_losses(consumer):
    return [int(wait) for wait in re.findall(r'lost.*"retry_ms":(\d+)', consumer.log())]


def test_two_consumers_with_one_client_id_back_off_on_a_server_list(make_consumer, mosquitto):
    """A cluster of two nodes that share sessions: the one broker, by two names."""
    nodes = f"tcp://127.0.0.1:{mosquitto.port}, tcp://localhost:{mosquitto.port}"
    one, other = (make_consumer(server_uris=nodes, reconnect_max="60s").start() for _ in range(2))
    one.wait_log(READY, 4, timeout=30)
    assert other.process.is_running()
    waits = waits_after_losses(one)[:3]
    assert len(waits) == 3 and waits[0] >= 75, "reconnect_min is 100 ms, less a quarter"
    assert all(later > earlier for earlier, later in zip(waits, waits[1:])), waits


@pytest.mark.parametrize("stood_s", [0, 10.5], ids=["at once", "after a good while"])
def test_a_session_that_was_taken_over_is_left_alone_for_long(make_consumer, makers, stood_s):
    """A connection that stood for ten seconds resets the back-off, unless it ended with a takeover."""
    def play(link):
        link.accept(session_present=False)
        time.sleep(stood_s)
        link.disconnect(SESSION_TAKEN_OVER)

    broker = makers.keep(ScriptedBroker(play))
    consumer = make_consumer(port=broker.port, qos=2, reconnect_max="60s").start(wait=False)
    consumer.wait_log('another client uses the client id "bridge"', timeout=30)
    wait_ms, = re.findall(r'another client uses.*"retry_ms":(\d+)', consumer.log())
    assert int(wait_ms) >= 45000, "reconnect_max, less a quarter"
    assert broker.connections == 1


@pytest.fixture
def old_broker(mosquitto, makers):
    """make(answer): an OldBroker whose connections to the real one can be cut, and go deaf."""
    def make(answer):
        deaf = makers.keep(DeafBroker(mosquitto.port))
        return makers.keep(OldBroker(deaf.port, answer)), deaf
    return make


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_a_broker_that_refused_mqtt_5_is_reconnected_with_3_1_1(make_consumer, old_broker, publisher,
                                                                            answer):
    old, line = old_broker(answer)
    consumer = make_consumer(port=old.port).start()
    refused = old.refused
    assert refused >= 1
    for count in (2, 3):
        line.cut()
        consumer.wait_log(READY, count)
    publisher.publish("a", "1")
    consumer.wait_entries(1)
    assert old.refused == refused
    consumer.restart()
    assert old.refused == 2 * refused, "a new process may ask"


def play_versions(makers, *codes):
    """A broker that answers one CONNECT after the other with these, and ends connections that it has accepted but the
    last; and whether each was of MQTT 5."""
    fives = []

    def answer(code, last):
        def play(link):
            link.connect()
            fives.append(link.five)
            link.connack(len(fives) > 1, code=code)
            if code == 0:
                link.subscribed()
            if last:
                link.stay()
        return play
    plays = [answer(code, number == len(codes) - 1) for number, code in enumerate(codes)]
    return makers.keep(ScriptedBroker(*plays)), fives


@pytest.mark.parametrize("codes", [
    (0x84, 1, 0),      # both versions are refused
    (0x84, 0, 3, 0),   # 3.1.1 was accepted, and is refused for another reason: the server may be a new one
])
def test_a_server_that_refuses_3_1_1_too_is_asked_for_mqtt_5_again(make_consumer, makers, codes):
    broker, fives = play_versions(makers, *codes)
    consumer = make_consumer(port=broker.port).start(wait=False)
    wait_until(lambda: len(fives) == len(codes), 15, lambda: f"{fives}\n{consumer.process.log_tail()}")
    consumer.wait_log('"version":"5"')
    assert fives == [True] + [False] * (len(codes) - 2) + [True]


def test_a_server_that_has_accepted_mqtt_5_may_refuse_it_later(make_consumer, makers):
    broker, fives = play_versions(makers, 0, 0x84, 0)
    make_consumer(port=broker.port).start().wait_log('"version":"3.1.1"')
    assert fives == [True, True, False]


def test_a_reconnect_with_3_1_1_does_not_forget_what_is_not_released(make_consumer, old_broker, publisher):
    """The broker never hears of our PUBRECs and sends those messages again, DUP set: not one is stored twice."""
    old, line = old_broker(REFUSALS["3.1.1's refusal"])
    consumer = make_consumer(port=old.port, qos=2).start()
    check_that_repeats_are_known(consumer, line, publisher)


def check_that_repeats_are_known(consumer, line, publisher):
    line.deafen()
    sent = numbered(40)
    publisher.publish_all(sent, qos=2)
    consumer.wait_spooled(sent)
    line.cut()
    consumer.wait_log(READY, 2)
    assert_all(sent, consumer.wait_idle(publisher))


def test_a_reconnect_with_mqtt_5_does_not_forget_what_is_not_released(make_consumer, mosquitto, makers, publisher):
    line = makers.keep(DeafBroker(mosquitto.port))
    consumer = make_consumer(port=line.port, qos=2).start()
    check_that_repeats_are_known(consumer, line, publisher)


# What comes under a packet id whose PUBREL never came, and whether it is a message of its own.
UNDER_AN_UNRELEASED_ID = {
    "a new message": ({"payload": b"new"}, True),
    "a new message with DUP": ({"payload": b"new", "dup": True}, True),
    "the same without DUP": ({"payload": b"old"}, True),
    "the same with DUP": ({"payload": b"old", "dup": True}, False),
    "the same with DUP and less time to live": ({"payload": b"old", "dup": True, "expiry": 7}, False),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("message, is_new", UNDER_AN_UNRELEASED_ID.values(), ids=UNDER_AN_UNRELEASED_ID)
def test_a_repeat_under_an_unreleased_packet_id_is_recognised(make_consumer, makers, version, message, is_new):
    def before(link):
        link.accept(session_present=False)
        link.publish(b"t", b"old", 5, expiry=60)

    def after(link):
        link.accept(session_present=True, expects_subscribe=False)
        link.publish(b"t", packet_id=5, **message)
        link.release(5)
        link.release(9)  # whose message we never had: answered all the same
        link.publish(b"t", b"last", 5)
        link.release(5)
        link.stay()

    broker = makers.keep(ScriptedBroker(before, after))
    consumer = make_consumer(port=broker.port, version=version, qos=2).start()
    wait_until(lambda: b"last" in consumer.payloads(), 20, lambda: consumer.process.log_tail())
    assert consumer.payloads() == [b"old"] + ([message["payload"]] if is_new else []) + [b"last"]


@pytest.mark.parametrize("version", VERSIONS)
def test_qos_2_is_exactly_once_over_lost_acknowledgements_and_hang_ups(make_consumer, mosquitto, makers, publisher,
                                                                       version):
    line = makers.keep(DeafBroker(mosquitto.port))
    consumer = make_consumer(port=line.port, version=version, qos=2, reconnect_max="200ms").start()
    line.deafen()
    sent = numbered(100)
    publisher.publish_all(sent, qos=2)
    consumer.wait_spooled(sent)
    line.slams = True
    line.cut()
    wait_until(lambda: line.slammed >= 12, 30, lambda: consumer.process.log_tail())
    line.slams = False
    consumer.wait_log(READY, 2)
    assert_all(sent, consumer.wait_idle(publisher))
    assert "falling back" not in consumer.log()


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
@pytest.mark.parametrize("then", ["3.1.1", "5"])
def test_a_change_of_version_forgets_and_doubles_nothing(make_consumer, mosquitto, makers, publisher, then, killed):
    line = makers.keep(DeafBroker(mosquitto.port))
    consumer = make_consumer(port=line.port, version="5" if then == "3.1.1" else "3.1.1", qos=2).start()
    line.deafen()
    sent = numbered(50)
    publisher.publish_all(sent, qos=2)
    consumer.wait_spooled(sent)
    if killed:
        consumer.kill()
        line.cut()
    else:
        line.cut()
        consumer.wait_log(READY, 2)
        consumer.stop()
    consumer.set("mqtt", version=then).start()
    assert_all(sent, consumer.wait_idle(publisher))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("comes_again", [True, False], ids=["PUBREC was lost", "PUBREC was heard"])
def test_qos_2_is_exactly_once_over_a_kill_between_pubrec_and_pubrel(make_consumer, makers, version, comes_again):
    def before(link):
        link.accept(session_present=False)
        for packet_id in (5, 6):
            link.publish(b"t", b"%d" % packet_id, packet_id)
        link.stay()

    def after(link):
        link.accept(session_present=True, expects_subscribe=False)
        for packet_id in (5, 6):
            if comes_again:
                link.publish(b"t", b"%d" % packet_id, packet_id, dup=True)
            link.release(packet_id)
        link.publish(b"t", b"6", 6, dup=True)  # released: a message of its own, for all that can be known
        link.stay()

    broker = makers.keep(ScriptedBroker(before, after))
    consumer = make_consumer(port=broker.port, version=version, qos=2).start()
    consumer.wait_entries(2)
    consumer.kill().start()
    consumer.wait_entries(3)
    assert consumer.payloads() == [b"5", b"6", b"6"]


def test_mqtt_5_is_kept_to_with_a_server_that_has_accepted_it(make_consumer, mosquitto, makers):
    line = makers.keep(DeafBroker(mosquitto.port))
    consumer = make_consumer(port=line.port, reconnect_max="200ms").start()
    for restarts in (False, True):
        if restarts:
            consumer.stop()
        line.slams, line.slammed = True, 0
        line.cut()
        if restarts:
            consumer.start(wait=False)
        wait_until(lambda: line.slammed >= 8, 30, lambda: consumer.process.log_tail())
        line.slams = False
        consumer.wait_log(READY, 1 if restarts else 2)
        assert '"version":"3.1.1"' not in consumer.log()


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed between"])
@pytest.mark.parametrize("version, receive_maximum", [("5", 100), ("5", 65535), ("3.1.1", 100)])
def test_repeats_after_a_broker_restart_keep_the_first_identity(
        make_consumer, mosquitto, publisher, version, receive_maximum, killed):
    """A backlog of which the broker sends far more than Receive Maximum before it hears of an acknowledgement."""
    consumer = make_consumer(version=version, receive_maximum=receive_maximum, reconnect_max="200ms").start()
    consumer.stop()
    sent = numbered(20000)
    publisher.publish_all(sent)
    consumer.start(wait=False)
    consumer.wait_entries(2000)
    mosquitto.stop()
    if killed:
        consumer.kill().start(wait=False)
    mosquitto.start()
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)


@pytest.fixture
def restored(make_consumer, mosquitto):
    """restored(version): a consumer whose broker was killed and came back with a snapshot of the session from
    before a filter was added."""
    def make(version):
        consumer = make_consumer(version=version, topics="a/# marker").start()
        consumer.stop()
        mosquitto.save()
        consumer.set("mqtt", topics="a/# b/# marker").start()
        mosquitto.kill()
        mosquitto.start()
        consumer.wait_log(READY, 2)
        assert len(re.findall(f'{READY}.*"session_present":true', consumer.log())) == 2
        return consumer
    return make


def test_a_filter_forgotten_by_the_broker_is_subscribed_again_on_mqtt_5(restored, publisher):
    consumer = restored("5")
    sent = [("a/x", "1"), ("b/x", "2")]
    publisher.publish_all(sent)
    assert_all(sent, consumer.wait_idle(publisher))


def test_on_3_1_1_removing_the_subscriptions_file_subscribes_again(restored, publisher):
    consumer = restored("3.1.1")
    consumer.stop()
    (consumer.bridge.state_dir / "spool" / "bridge" / "subscriptions").unlink()
    consumer.start()
    sent = [("a/x", "1"), ("b/x", "2")]
    publisher.publish_all(sent)
    assert_all(sent, consumer.wait_idle(publisher))


@pytest.mark.parametrize("client_id", ["a/b", "..", "/", "plant 7/é+#", "日本" * 100, "x" * 200])
def test_any_client_id_has_a_spool_and_subscriptions(make_consumer, publisher, redis, client_id):
    """What was spooled is sent after a kill, what is no longer wanted is unsubscribed, and a spool that is left
    behind by another client id is sent."""
    consumer = make_consumer(client_id=client_id, topics="a/#, b/#").start()
    redis.freeze()
    publisher.publish("a/1", "1")
    wait_until(lambda: any(b"a/1" in path.read_bytes() for path in consumer.bridge.state_dir.rglob("*segment*")), 20,
               "the message is in the spool")
    consumer.kill()
    redis.thaw()
    consumer.set("mqtt", topics="a/#").start()
    assert [entry.topic for entry in consumer.wait_entries(1)] == ["a/1"]
    consumer.wait_log("unsubscribed from former filters")
    publisher.publish_all([("b/1", "2"), ("a/2", "3")])
    assert [entry.topic for entry in consumer.wait_entries(2)] == ["a/1", "a/2"], "b/# is left"
    root = consumer.bridge.state_dir / "spool"
    folder, = root.iterdir()
    assert (folder / "subscriptions").is_file()
    redis.freeze()
    publisher.publish("a/3", "4")
    wait_until(lambda: any(b"a/3" in path.read_bytes() for path in folder.rglob("*segment*")), 20, "it is spooled")
    consumer.kill()
    redis.thaw()
    consumer.set("mqtt", client_id="another").start()
    assert [entry.topic for entry in consumer.wait_entries(3)] == ["a/1", "a/2", "a/3"]


def test_a_client_id_too_long_for_a_folder_name_has_a_spool(make_consumer, publisher, redis):
    client_id = "é" * 64
    consumer = make_consumer(client_id=client_id).start()
    publisher.publish("a", "1")
    consumer.wait_entries(1)
    redis.freeze()
    publisher.publish("a", "2")
    consumer.kill()
    redis.thaw()
    consumer.start()
    assert_all([("a", "1"), ("a", "2")], consumer.wait_idle(publisher), repeats=True)
    folder, = (consumer.bridge.state_dir / "spool").iterdir()
    assert folder.name.startswith("%C3%A9%C3%A9")
    assert "No consumer owns" not in consumer.log()
