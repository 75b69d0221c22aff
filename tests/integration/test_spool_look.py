"""`mqtt-bridge spool show`, `verify` and `dump`: what a spool holds, told without disturbing its consumer."""

import json
import re

import pytest
from bridge import wait_until
from bridge.consumer import assert_all, numbered

HEADER = 4096


@pytest.fixture
def idle(make_consumer, publisher, redis):
    """A spool of 40 messages of which Redis has the first 30, and no consumer."""
    consumer = make_consumer(qos=2)
    consumer.start()
    sent = numbered(30, "plant/{}")
    publisher.publish_all(sent)
    consumer.wait_entries(30)
    redis.stop()
    more = [*numbered(8, "later/{}"), ("later/json", '{"a":[1,2]}'), ("later/bytes", b"\x00\xff")]
    publisher.publish_all(more)
    consumer.wait_spooled(more[:8])
    wait_until(lambda: show(consumer)["unsent"] == 10, 20, consumer.process.log_tail)
    consumer.kill()
    consumer.sent = sent + more
    return consumer


def spool(consumer, *arguments, code=0):
    answer = consumer.bridge.cli("spool", *arguments, check=False)
    assert answer.returncode == code, answer.stdout + answer.stderr
    return answer.stdout if code == 0 else answer.stdout + answer.stderr


def show(consumer):
    one, = json.loads(spool(consumer, "show", "--json"))
    return one


def dumped(consumer, *arguments):
    return [json.loads(line) for line in spool(consumer, "dump", "--json", *arguments).splitlines()]


def snapshot(consumer):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
            for path in (consumer.bridge.state_dir / "spool").rglob("*") if path.is_file()}


def segments(consumer):
    return sorted((consumer.bridge.state_dir / "spool").rglob("*.segment"))


def test_show_tells_what_is_kept_and_what_is_unsent(idle, redis):
    one = show(idle)
    assert (one["messages"], one["unsent"], one["receives"], one["oversized"]) == (40, 10, True, 0)
    assert one["destination"].startswith("redis://127.0.0.1") and one["spool"].startswith("bridge/")
    assert re.fullmatch(r"[0-9a-f]{16}:30", one["mark"]) and 0 < one["unsent_bytes"] < 2000
    segment, = one["segments"]
    assert (segment["first_sequence"], segment["last_sequence"], segment["state"]) == (1, 40, "partly sent")
    text = spool(idle, "show")
    assert "10 messages, " in text and "the oldest came " in text and "1-40" in text
    assert spool(idle, "show", one["spool"]) .startswith(one["spool"] + " (receives)\n")
    assert "no such spool" in spool(idle, "show", "nothing", code=1)
    redis.start()
    idle.start()
    idle.wait_entries(40)
    wait_until(lambda: show(idle)["unsent"] == 0, 20, idle.process.log_tail)


def test_dump_prints_the_messages_in_their_order(idle, redis):
    messages = dumped(idle)
    assert [message["topic"] for message in messages] == [topic for topic, _ in idle.sent]
    assert [message["sequence"] for message in messages] == list(range(1, 41))
    assert messages[38]["payload"] == {"a": [1, 2]}
    assert (messages[39]["payload"], messages[39]["encoding"]) == ("AP8=", "base64")
    assert [message["unsent"] for message in messages] == [False] * 30 + [True] * 10
    text = spool(idle, "dump", "--limit", "1")
    assert messages[0]["id"] in text and "plant/0" in text and text.count("\n") == 1
    assert [message["topic"] for message in dumped(idle, "--topic", "+/json")] == ["later/json"]
    assert len(dumped(idle, "--unsent")) == 10 and len(dumped(idle, "--topic", "plant/#", "--limit", "3")) == 3
    assert "takes a number" in spool(idle, "dump", "--limit", "x", code=2)
    assert "#" in spool(idle, "dump", "--topic", "a/#/b", code=2)
    redis.start()
    idle.start()
    ids = {entry.id for entry in idle.wait_entries(40)}
    assert ids == {message["id"] for message in messages}, "the identities are those that Redis gets"


def test_looking_changes_no_file_and_takes_no_lock(idle):
    before = snapshot(idle)
    for action in ("show", "verify", "dump"):
        spool(idle, action)
    assert snapshot(idle) == before


def test_damage_is_found_by_file_and_offset(idle):
    assert "40 good messages, no damage" in spool(idle, "verify")
    path, = segments(idle)
    data = bytearray(path.read_bytes())
    at = data.index(b"00000007", HEADER)
    data[at] ^= 1
    path.write_bytes(data)
    one, = json.loads(spool(idle, "verify", "--json", code=1))
    damage, = one["damage"]
    assert (one["ok"], one["messages"], damage["messages"]) == (False, 39, 1)
    assert damage["file"] == path.name and damage["offset"] <= at < damage["offset"] + damage["bytes"]
    text = spool(idle, "verify", code=1)
    assert f"{path.name}: offset {damage['offset']}, {damage['bytes']} bytes: " in text and "1 message lost" in text
    answer = idle.bridge.cli("spool", "dump", "--json", check=False)
    assert answer.returncode == 1, "what is incomplete is no success"
    assert len(answer.stdout.splitlines()) == 39 and "1 damaged message is left out" in answer.stderr


