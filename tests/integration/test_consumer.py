"""The consumer by itself, between a real broker and a real Redis: what is published is in the stream."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
from bridge import free_port, wait_until

READY = "connected and subscribed"
VERSIONS = ["5", "3.1.1"]


class Entry:
    """One stream entry under the JSON serializer."""

    def __init__(self, fields):
        value = fields[b"message"]
        length, text = re.fullmatch(rb's:(\d+):"(.*)";', value, re.DOTALL).groups()
        assert int(length) == len(text)
        envelope = json.loads(text)
        self.headers = envelope["headers"]
        body = json.loads(envelope["body"])
        self.topic = body["topic"]
        self.payload = body["payload"].encode()
        if self.headers.get("X-Mqtt-Encoding") == "base64":
            self.payload = base64.b64decode(self.payload)
        self.id = self.headers["X-Mqtt-Id"]
        self.qos = int(self.headers["X-Mqtt-Qos"])
        self.retained = self.headers.get("X-Mqtt-Retain") == "1"


class Consumer:
    """mqtt-bridge-consumer on a mosquitto and a redis of the test's."""

    def __init__(self, bridge, redis):
        self.bridge = bridge
        self.redis = redis
        self.process = None
        self.runs = 0
        bridge.settings["transport:async"]["serializer"] = "json"

    def start(self, wait=True):
        self.runs += 1
        self.process = self.bridge.run_program("consumer", name=f"consumer-{self.runs}")
        if wait:
            self.wait_log(READY)
        return self

    def stop(self):
        code = self.process.stop()
        assert code == 0
        return self

    def restart(self):
        self.stop()
        return self.start()

    def kill(self):
        self.process.kill()
        return self

    def log(self):
        return self.process.log()

    def wait_log(self, text, count=1, timeout=15):
        wait_until(lambda: self.log().count(text) >= count, timeout,
                   lambda: f"the log has {count} times {text!r}\n{self.process.log_tail(60)}")

    def set(self, section, **keys):
        self.bridge.settings.setdefault(section, {}).update(keys)
        return self

    def entries(self, stream="messages"):
        return [Entry(fields) for _, fields in self.redis.client.xrange(stream)]

    def payloads(self):
        return [entry.payload for entry in self.entries()]

    def wait_entries(self, count, timeout=20):
        wait_until(lambda: self.redis.client.xlen("messages") >= count, timeout,
                   lambda: f"{count} entries; there are {self.redis.client.xlen('messages')}\n"
                           f"{self.process.log_tail(60)}")
        return self.entries()

    def wait_spooled(self, sent, client_id="bridge"):
        """Until the last of them is in the spool's files."""
        last = str(sent[-1][1]).encode()
        folder = self.bridge.state_dir / "spool" / client_id
        wait_until(lambda: any(last in path.read_bytes() for path in folder.glob("*segment*")), 20,
                   "the last message is in the spool")

    def wait_idle(self, publisher):
        """Until everything published so far has been through: a last message is there, and counts for
        nothing."""
        marker = f"marker-{time.monotonic_ns()}".encode()
        publisher.publish("marker", marker)
        wait_until(lambda: marker in self.payloads()[-2000:], 30, lambda: f"the marker\n{self.process.log_tail(60)}")
        return [entry for entry in self.entries() if entry.topic != "marker"]


@pytest.fixture
def make_consumer(make_bridge, mosquitto, redis):
    def make(broker=None, store=None, **mqtt):
        bridge = make_bridge(mosquitto=broker or mosquitto, redis=store or redis)
        bridge.settings["mqtt"].update(mqtt)
        return Consumer(bridge, store or redis)
    return make


@pytest.fixture
def consumer(make_consumer):
    return make_consumer()


def numbered(count, topic="load/{}", width=8):
    return [(topic.format(number % 7), f"{number:0{width}d}") for number in range(count)]


