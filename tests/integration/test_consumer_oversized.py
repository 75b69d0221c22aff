"""A message that is too large, for Redis or for a segment of the spool, is set aside in a file and stops nothing. It is
counted and shown, and `mqtt-bridge spool` sends it again or removes it."""

import json
import os
import pty
import re
import subprocess

import pytest
from bridge import build_folder, wait_until
from bridge.consumer import Consumer, assert_all, numbered
from bridge.process import peak_bytes

CONTROL = "\x01" * 200_000  # 1.4 MB in JSON in JSON


@pytest.fixture
def small(make_consumer):
    """A consumer with entries of at most 1 MB."""
    return make_consumer(qos=2).set("transport:async", max_entry="1M")


def spool(consumer, *arguments, code=0):
    consumer.bridge.write_config()
    answer = consumer.bridge.cli("spool", *arguments, check=False)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


def listed(consumer):
    return json.loads(spool(consumer, "--json"))


def files(consumer):
    return list((consumer.bridge.state_dir / "spool").rglob("*.oversized"))


def test_a_message_too_large_for_redis_holds_up_nothing_behind_it(small, publisher):
    small.start()
    before, behind = numbered(300), numbered(300, "behind/{}")
    publisher.publish_all([*before, ("big/one", CONTROL), *behind, ("big/two", CONTROL)])
    small.wait_entries(600)
    wait_until(lambda: len(files(small)) == 2, 10, small.process.log_tail)
    assert_all(before + behind, small.wait_idle(publisher))
    line = next(line for line in small.log().splitlines() if "big/one" in line)
    assert "WARNING" in line and "too large for Redis" in line and "mqtt-bridge spool" in line
    assert '"bytes":200000' in line
    small.restart()
    assert_all(before + behind, small.wait_idle(publisher))
    assert len(files(small)) == 2


def test_set_aside_messages_are_listed_resent_once_and_removed(small, publisher, redis):
    small.start()
    publisher.publish("big/one", CONTROL, qos=2)
    publisher.publish("big/two", CONTROL)
    wait_until(lambda: len(files(small)) == 2, 10, small.process.log_tail)
    one, two = listed(small)
    assert (one["topic"], one["bytes"], one["qos"], one["why"]) == ("big/one", 200_000, 2, "too large for Redis")
    assert re.fullmatch(r"[0-9a-f]{32}-\d+", one["id"]) and one["spool"].startswith("bridge/")
    table = spool(small)
    assert "big/one" in table and one["id"] in table and "195K" in table

    said = spool(small, "resend", one["id"], code=1)
    assert "raise [transport:async] max_entry" in said and redis.client.xlen("messages") == 0
    small.set("transport:async", max_entry="4M")
    assert f"{one['id']}: sent" in spool(small, "resend", one["id"])
    entry, = small.entries()
    assert (entry.id, entry.topic, entry.payload.decode(), entry.qos) == (one["id"], "big/one", CONTROL, 2)
    assert entry.headers["X-Mqtt-Received-At"] == one["received"]
    assert [message["id"] for message in listed(small)] == [two["id"]]

    spool(small, "remove", two["id"], code=2)  # nobody can be asked
    spool(small, "remove", "--all", "--yes")
    assert listed(small) == [] and files(small) == [] and redis.client.xlen("messages") == 1
    spool(small, "resend", two["id"], code=1)


def test_a_resend_pushes_nothing_out_of_a_bounded_stream(small, publisher, redis):
    small.start()
    publisher.publish("big/one", CONTROL, qos=2)
    wait_until(lambda: len(files(small)) == 1, 10, small.process.log_tail)
    one, = listed(small)
    waiting = redis.client.xadd("messages", {"message": "x"})
    small.set("transport:async", max_entry="4M", dsn=redis.dsn(stream_max_entries=1, timeout=1, read_timeout=1))
    assert "the stream keeps 1 entries (`stream_max_entries`)" in spool(small, "resend", one["id"], code=1)
    assert redis.client.xlen("messages") == 1 and len(files(small)) == 1
    redis.client.xdel("messages", waiting)
    assert f"{one['id']}: sent" in spool(small, "resend", one["id"])