@pytest.mark.parametrize("harm, says", [
    (lambda path: path.write_bytes(b"x" * HEADER + path.read_bytes()[HEADER:]), "no segment of a spool"),
    (lambda path: path.write_bytes(path.read_bytes()[:100]), "no segment of a spool"),
    (lambda path: path.write_bytes(path.read_bytes()[:20] + b"x" + path.read_bytes()[21:]), "damaged header"),
    (lambda path: (path.unlink(), path.mkdir()), "Invalid argument"),
    (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "symbolic links"),
])
def test_a_file_that_is_no_valid_segment_is_reported_as_damage(idle, harm, says):
    path, = segments(idle)
    harm(path)
    assert says in spool(idle, "verify", code=1)
    assert says in spool(idle, "show")
    assert says in spool(idle, "dump", code=1)


def test_a_torn_tail_is_no_damage(idle):
    path, = segments(idle)
    data = path.read_bytes()
    path.write_bytes(data[:data.index(b"later/bytes") + 5])
    assert "39 good messages, no damage" in spool(idle, "verify")


def test_a_segment_that_is_missing_is_reported(make_consumer, publisher, redis):
    consumer = make_consumer().set("mqtt", maximum_packet_size="64K").set("spool", size="2M", retain="256K").start()
    redis.stop()
    publisher.publish_all([("big", "x" * 60_000)] * 12)
    wait_until(lambda: len(segments(consumer)) > 4, 20, consumer.process.log_tail)
    consumer.kill()
    assert "no damage" in spool(consumer, "verify")
    segments(consumer)[2].unlink()
    assert "lost" in spool(consumer, "verify", code=1)
    assert "damaged messages are left out" in spool(consumer, "dump", code=1)


def test_the_time_of_a_large_first_message_is_shown(make_consumer, publisher, redis):
    consumer = make_consumer().set("mqtt", maximum_packet_size="1M").set("spool", size="8M", retain="1M").start()
    redis.stop()
    publisher.publish_all([("big", "x" * 400_000)] * 8)
    wait_until(lambda: len(segments(consumer)) > 2, 20, consumer.process.log_tail)
    consumer.kill()
    one = show(consumer)
    times = [segment["first_received"] for segment in one["segments"] if segment["messages"] > 0]
    assert len(times) > 1 and one["oldest_unsent"] == min(times) and min(times) > "2000"


def test_damaged_oversized_files_are_found(make_consumer, publisher):
    consumer = make_consumer().set("transport:async", max_entry="1M").start()
    publisher.publish("big", "\x01" * 200_000)
    files = lambda: list((consumer.bridge.state_dir / "spool").rglob("*.oversized"))
    wait_until(files, 10, consumer.process.log_tail)
    assert show(consumer)["oversized"] == 1 and "no damage" in spool(consumer, "verify")
    data = bytearray(files()[0].read_bytes())
    data[1000] ^= 1
    files()[0].write_bytes(data)
    assert f"{files()[0].name} is damaged" in spool(consumer, "verify", code=1)


def test_a_live_spool_is_never_taken_for_damaged(make_consumer, publisher):
    """Segments are begun, freed and used again all the while."""
    consumer = make_consumer().set("mqtt", maximum_packet_size="64K").set("spool", size="8M", retain="256K").start()
    sent = [(f"load/{number % 7}", f"{number:08d}" + "x" * 3000) for number in range(4000)]
    publisher.start_all(sent, rate=1500)
    looks = 0
    while looks < 12:
        for action in ("verify", "dump", "show"):
            spool(consumer, action)
            looks += 1
    publisher.wait_confirmed()
    assert_all(sent, consumer.wait_entries(len(sent), 60))


@pytest.mark.parametrize("arguments, says", [
    (["shwo"], "did you mean `show`?"),
    (["xyzzy"], "it takes list, resend, remove, show, verify or dump"),
    (["show", "--all"], "spool show has no option `--all`"),
    (["verify", "--limit", "3"], "spool verify has no option `--limit`"),
    (["list", "x"], "spool list takes no ID"),
])
def test_spool_refuses_unknown_actions_options_and_arguments(consumer, arguments, says):
    consumer.bridge.write_config()
    assert says in spool(consumer, *arguments, code=2)


def test_without_a_spool_show_and_verify_say_so(consumer):
    consumer.bridge.write_config()
    assert "there is no spool" in spool(consumer, "show") and "there is no spool" in spool(consumer, "verify")
    assert json.loads(spool(consumer, "show", "--json")) == [] and spool(consumer, "dump") == ""