def assert_all(sent, entries, repeats=False):
    """Each of the sent is there, nothing else; once, or (repeats) at least once."""
    wanted = {(topic, payload.encode()) for topic, payload in sent}
    seen = [(entry.topic, entry.payload) for entry in entries]
    missing = wanted - set(seen)
    assert not missing, f"{len(missing)} of {len(wanted)} lost: {sorted(missing)[:5]}"
    assert not set(seen) - wanted
    assert repeats or len(seen) == len(set(seen)), f"{len(seen) - len(set(seen))} doubled"
    identities = {(entry.topic, entry.payload, entry.id) for entry in entries}
    assert len({identity for *_, identity in identities}) == len(identities), "one identity for two messages"
    assert len(identities) == len(wanted), "a repeat under another identity"


# What arrives -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", VERSIONS)
def test_messages_of_each_qos_arrive_once_with_their_metadata(make_consumer, publisher, version):
    consumer = make_consumer(version=version, qos=2).start()
    before = time.time()
    for qos in (0, 1, 2):
        publisher.publish(f"a/é/{qos}", f'{{"qos":{qos}}}', qos=qos)
    entries = consumer.wait_entries(3)
    assert [(entry.topic, entry.payload, entry.qos) for entry in entries] == [
        (f"a/é/{qos}", f'{{"qos":{qos}}}'.encode(), qos) for qos in (0, 1, 2)]
    identities = [re.fullmatch(r"([0-9a-f]{32})-(\d+)", entry.id).groups() for entry in entries]
    assert len({spool for spool, _ in identities}) == 1 and [int(number) for _, number in identities] == [1, 2, 3]
    stamp = entries[0].headers["X-Mqtt-Received-At"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp)
    assert stamp >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    assert f"version\":\"{version}\"" in consumer.log()


@pytest.mark.parametrize("version", VERSIONS)
def test_any_payload_arrives_as_it_was(make_consumer, publisher, version):
    payloads = [b"", bytes(range(256)), "Grüße ☃ \U0001f600".encode(), b"\x00", b"'\"\\/", os.urandom(1_000_000),
                b"x" * 1_000_000, b'{"a":[1,2.50,"\\u00e9"]}']
    consumer = make_consumer(version=version).start()
    for payload in payloads:
        publisher.publish("p", payload)
    assert [entry.payload for entry in consumer.wait_entries(len(payloads))] == payloads


def test_symfony_consumes_what_the_consumer_dispatched(make_consumer, publisher, make_php_peer):
    for serializer in ("php", "json"):
        consumer = make_consumer(client_id=f"bridge-{serializer}")
        consumer.set("transport:async", serializer=serializer).start()
        publisher.publish("sensors/salle été", '{"t":21.5}')
        publisher.publish("binary", bytes(range(128)))
        wait_until(lambda: consumer.redis.client.xlen("messages") == 2, 10)
        consumer.stop()
        peer = make_php_peer(serializer=serializer)
        peer.consume(2)
        assert peer.handled() == [{"topic": "sensors/salle été", "payload": b'{"t":21.5}'},
                                  {"topic": "binary", "payload": bytes(range(128))}]


def test_each_filter_has_its_own_qos(make_consumer, publisher):
    consumer = make_consumer(topics="zero/#@0, one/# two/+@2", qos=1).start()
    for topic in ("zero/a", "one/a/b", "two/a", "two/a/not", "three"):
        publisher.publish(topic, topic, qos=2)
    entries = consumer.wait_entries(3)
    publisher.publish("one/last", "", qos=2)
    entries = consumer.wait_entries(4)
    assert [(entry.topic, entry.qos) for entry in entries] == [
        ("zero/a", 0), ("one/a/b", 1), ("two/a", 2), ("one/last", 1)]


def test_overlapping_filters_bring_one_copy(make_consumer, publisher):
    consumer = make_consumer(topics="# a/# a/+@2 a/b@0").start()
    sent = [("a/b", "1"), ("a/c", "2"), ("a/b/c", "3"), ("d", "4")]
    publisher.publish_all(sent, qos=2)
    assert_all(sent, consumer.wait_idle(publisher))
    assert {entry.topic: entry.qos for entry in consumer.entries() if entry.topic == "a/b"} == {"a/b": 2}


