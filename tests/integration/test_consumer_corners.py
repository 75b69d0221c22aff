"""The consumer in rare situations: a replica in place of its primary, a message that Redis never takes, a Redis that
refuses. Also a broker that is restarted over a full queue, and a copied state directory."""

import re
import shutil
import time

import pytest
from bridge import build_folder, wait_until
from bridge.consumer import READY, VERSIONS, assert_all, numbered
from bridge.device import Device
from bridge.link import MqttLink
from bridge.process import peak_bytes

pytestmark = pytest.mark.waits
MEGABYTE = 1_000_000
BODY = re.compile(rb'"body":"(?:[^"\\]|\\.)*"')


@pytest.fixture
def make_device(makers, mosquitto):
    return lambda broker=None, **how: makers.keep(Device((broker or mosquitto).port, **how)).connect()


@pytest.fixture
def device(make_device):
    return make_device()


def length(consumer):
    return consumer.redis.client.xlen("messages")


def settle(consumer, quiet_s=1.0, timeout=30):
    """Waits until no entry has been added for a while."""
    state = {"length": -1, "since": time.monotonic()}

    def quiet():
        now, there = time.monotonic(), length(consumer)
        if there != state["length"]:
            state.update(length=there, since=now)
        return now - state["since"] > quiet_s
    wait_until(quiet, timeout, lambda: f"no more entries come; there are {length(consumer)}", every=0.1)


def distinct(consumer):
    """How many messages there are, however often each."""
    return len({BODY.search(fields[b"message"])[0] for _, fields in consumer.redis.client.xrange("messages")})


def wait_all(consumer, sent, timeout=60):
    """Waits until each message has come at least once, and no more entries come."""
    def there():
        return length(consumer) >= len(sent) and distinct(consumer) >= len(sent)
    wait_until(there, timeout, every=0.3, what=lambda: (
        f"{len(sent)} messages; there are {distinct(consumer)}, in {length(consumer)} entries\n"
        f"{consumer.process.log_tail(30)}"))
    settle(consumer)
    return consumer.entries()


@pytest.fixture
def lagging(make_consumer, make_redis, device):
    """A primary with 200 messages, and a former replica of it with 100 of them."""
    primary, replica = make_redis("--repl-diskless-sync-delay", "0"), make_redis()
    replica.client.replicaof("127.0.0.1", primary.port)
    wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up", 20, "the replica follows")
    consumer = make_consumer(store=primary).start()
    sent = numbered(200)
    device.publish(sent[:100])
    consumer.wait_entries(100)
    wait_until(lambda: replica.client.xlen("messages") == 100, 10, "the replica has it")
    replica.client.replicaof("NO", "ONE")
    device.publish(sent[100:])
    consumer.wait_entries(200)
    assert replica.client.xlen("messages") == 100
    return consumer, primary, replica, sent


@pytest.mark.parametrize("end", ["stopped", "killed", "with the primary still there"])
def test_a_dsn_pointed_at_a_lagging_replica_gets_what_that_lacks(lagging, device, end):
    consumer, primary, replica, sent = lagging
    consumer.kill() if end == "killed" else consumer.stop()
    if end != "with the primary still there":
        primary.kill()
    consumer.redis = replica
    consumer.set("transport:async", dsn=replica.dsn()).start()
    more = [("load/more", f"more {number}") for number in range(10)]
    device.publish(more)
    assert_all(sent + more, wait_all(consumer, sent + more))
    consumer.restart()
    settle(consumer)
    assert_all(sent + more, consumer.entries())
    if primary.is_running():
        assert primary.client.xlen("messages") == 200


def test_a_dsn_that_goes_back_to_the_primary_repeats_nothing_there(lagging, device):
    consumer, primary, replica, sent = lagging
    for redis, count in ((replica, 210), (primary, 210)):
        consumer.stop()
        consumer.redis = redis
        consumer.set("transport:async", dsn=redis.dsn()).start()
        device.publish([(f"load/{redis.port}", f"{redis.port} {number}") for number in range(10)])
        consumer.wait_entries(count)
        settle(consumer)
        assert length(consumer) == count
    assert_all(sent + [(f"load/{primary.port}", f"{primary.port} {number}") for number in range(10)],
               consumer.entries())


def test_another_name_of_a_redis_that_was_set_back_gets_what_it_lacks(consumer, redis, device):
    """As where `localhost` takes the place of 127.0.0.1 when the service is moved to the replica."""
    consumer.start()
    sent = numbered(200)
    device.publish(sent[:100])
    consumer.wait_entries(100)
    data, older = redis.folder / "appendonlydir", redis.folder / "older"
    shutil.copytree(data, older)
    device.publish(sent[100:])
    consumer.wait_entries(200)
    consumer.stop()
    redis.kill()
    shutil.rmtree(data)
    shutil.move(older, data)
    redis.start()
    assert redis.client.xlen("messages") == 100
    consumer.set("transport:async", dsn=redis.dsn().replace("127.0.0.1", "localhost")).start()
    more = [("load/more", f"more {number}") for number in range(10)]
    device.publish(more)
    assert_all(sent + more, wait_all(consumer, sent + more))