def test_resend_and_remove_answer_in_json_too(small, publisher, redis):
    small.start()
    publisher.publish_all([("big/one", CONTROL), ("big/two", CONTROL)])
    wait_until(lambda: len(files(small)) == 2, 10, small.process.log_tail)
    one, two = listed(small)
    refused = small.bridge.cli("spool", "resend", one["id"], "--json", check=False)
    answer, = json.loads(refused.stdout)
    assert refused.returncode == 1 and "max_entry" in answer["error"] and answer["id"] == one["id"]
    small.set("transport:async", max_entry="4M")
    assert json.loads(spool(small, "resend", one["id"], "--json")) == [
        {"id": one["id"], "spool": one["spool"], "done": "sent"}]
    assert json.loads(spool(small, "remove", "--all", "--yes", "--json")) == [
        {"id": two["id"], "spool": two["spool"], "done": "removed"}]
    assert redis.client.xlen("messages") == 1 and files(small) == []


def test_a_removal_that_is_not_confirmed_removes_nothing_and_says_so(small, publisher):
    small.start()
    publisher.publish("big", CONTROL)
    wait_until(lambda: files(small), 10, small.process.log_tail)
    here, terminal = pty.openpty()
    os.write(here, b"n\n")
    answer = subprocess.run([build_folder() / "mqtt-bridge", "spool", "remove", "--all"], stdin=terminal, text=True,
                            capture_output=True, timeout=30, env=small.bridge.environment())
    assert answer.returncode == 1 and "[y/N]" in answer.stderr and "nothing was done" in answer.stderr
    assert len(files(small)) == 1


def test_files_beyond_the_size_of_the_spool_stop_nobody(make_consumer, publisher):
    consumer = make_consumer().set("transport:async", max_entry="1M")
    consumer.set("mqtt", maximum_packet_size="256K").set("spool", size="2M", retain="0").start()
    for number in range(11):  # one by one: in the spool itself there is not room for all of them
        publisher.publish(f"big/{number}", CONTROL)
        wait_until(lambda: len(files(consumer)) > number, 10, consumer.process.log_tail)
    sent = numbered(50)
    publisher.publish_all(sent)
    assert_all(sent, consumer.wait_entries(50))
    consumer.restart()
    sent += numbered(50, "after/{}")
    publisher.publish_all(sent[50:])
    assert_all(sent, consumer.wait_entries(100))
    assert len(listed(consumer)) == 11


def test_an_out_of_memory_error_names_the_setting_max_entry(make_consumer, make_redis,
                                                                                      publisher):
    redis = make_redis("--maxmemory", "8mb")
    consumer = make_consumer(store=redis).start()
    sent = numbered(100)
    publisher.publish_all([*sent[:50], ("big", "x" * 12_000_000), *sent[50:]])
    consumer.wait_log("[transport:async] max_entry below 1")
    assert_all(sent[:50], consumer.entries())
    consumer.set("transport:async", max_entry="4M").restart()
    assert_all(sent, consumer.wait_idle(publisher))
    assert [message["topic"] for message in listed(consumer)] == ["big"]


def test_a_resend_that_dies_before_it_removes_the_file_sends_once(small, publisher, redis):
    small.start()
    publisher.publish("big", CONTROL)
    path, = wait_until(lambda: files(small), 10, small.process.log_tail)
    kept = path.read_bytes()
    small.set("transport:async", max_entry="4M")
    message, = listed(small)
    spool(small, "resend", "--all", "-y")
    path.write_bytes(kept)
    assert "was sent before" in spool(small, "resend", message["id"])
    assert redis.client.xlen("messages") == 1 and files(small) == []


def test_a_damaged_file_is_listed_and_not_sent(small, publisher, redis):
    small.start()
    publisher.publish("big", CONTROL)
    path, = wait_until(lambda: files(small), 10, small.process.log_tail)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    small.set("transport:async", max_entry="4M")
    assert "damaged" in spool(small, "resend", "--all", "-y", code=1)
    assert redis.client.xlen("messages") == 0 and len(files(small)) == 1