def test_overlapping_filters_bring_one_copy_of_what_waited_in_the_broker(make_consumer, publisher):
    consumer = make_consumer(topics="# a/#").start()
    consumer.stop()
    sent = [("a/b", str(number)) for number in range(50)]
    publisher.publish_all(sent)
    consumer.start()
    assert_all(sent, consumer.wait_idle(publisher))


def test_a_filter_added_later_makes_no_waiting_message_look_like_a_copy(make_consumer, publisher):
    """What was queued under a/# alone has no other copy, though # matches it as well now."""
    consumer = make_consumer(topics="x/# a/# marker").start()
    consumer.stop()
    sent = [("a/b", str(number)) for number in range(50)]
    publisher.publish_all(sent)
    consumer.set("mqtt", topics="# a/#").start()
    assert_all(sent, consumer.wait_idle(publisher))


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_come_once_and_not_at_every_reconnect(make_consumer, publisher, mosquitto, version):
    publisher.publish("r/old", "before", retain=True)
    consumer = make_consumer(version=version).start()
    first = consumer.wait_entries(1)
    assert first[0].retained and first[0].payload == b"before"
    publisher.publish("r/old", "live", retain=True)
    consumer.wait_entries(2)
    consumer.restart()
    consumer.kill()
    consumer.start()
    mosquitto.restart()
    consumer.wait_log(READY, 2)
    assert [entry.payload for entry in consumer.wait_idle(publisher)] == [b"before", b"live"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_filter_that_the_settings_lost_is_unsubscribed(make_consumer, publisher, version):
    consumer = make_consumer(version=version, topics="a/# b/# marker").start()
    consumer.stop()
    consumer.set("mqtt", topics="a/# marker").start()
    consumer.wait_log("unsubscribed from former filters")
    publisher.publish_all([("b/x", "no"), ("a/x", "yes")])
    assert [entry.topic for entry in consumer.wait_idle(publisher)] == ["a/x"]
    consumer.restart()
    assert "former filters" not in consumer.log()


def test_a_silence_delays_nothing(consumer, publisher):
    """paho naps 100 ms after each silent second."""
    consumer.start()
    published = {}
    for number in range(6):
        time.sleep(1.05 + number * 0.01)
        published[str(number).encode()] = time.time()
        publisher.publish("t", str(number))
    late = []
    for entry in consumer.wait_entries(6):
        whole, fraction = entry.headers["X-Mqtt-Received-At"].rstrip("Z").split(".")
        received = time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(f"0.{fraction}")
        late.append(received - published[entry.payload])
    assert sorted(late)[4] < 0.05, late


def test_the_status_topic_says_online_and_offline(make_consumer, mosquitto):
    seen = []
    watcher = paho.Client("watcher") if not hasattr(paho, "CallbackAPIVersion") else \
        paho.Client(paho.CallbackAPIVersion.VERSION1, "watcher")
    watcher.on_message = lambda _, __, message: seen.append(message.payload)
    watcher.connect("127.0.0.1", mosquitto.port)
    watcher.subscribe("status", 1)
    watcher.loop_start()
    consumer = make_consumer(status_topic="status", topics="a")
    try:
        consumer.start()
        wait_until(lambda: seen == [b"online"], 5, lambda: str(seen))
        consumer.stop()
        wait_until(lambda: seen == [b"online", b"offline"], 5, lambda: str(seen))
        consumer.start()
        wait_until(lambda: len(seen) == 3, 5, lambda: str(seen))
        consumer.kill()
        wait_until(lambda: seen[2:] == [b"online", b"offline"], 5, lambda: str(seen))
    finally:
        watcher.disconnect()
        watcher.loop_stop()


def test_a_second_consumer_has_its_own_filters_and_spool(make_consumer, publisher):
    consumer = make_consumer(topics="house/#").set("consumer:garden", topics="garden/#@2").start()
    garden = consumer.bridge.run_program("consumer", "--name", "garden", name="garden")
    wait_until(lambda: READY in garden.log(), 15, lambda: garden.log_tail())
    publisher.publish_all([("house/a", "1"), ("garden/a", "2"), ("attic/a", "3"), ("garden/b", "4")], qos=2)
    entries = consumer.wait_entries(3)
    publisher.publish("house/last", "")
    entries = consumer.wait_entries(4)
    assert {(entry.topic, entry.qos) for entry in entries} == {
        ("house/a", 1), ("garden/a", 2), ("garden/b", 2), ("house/last", 1)}
    assert {path.name for path in (consumer.bridge.state_dir / "spool").iterdir()} == {"bridge", "bridge-garden"}
    assert garden.stop() == 0
    consumer.restart()
    assert "No consumer owns" not in consumer.log()


# Versions, servers, refusals ----------------------------------------------------------------------------

class OldBroker:
    """In front of a real broker: refuses MQTT 5 as brokers do that don't know it, passes on the rest.
    answer: what it sends to an MQTT 5 CONNECT before it hangs up."""

    def __init__(self, port, answer=bytes([0x20, 2, 0, 1])):
        self.behind = port
        self.answer = answer
        self.refused = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        packet = client.recv(65536)
        if not packet:
            return client.close()
        level = packet[packet.index(b"\x00\x04MQTT") + 6]
        if level == 5:
            self.refused += 1
            client.sendall(self.answer)
            client.shutdown(socket.SHUT_WR)
            return client.close()
        server = socket.create_connection(("127.0.0.1", self.behind))
        server.sendall(packet)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.mark.parametrize("answer", [bytes([0x20, 2, 0, 1]), bytes([0x20, 3, 0, 0x84, 0]), b""],
                         ids=["3.1.1's refusal", "5's refusal", "hangs up"])
def test_a_broker_that_refuses_mqtt_5_gets_3_1_1(make_consumer, mosquitto, publisher, answer):
    old = OldBroker(mosquitto.port, answer)
    try:
        consumer = make_consumer(port=old.port).start()
        assert old.refused >= 1 and '"version":"3.1.1"' in consumer.log()
        publisher.publish("a", "1")
        consumer.wait_entries(1)
        consumer.stop()
    finally:
        old.close()


def test_the_next_server_of_the_list_is_tried(make_consumer, publisher, mosquitto):
    consumer = make_consumer(server_uris=f"tcp://127.0.0.1:{free_port()}, tcp://127.0.0.1:{mosquitto.port}").start()
    publisher.publish("a", "1")
    assert consumer.wait_entries(1)[0].payload == b"1"
    assert "Connection refused" in consumer.log()


def test_a_wrong_password_is_said_and_retried_without_a_rush(make_consumer, make_mosquitto, make_publisher):
    broker = make_mosquitto(users={"bridge": "right", "device": "x"})
    consumer = make_consumer(broker, username="bridge", password="wrong").start(wait=False)
    consumer.wait_log("refused the connection: not authorized")
    connects = lambda: broker.log().count("New connection")
    before = connects()
    time.sleep(1.5)
    assert connects() - before <= 8, "reconnect_min is 100 ms and doubles"
    consumer.stop()
    consumer.set("mqtt", password="right").start()
    make_publisher(broker.port, username="device", password="x").publish("a", "1")
    consumer.wait_entries(1)


def test_no_broker_is_said_and_waited_for(make_consumer, mosquitto, publisher):
    consumer = make_consumer(reconnect_max="300ms")
    mosquitto.stop()
    consumer.start(wait=False)
    consumer.wait_log(f"broker 127.0.0.1:{mosquitto.port}: Connection refused")
    mosquitto.start()
    consumer.wait_log(READY)
    publisher.publish("a", "1")
    consumer.wait_entries(1)


def test_an_unknown_host_is_said(make_consumer):
    consumer = make_consumer(host="no-such-host.invalid").start(wait=False)
    consumer.wait_log("broker no-such-host.invalid:", timeout=30)
    assert re.search(r"not known|resolution|No address", consumer.log())


def test_another_client_with_our_id_is_said_and_not_fought(make_consumer, mosquitto):
    consumer = make_consumer(reconnect_max="60s").start()
    other = paho.Client("bridge") if not hasattr(paho, "CallbackAPIVersion") else \
        paho.Client(paho.CallbackAPIVersion.VERSION1, "bridge")
    other.connect("127.0.0.1", mosquitto.port)
    other.loop_start()
    consumer.wait_log('another client with the client id "bridge"', timeout=30)
    consumer.wait_log(READY, 4, timeout=30)
    waits = [int(wait) for wait in re.findall(r'lost.*"retry_ms":(\d+)', consumer.log())]
    assert all(later > earlier for earlier, later in zip(waits, waits[1:])), waits
    other.disconnect()
    other.loop_stop()


def dynamic_security(folder):
    """A broker's own access rules: everything, but no subscription under secret/."""
    rules = {
        "defaultACLAccess": {"publishClientSend": True, "publishClientReceive": True, "subscribe": True,
                             "unsubscribe": True},
        "anonymousGroup": "all", "clients": [],
        "groups": [{"groupname": "all", "roles": [{"rolename": "most"}], "clients": []}],
        "roles": [{"rolename": "most", "acls": [{"acltype": "subscribePattern", "topic": "secret/#",
                                                 "priority": 1, "allow": False}]}],
    }
    path = folder / "rules.json"
    path.write_text(json.dumps(rules))
    path.chmod(0o600)
    return {"plugin": "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so", "plugin_opt_config_file": path}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_filter_is_named_and_the_others_work(make_consumer, make_mosquitto, make_publisher, folder,
                                                       version):
    broker = make_mosquitto(options=dynamic_security(folder))
    consumer = make_consumer(broker, version=version, topics="open/# secret/#").start(wait=False)
    consumer.wait_log('filter "secret/#" was refused (' + ("not authorized" if version == "5" else "MQTT 3.1.1 gives"))
    make_publisher(broker.port).publish("open/a", "1")
    assert consumer.wait_entries(1)[0].topic == "open/a"
    assert READY not in consumer.log()


def test_two_consumers_on_one_spool_are_refused(consumer):
    consumer.start()
    second = consumer.bridge.run_program("consumer", name="second")
    assert second.wait() == 1
    assert consumer.process.is_running()


@pytest.fixture
def tls_files(folder):
    """An authority and a certificate for 127.0.0.1 that it signed."""
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=folder)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", 2,
            "-subj", "/CN=authority")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj",
            "/CN=broker")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            "server.pem", "-days", 2, "-extfile", "names")
    return folder