@pytest.mark.parametrize("qos", [1, 2])
def test_messages_unacknowledged_at_a_dsn_change_keep_their_identity(make_consumer, make_redis, mosquitto, makers,
                                                                           device, qos):
    """The broker's session outlives the Redis: what it sends again is no new message, wherever it goes now."""
    primary, replica = make_redis("--repl-diskless-sync-delay", "0"), make_redis()
    link = makers.keep(MqttLink(mosquitto.port))
    consumer = make_consumer(store=primary, port=link.port, qos=qos).start()
    link.deaf = True
    sent = numbered(100)
    device.publish(sent, qos=qos)
    consumer.wait_entries(100)
    replica.client.replicaof("127.0.0.1", primary.port)
    wait_until(lambda: replica.client.xlen("messages") == 100, 20, "the replica has all of it")
    replica.client.replicaof("NO", "ONE")
    consumer.kill()
    primary.kill()
    link.deaf = False
    consumer.redis = replica
    consumer.set("transport:async", dsn=replica.dsn()).start()
    device.publish([("last", "last")])
    sent.append(("last", "last"))
    assert_all(sent, wait_all(consumer, sent), repeats=qos == 1)


def oversized_files(consumer):
    return sorted(consumer.bridge.state_dir.rglob("*.oversized"))


def assert_put_aside(consumer, payload, others, device):
    """The others arrive, and the payload is in one file of its own, also after a restart."""
    wait_until(lambda: oversized_files(consumer), 30, "it is put aside")
    settle(consumer, quiet_s=0.5)
    before = length(consumer)
    device.publish([("small", f"small {number}") for number in range(others)])
    wait_until(lambda: length(consumer) >= before + others, 15, lambda: (
        f"{others} messages behind it; there are {length(consumer) - before}\n{consumer.process.log_tail(30)}"))
    path, = oversized_files(consumer)
    assert payload in path.read_bytes()
    memory = peak_bytes(consumer.process)
    consumer.restart()
    device.publish([("small", "last")])
    wait_until(lambda: length(consumer) > before + others, 15, "it goes on")
    settle(consumer)
    assert length(consumer) == before + others + 1 and oversized_files(consumer) == [path]
    return memory


def assert_memory_below(memory, limit):
    """A sanitizer's shadow memory says nothing about the program."""
    if "sanitize" not in str(build_folder()):
        assert memory < limit, f"{memory // MEGABYTE} MB, of {limit // MEGABYTE}"


@pytest.mark.parametrize("serializer", ["php", "json"])
def test_control_bytes_that_grow_too_large_in_redis_stop_nobody(consumer, device, serializer):
    """A control byte takes six or seven bytes in an entry, and max_entry is 32 MB."""
    consumer.set("transport:async", serializer=serializer).start()
    payload = b"\1" * (8 * MEGABYTE)
    device.publish([("small", "first"), ("big", payload)])
    assert_memory_below(assert_put_aside(consumer, payload, 100, device), 100 * MEGABYTE)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("two_bytes", [b"xx", b"\xff'"], ids=["text", "binary"])
def test_a_message_of_100_mb_costs_little_more_than_paho_takes_for_it(consumer, device, two_bytes):
    consumer.set("mqtt", maximum_packet_size="256M").set("spool", size="2G", retain="0").start()
    payload = two_bytes * (50 * MEGABYTE)
    device.publish([("big", payload)])
    assert_memory_below(assert_put_aside(consumer, payload, 20, device), 320 * MEGABYTE)


def test_a_redis_that_takes_smaller_values_than_max_entry_stops_nobody(make_redis, make_consumer, device):
    redis = make_redis("--proto-max-bulk-len", "1mb")
    consumer = make_consumer(store=redis).start()
    payload = b"x" * (2 * MEGABYTE)
    device.publish([("small", "first"), ("too/big", payload)])
    assert_put_aside(consumer, payload, 50, device)
    assert "too/big" in consumer.bridge.cli("spool").stdout


def no_bgsave(redis):
    """Makes BGSAVE fail: a folder stands where the snapshot would be."""
    (redis.folder / "dump.rdb").mkdir()
    (redis.folder / "dump.rdb" / "file").touch()
    redis.client.config_set("save", "3600 1")
    redis.client.bgsave()
    wait_until(lambda: redis.client.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "bgsave fails")