def test_only_messages_over_redis_proto_max_bulk_len_are_set_aside(make_consumer, make_redis, publisher):
    """The messages are smaller than max_entry, but above the server's limit; others of the same batch are sent."""
    redis = make_redis("--proto-max-bulk-len", "1048576")
    consumer = make_consumer(store=redis).start()
    redis.freeze()  # so that they make one batch
    sent = numbered(100)
    publisher.publish_all([*sent[:50], ("big/1", "x" * 1_500_000), ("big/2", CONTROL * 30), *sent[50:]])
    consumer.wait_spooled(sent)
    redis.thaw()
    assert_all(sent, consumer.wait_idle(publisher))
    assert [message["topic"] for message in listed(consumer)] == ["big/1", "big/2"]
    assert 1 <= consumer.log().count("invalid bulk length") <= 2


def test_a_message_on_which_this_redis_hangs_up_is_set_aside_alone(make_consumer, make_redis, publisher):
    """Above client-query-buffer-limit Redis closes the connection without an error."""
    redis = make_redis("--client-query-buffer-limit", "1mb")
    consumer = make_consumer(store=redis).start()
    redis.freeze()  # so that they make one batch
    sent = numbered(100)
    publisher.publish_all([*sent[:50], ("big", "x" * 3_000_000), *sent[50:]])
    consumer.wait_spooled(sent)
    redis.thaw()
    assert_all(sent, consumer.wait_idle(publisher))
    assert [message["topic"] for message in listed(consumer)] == ["big"]


def test_a_hundred_megabytes_of_control_bytes_cost_no_multiple_of_memory(make_consumer, make_mosquitto, publisher):
    consumer = make_consumer().set("mqtt", maximum_packet_size="128M").set("spool", size="1G").start()
    publisher.publish("small", "1")
    publisher.publish("big", b"\x01" * 100_000_000)
    publisher.publish("small", "2")
    consumer.wait_entries(2, timeout=60)
    assert len(files(consumer)) == 1
    peak_kb = peak_bytes(consumer.process) // 1024
    # paho has the packet once, and the page cache what the spool has of it.
    assert peak_kb < 400_000, peak_kb  # some of it the sanitizers', where they are


def test_a_message_larger_than_a_segment_is_set_aside_and_resendable(make_consumer, publisher):
    """Only with MQTT 3.1.1: under MQTT 5 the broker does not send such a message."""
    consumer = make_consumer(version="3.1.1").set("spool", size="16M", retain="6M").start()
    sent = [("small", f"{number:06d}" + "x" * 20000) for number in range(300)]
    publisher.publish_all(sent)
    publisher.publish("large", b"y" * 11_000_000)
    publisher.publish("small", "last")
    assert_all([*sent, ("small", "last")], consumer.wait_entries(301))
    message, = listed(consumer)
    assert (message["topic"], message["why"]) == ("large", "too large for the spool")
    assert ": sent" in spool(consumer, "resend", message["id"])
    assert [(entry.topic, len(entry.payload)) for entry in consumer.entries()[301:]] == [("large", 11_000_000)]
    consumer.restart()
    assert len(consumer.wait_idle(publisher)) == 302 and files(consumer) == []


def test_the_status_and_the_metrics_show_what_was_set_aside(make_bridge, mosquitto, redis, hub, publisher):
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=hub)
    consumer = Consumer(bridge, redis).set("transport:async", max_entry="1M")
    bridge.start()
    publisher.publish("big", CONTROL)
    wait_until(lambda: bridge.status()["spool"]["oversized_messages"] == 1, 10, bridge.supervisor.log_tail)
    assert bridge.status()["spool"]["oversized_bytes"] >= 200_000
    assert "set aside 1 (mqtt-bridge spool)" in bridge.cli("status").stdout
    assert bridge.cli("health", check=False).returncode == 0, "it is no reason not to be ready"
    metrics = bridge.get("/metrics")[1]
    assert re.search(r'mqtt_bridge_oversized_messages\{consumer=""\} 1', metrics)
    assert re.search(r'mqtt_bridge_messages_oversized_total\{consumer=""\} 1', metrics)
    bridge.supervisor.stop()
    consumer.set("mqtt", client_id="another")
    bridge.start()
    wait_until(lambda: bridge.status()["spool"]["oversized_messages"] == 1, 20, "those of a former client id count too")
    assert consumer.bridge.cli("spool", "remove", "--all", "-y").returncode == 0
    wait_until(lambda: bridge.status()["spool"]["oversized_messages"] == 0, 30, "its removal is noticed")