def test_tls_with_its_authority_works_and_without_it_says_why(make_consumer, make_mosquitto, tls_files):
    broker = make_mosquitto(options={"certfile": tls_files / "server.pem", "keyfile": tls_files / "server.key"})
    consumer = make_consumer(broker, tls="yes").start(wait=False)
    consumer.wait_log("TLS: certificate verify failed")
    consumer.stop()
    consumer.set("mqtt", ca_file=tls_files / "ca.pem").start()
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-h", "127.0.0.1", "--cafile", tls_files / "ca.pem",
                    "-t", "a", "-m", "1", "-q", "1"], check=True)
    assert consumer.wait_entries(1)[0].payload == b"1"


# What may fail ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_kills_lose_nothing(make_consumer, publisher, rng, version, qos):
    consumer = make_consumer(version=version, qos=qos).start()
    sent = numbered(6000)
    thread = publisher.start_all(sent, qos=qos, rate=2000)
    kills = 0
    while thread.is_alive():
        time.sleep(rng.uniform(0.05, 0.5))
        consumer.kill()
        kills += 1
        consumer.start()
    thread.join()
    publisher.wait_confirmed()
    entries = consumer.wait_idle(publisher)
    assert_all(sent, entries, repeats=True)
    assert kills >= 2
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


def test_redis_frozen_under_a_kill_loses_and_doubles_nothing_that_was_spooled(consumer, publisher, redis):
    """Batches that lie in the socket of a frozen Redis are executed when it thaws, after the successor has
    been started: the fence keeps them from being there twice."""
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