def wrong_type(redis):
    redis.client.rename("messages", "kept")
    redis.client.set("messages", "not a stream")


def right_type(redis):
    redis.client.delete("messages")
    redis.client.rename("kept", "messages")


ALLOWED = ["SETUSER", "bridge", "reset", "on", ">secret", "~*", "&*", "+@all"]


def forbid(redis, *rules):
    redis.client.execute_command("ACL", "SETUSER", "bridge", *rules)


def allow(redis):
    redis.client.execute_command("ACL", *ALLOWED)


REFUSALS = {  # by what Redis says, within a script too
    "OOM": (lambda redis: redis.client.config_set("maxmemory", "1mb"),
            lambda redis: redis.client.config_set("maxmemory", "0")),
    "WRONGTYPE": (wrong_type, right_type),
    "READONLY": (lambda redis: redis.client.replicaof("127.0.0.1", "9"),
                 lambda redis: redis.client.replicaof("NO", "ONE")),
    "MISCONF": (no_bgsave, lambda redis: redis.client.config_set("stop-writes-on-bgsave-error", "no")),
    "NOPERM": (lambda redis: forbid(redis, "-evalsha", "-eval"), allow),
    "can't run this command": (lambda redis: forbid(redis, "-xadd"), allow),  # within the script
}
WATCHED_S = 10.0


def test_a_refusing_redis_gets_a_back_off_until_it_accepts_an_append(make_consumer, make_redis,
                                                                                            device):
    """All refusals at once, each at a consumer and a Redis of its own."""
    consumers = {}
    for name in REFUSALS:
        redis = make_redis()
        allow(redis)
        consumers[name] = make_consumer(store=redis, client_id=name.split()[0])
        dsn = redis.dsn().replace("redis://", "redis://bridge:secret@")
        consumers[name].set("transport:async", dsn=dsn).set("log", level="info").start()
    sent = numbered(20)
    device.publish(sent)
    for name, consumer in consumers.items():
        consumer.wait_entries(20)
        REFUSALS[name][0](consumer.redis)
    before = {name: (consumer.log().count("\n"), consumer.redis.client.info("stats")["total_connections_received"])
              for name, consumer in consumers.items()}
    sent += [("load/refused", f"refused {number}") for number in range(20)]
    device.publish(sent[20:])
    time.sleep(WATCHED_S)  # what is tested is what happens in a time
    faults = []
    for name, consumer in consumers.items():
        log = consumer.log()
        lines = log.count("\n") - before[name][0]
        connections = consumer.redis.client.info("stats")["total_connections_received"] - before[name][1] - 1
        if name not in log:
            faults.append(f"{name}: is not named")
        if connections > 12 or lines > 30:
            faults.append(f"{name}: {connections} connections and {lines} lines in {WATCHED_S} s")
        if "takes messages again" in log:
            faults.append(f"{name}: {log.count('takes messages again')} times healthy again")
        REFUSALS[name][1](consumer.redis)
    for name, consumer in consumers.items():
        assert_all(sent, wait_all(consumer, sent, timeout=40))
        healthy = consumer.log().count("takes messages again")
        if healthy != 1:
            faults.append(f"{name}: {healthy} times healthy at the end")
    assert not faults, "\n".join(faults)