def test_a_key_of_another_type_is_said_and_waited_out(consumer, publisher, redis):
    redis.client.set("messages", "not a stream")
    consumer.start()
    sent = numbered(20)
    publisher.publish_all(sent)
    consumer.wait_log("WRONGTYPE")
    redis.client.delete("messages")
    assert_all(sent, consumer.wait_entries(20))


def test_a_redis_out_of_memory_is_waited_out(make_consumer, make_redis, publisher):
    redis = make_redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    consumer = make_consumer(store=redis).start()
    sent = [("big", f"{number:06d}" + "x" * 3000) for number in range(1500)]
    publisher.publish_all(sent)
    consumer.wait_log("OOM")
    redis.client.config_set("maxmemory", "100mb")
    assert_all(sent, consumer.wait_entries(len(sent)))


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


def test_a_spool_that_is_full_to_the_brim_ends_it_and_the_next_start_sends_first(consumer, publisher, redis):
    consumer.set("spool", size="1M", retain="0").start()
    redis.freeze()
    sent = [("fill", f"{number:06d}" + "x" * 50000) for number in range(100)]
    publisher.publish_all(sent)
    assert consumer.process.wait() == 1, "it left in time: the test must send faster"
    assert "ending without acknowledging it" in consumer.log()
    consumer.start(wait=False)
    consumer.wait_log("staying away from the broker")
    assert READY not in consumer.log()
    redis.thaw()
    # What the broker has kept is several times the spool's size: it may take some starts.
    def all_there():
        if not consumer.process.is_running():
            consumer.start(wait=False)
        return len(set(consumer.payloads())) == len(sent)
    wait_until(all_there, 30, lambda: consumer.process.log_tail())
    assert_all(sent, consumer.entries(), repeats=True)


# Spools that the settings have left behind ----------------------------------------------------------------

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


def test_a_folder_beside_the_spools_that_is_none_is_left_alone(consumer, redis):
    consumer.start()
    consumer.process.stop()
    folder = consumer.bridge.state_dir / "spool"
    (folder / "lost+found").mkdir()
    (folder / "backup").mkdir()
    (folder / "backup" / "dump").write_text("precious")
    (folder / "backup" / "000000000001.segment").write_text("no header")
    (folder / "bridge" / "000000000000.damaged").write_text("put aside")
    (folder / "bridge" / "notes").write_text("somebody's")
    consumer.set("mqtt", client_id="another").start()
    consumer.wait_log("Emptied spool")
    assert {path.name for path in folder.iterdir()} == {"another", "backup", "bridge", "lost+found"}
    assert {path.name for path in (folder / "backup").iterdir()} == {"dump", "000000000001.segment"}
    assert {path.name for path in (folder / "bridge").iterdir()} == {"000000000000.damaged", "notes"}
    assert "lost+found" not in consumer.log() and "backup" not in consumer.log()


# The end ------------------------------------------------------------------------------------------------

def test_sigterm_sends_what_is_spooled(consumer, publisher, redis):
    consumer.start()
    redis.freeze()
    sent = numbered(2000)
    publisher.publish_all(sent)
    consumer.wait_spooled(sent)
    consumer.process.send(signal.SIGTERM)
    redis.thaw()
    assert consumer.process.wait() == 0
    assert_all(sent, consumer.entries())
    assert "everything that was received is in Redis" in consumer.log()


def test_sigterm_with_redis_away_keeps_the_spool_and_ends_in_time(consumer, publisher, redis):
    consumer.set("supervisor", stop_timeout="3s").start()
    redis.stop()
    sent = numbered(500)
    publisher.publish_all(sent)
    started = time.monotonic()
    consumer.stop()
    assert time.monotonic() - started < 3
    assert "the spool keeps messages" in consumer.log()
    redis.start()
    consumer.start()
    # What was on its way to us when we left the broker is stored, but no longer acknowledged: it comes again.
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)