QUEUES = {
    "defaults": (60000, 1000, {}),
    "3.1.1 without a limit": (30000, 0, {"version": "3.1.1"}),
    "receive_maximum 65535": (30000, 0, {"receive_maximum": 65535}),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("count, inflight, mqtt", QUEUES.values(), ids=QUEUES)
def test_a_broker_restarted_over_a_full_queue_makes_no_second_identity(make_mosquitto, make_consumer, make_device,
                                                                       count, inflight, mqtt):
    broker = make_mosquitto(options={"max_inflight_messages": inflight})
    consumer = make_consumer(broker, **mqtt).set("log", level="info").start()
    consumer.stop()
    device = make_device(broker)
    sent = numbered(count)
    device.publish(sent)
    device.close()
    consumer.start(wait=False)
    wait_until(lambda: length(consumer) > count // 6, 30, lambda: consumer.process.log_tail(), every=0.005)
    broker.restart()
    assert_all(sent, wait_all(consumer, sent), repeats=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [1, 2])
def test_repeats_are_known_over_two_restarts_with_nothing_retained(make_consumer, mosquitto, makers,
                                                                                  device, version, qos):
    """The broker gets no acknowledgement. The second process lives only to send, and to free what is sent."""
    link = makers.keep(MqttLink(mosquitto.port))
    consumer = make_consumer(port=link.port, version=version, qos=qos, receive_maximum=1000)
    consumer.set("spool", retain="0").start()
    link.deaf = True
    sent = numbered(500)
    device.publish(sent, qos=qos)
    consumer.wait_entries(500)
    consumer.kill()
    link.refusing, link.deaf = True, False
    segments = set(consumer.bridge.state_dir.rglob("*.segment"))
    consumer.start(wait=False)
    deadline = time.monotonic() + 3  # a spool that keeps the segment is as good
    while segments & set(consumer.bridge.state_dir.rglob("*.segment")) and time.monotonic() < deadline:
        time.sleep(0.05)
    consumer.kill()
    link.refusing = False
    consumer.start()
    device.publish([("last", "last")])
    sent.append(("last", "last"))
    assert_all(sent, wait_all(consumer, sent), repeats=qos == 1)


def test_qos_2_is_exactly_once_over_a_port_that_accepts_and_closes(make_consumer, mosquitto, makers, device):
    """A balancer without a backend is no broker that does not speak MQTT 5."""
    link = makers.keep(MqttLink(mosquitto.port))
    consumer = make_consumer(port=link.port, qos=2).start()
    link.deaf = True
    sent = numbered(100)
    device.publish(sent, qos=2)
    consumer.wait_entries(100)
    link.refusing = True
    link.cut()
    refused_from = time.monotonic()
    wait_until(lambda: time.monotonic() - refused_from > 6 and link.refused > 2, 20, "it has tried for 6 s", every=0.1)
    link.refusing, link.deaf = False, False
    consumer.wait_log(READY, 2, timeout=30)
    sent.append(("last", "last"))
    device.publish(sent[-1:], qos=2)
    assert_all(sent, wait_all(consumer, sent))
    assert link.versions == {"5"}, "the broker has accepted MQTT 5 before"


@pytest.mark.timeout(240)
def test_a_message_that_takes_40_s_leaves_the_consumer_ready(make_consumer, make_redis, mosquitto,
                                                                               makers, device):
    """The message stands before SUBACK, for longer than any time-out. Both MQTT versions run at once."""
    consumers = []
    for version in VERSIONS:
        link = makers.keep(MqttLink(mosquitto.port))
        consumer = make_consumer(store=make_redis(), port=link.port, version=version, client_id=f"slow-{version}")
        consumers.append((consumer.start().stop(), link))
    sent = [("big", "00000000" + "x" * 400_000), *numbered(5)]
    device.publish(sent)
    for consumer, link in consumers:
        link.rate = 10_000
        consumer.start(wait=False)
    for consumer, link in consumers:
        consumer.wait_log(READY, timeout=100)
        assert_all(sent, wait_all(consumer, sent, timeout=30))
        assert link.made == 2, f"{link.made - 1} connections for one message"


@pytest.mark.parametrize("copied", ["while it was stopped", "under load"])
def test_two_copies_of_a_state_directory_come_to_rest(make_consumer, make_mosquitto, make_device, redis, copied):
    """A clone of the machine, with a broker of its own and the same Redis."""
    brokers = make_mosquitto(), make_mosquitto()
    devices = [make_device(broker) for broker in brokers]
    original, clone = (make_consumer(broker) for broker in brokers)
    original.start()
    first = numbered(20)
    devices[0].publish(first)
    original.wait_entries(20)
    if copied == "while it was stopped":
        original.stop()
    shutil.copytree(original.bridge.state_dir, clone.bridge.state_dir, dirs_exist_ok=True)
    if copied == "while it was stopped":
        original.start()
    clone.start()
    # They notice each other by their marks, when both send. What they receive until then has the same identities.
    early = []

    def noticed():
        for number, device in enumerate(devices):
            early.append((f"early/{number}", f"early {number} {len(early)}"))
            device.publish(early[-1:])
        settle(original, quiet_s=0.3)
        return any("docs/SPOOL.md" in consumer.log() for consumer in (original, clone))
    wait_until(noticed, 20, lambda: f"the cause is named, with what to do\n{original.process.log_tail(20)}")
    settle(original)
    before = length(original)
    kept = len(first + early)
    assert before <= kept + 2 * 3 * kept, "what is kept comes again, by each of them, but not for ever"
    late = [(f"late/{number}", f"late {number} {count}") for number in range(2) for count in range(200)]
    for device, part in zip(devices, (late[:200], late[200:])):
        device.publish(part)
    wait_until(lambda: length(original) >= before + len(late), 20, original.process.log_tail)
    settle(original, quiet_s=2)
    assert length(original) == before + len(late), "nothing is sent again any more"
    entries = original.entries()
    assert_all(late, [entry for entry in entries if entry.topic.startswith("late/")])
    assert {payload.encode() for _, payload in first + early} <= {entry.payload for entry in entries}