def test_sigterm_with_nothing_to_do_is_quick(consumer, publisher):
    consumer.start()
    publisher.publish("a", "1")
    consumer.wait_entries(1)
    started = time.monotonic()
    consumer.stop()
    assert time.monotonic() - started < 2.5


def test_sigquit_ends_at_once_and_loses_nothing(consumer, publisher, redis):
    consumer.start()
    redis.freeze()
    sent = numbered(500)
    publisher.publish_all(sent)
    assert consumer.process.stop(4, signal.SIGQUIT) == 0
    redis.thaw()
    consumer.start()
    # Acknowledgements that the broker had not read when the connection broke: it sends those again.
    assert_all(sent, consumer.wait_idle(publisher), repeats=True)


def test_what_is_published_while_it_is_down_arrives_in_order(consumer, publisher):
    consumer.start()
    consumer.stop()
    sent = [("one/topic", f"{number:05d}") for number in range(2000)]
    publisher.publish_all(sent)
    consumer.start()
    entries = consumer.wait_idle(publisher)
    assert [entry.payload.decode() for entry in entries] == [payload for _, payload in sent]


# What is said -------------------------------------------------------------------------------------------

def test_the_promise_is_said_once_and_what_is_weak_is_warned_of(make_consumer, make_redis, mosquitto):
    redis = make_redis("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    consumer = make_consumer(store=redis, topics="a@0 b@1", session_expiry="1h")
    consumer.set("transport:async", dsn=redis.dsn(stream_max_entries=1000)).start()
    consumer.wait_log("Promised: ")
    log = consumer.log()
    for text in ("maxmemory-policy allkeys-lru", "appendonly no", "QoS 0: ", "stream_max_entries is set",
                 '"session_expiry_s":3600', '"spool_sync":"none"', "survives a crash"):
        assert text in log, text
    mosquitto.restart()
    consumer.wait_log(READY, 2)
    assert consumer.log().count("Promised: ") == 1


def test_a_sound_setup_is_promised_without_a_warning(consumer):
    consumer.start()
    consumer.wait_log("Promised: broker to spool at least once")
    assert "WARNING" not in consumer.log()


# What Redis would never take ----------------------------------------------------------------------------

def test_an_oversized_entry_goes_to_the_failure_transport_in_its_turn(make_bridge, mosquitto, redis, database,
                                                                      publisher):
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, database=database)
    consumer = Consumer(bridge, redis).set("transport:async", max_entry="10K").start()
    publisher.publish("small", "1")
    publisher.publish("big", "y" * 20000)
    publisher.publish("small", "2")
    assert [entry.payload for entry in consumer.wait_entries(2)] == [b"1", b"2"]
    row, = wait_until(database.failures, 10)
    assert "y" * 100 in row["body"] and "max_entry" in row["headers"]
    consumer.restart()
    assert [entry.payload for entry in consumer.wait_idle(publisher)] == [b"1", b"2"]
    assert len(database.failures()) == 1


def test_an_oversized_entry_waits_for_the_database(make_bridge, mosquitto, redis, make_postgres, publisher):
    postgres = make_postgres()
    database = postgres.create_database()
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, database=database)
    consumer = Consumer(bridge, redis).set("transport:async", max_entry="10K").start()
    postgres.stop()
    publisher.publish("big", "y" * 20000)
    publisher.publish("small", "1")
    consumer.wait_log("waits for the failure transport")
    assert consumer.entries() == []
    postgres.start()
    assert [entry.payload for entry in consumer.wait_entries(1, timeout=60)] == [b"1"]
    assert len(database.failures()) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_that_the_spool_can_never_take_does_not_stop_the_others(make_consumer, publisher, version):
    """Under MQTT 5 the broker is told and drops it; under 3.1.1 it comes, and is refused by name."""
    consumer = make_consumer(version=version)
    consumer.set("spool", size="8M", retain="1M")
    consumer.start()
    publisher.publish("too/large", b"x" * 9_000_000)
    publisher.publish("small", b"1")
    assert consumer.wait_entries(1)[0].topic == "small"
    if version == "3.1.1":
        assert "Raise [spool] size" in consumer.log()
