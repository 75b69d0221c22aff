"""The bytes that the bridge writes, read by Symfony's own serializers, and the other way round."""

import json
import subprocess

import pytest
from bridge.compiled import compile_program, once
from bridge.php import PHP, SCRIPTS

SERIALIZERS = ["php", "json"]
NOW = "2026-11-24T10:00:00.123456+00:00"  # what wire_tool stamps with
CLASS = "App\\Message\\MqttMessage"
ERROR = "RuntimeException"
# Every escape of every layer; what is no UTF-8 is in BINARY.
TEXTS = ['{"temp":21.5}', "", "0", "}", "été 🌡 \u2028", "\"'\\/\\0\\\\'", "\n\t\r\b\f\x00\x01\x1f\x7f", "s:3:\"a\";}",
         "\\", "'", "\x00", "{}", "[]", "null"]
BINARY = [b"\xff", b"\x00\xff\xfe\"\\'/bin", bytes(range(256)), b"\xed\xa0\x80", b"\xc3"]


class Tool:
    """A program that answers a line with a line."""

    def __init__(self, command, env=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        assert answer, f"no answer to {words}: exit code {self.process.poll()}"
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Ours(Tool):
    def ask(self, *words):
        answer = super().ask(*words)
        assert not answer.startswith("error"), f"{words}: {answer}"
        return answer

    def stamp(self, value, retry_count=1, receiver="", message="no answer", stream_id="1-1"):
        return self.ask("stamp", value, retry_count, hexed(receiver), hexed(ERROR), hexed(message), hexed(stream_id))

    def decode(self, value):
        names = ["serializer", "topic", "payload", "class", "retry_count", "id"]
        return dict(zip(names, self.ask("decode", value).split(" ")))


class Php(Tool):
    def ask(self, *words):
        answer = json.loads(super().ask(*words))
        assert "error" not in answer, f"{words}: {answer}"
        return answer


def hexed(data):
    data = data.encode() if isinstance(data, str) else data
    return data.hex() or "-"


@pytest.fixture(scope="module")
def ours():
    program = once("wire_tool", lambda path: compile_program(path, ["tests/integration/helpers/wire_tool.c"]))
    tool = Ours([program])
    yield tool
    tool.close()
    assert tool.process.returncode == 0


def start_php(properties="public"):
    return Php([*PHP, SCRIPTS / "unserialize.php"],
               env={"PATH": "/usr/bin:/bin", "MESSAGE_PROPERTIES": properties})


@pytest.fixture(scope="module")
def php():
    tool = start_php()
    yield tool
    tool.close()


def contents(serializer):
    """Topics and payloads that Symfony can send with that serializer."""
    for text in TEXTS:
        yield "sensors/room1/temp", text
        yield f"a/{text}", "1"
    if serializer == "php":
        for data in BINARY:
            yield "raw", data
            yield data, "1"


@pytest.mark.parametrize("metadata", [0, 1])
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_symfony_reads_what_we_write(ours, php, serializer, metadata):
    for topic, payload in contents(serializer):
        value = ours.ask("encode", serializer, "public", metadata, hexed(topic), hexed(payload))
        read = php.ask("decode", serializer, value)
        assert (read["topic"] or "-", read["payload"] or "-") == (hexed(topic), hexed(payload))
        assert read["class"] == CLASS
        read["stamps"].pop("SerializedMessageStamp", None)  # of what it has read, since Symfony 6.1
        assert read["stamps"] == {"BusNameStamp": [{"busName": "messenger.bus.default"}]}


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_we_write_the_very_bytes_that_symfony_writes(ours, php, serializer):
    for topic, payload in contents(serializer):
        theirs = php.ask("encode", serializer, hexed(topic), hexed(payload))["value"]
        assert ours.ask("encode", serializer, "public", 0, hexed(topic), hexed(payload)) == theirs
        read = ours.decode(theirs)
        assert (read["topic"], read["payload"]) == (hexed(topic), hexed(payload))


@pytest.mark.parametrize("properties", ["public", "protected", "private"])
def test_php_and_we_agree_on_properties_of_any_visibility(ours, properties):
    php = start_php(properties)
    for serializer in SERIALIZERS:
        theirs = php.ask("encode", serializer, hexed("a/b"), hexed("é'"))["value"]
        assert ours.ask("encode", serializer, properties, 0, hexed("a/b"), hexed("é'")) == theirs
        assert ours.decode(theirs)["payload"] == hexed("é'")
        assert php.ask("decode", serializer, theirs)["payload"] == hexed("é'")
    php.close()


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_symfony_reads_the_stamps_of_failures(ours, php, serializer):
    for topic, payload in contents(serializer):
        value = ours.ask("encode", serializer, "public", 1, hexed(topic), hexed(payload))
        for attempt in (1, 2, 3):
            value = ours.stamp(value, attempt, stream_id=f"{attempt}-0")
        value = ours.stamp(value, 0, "async", "it's \"over\" \\ é", "4-0")
        read = php.ask("decode", serializer, value)
        assert (read["topic"] or "-", read["payload"] or "-") == (hexed(topic), hexed(payload))
        stamps = read["stamps"]
        assert stamps["TransportMessageIdStamp"] == [{"id": "4-0"}]
        assert [(s["exceptionClass"], s["exceptionMessage"]) for s in stamps["ErrorDetailsStamp"]] == \
            [(ERROR, "no answer"), (ERROR, "it's \"over\" \\ é")]
        assert stamps["SentToFailureTransportStamp"] == [{"originalReceiverName": "async"}]
        assert [s["delay"] for s in stamps["DelayStamp"]] == [1000] * 4
        assert [s["retryCount"] for s in stamps["RedeliveryStamp"]] == [1, 2, 3, 0]
        if serializer == "php":  # JSON's dates have no fraction, and 5.4 reads the wrong one
            assert {s["redeliveredAt"] for s in stamps["RedeliveryStamp"]} == {NOW}
        assert ours.decode(value)["id"] == hexed("00ff-1")


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_symfony_shows_an_entry_that_nobody_can_decode(ours, php, serializer):
    for data in (b"not an envelope", b'{"body":', "é".encode()):
        read = php.ask("decode", serializer, ours.ask("undecodable", serializer, hexed(data)))
        assert bytes.fromhex(read["topic"]) == b"$undecodable"
        assert bytes.fromhex(read["payload"]) == data
        assert read["stamps"]["ErrorDetailsStamp"][0]["exceptionMessage"] == "no envelope"


def test_a_binary_payload_under_json_is_base64_for_symfony(ours, php):
    value = ours.ask("encode", "json", "public", 0, hexed(b"a/\xff"), hexed(b"\xff\xfe\xfd"))
    read = php.ask("decode", "json", value)
    assert bytes.fromhex(read["topic"]).decode() == "a/\ufffd"
    assert bytes.fromhex(read["payload"]) == b"//79"
    read = ours.decode(ours.stamp(value))
    assert (read["topic"], read["payload"]) == (hexed(b"a/\xff"), hexed(b"\xff\xfe\xfd"))


def test_objects_and_references_stay_shared_through_our_stamps(ours, php, rng):
    for _ in range(300):
        seed = rng.randrange(2**31)
        before = php.ask("tangle", seed)["value"]
        after = ours.stamp(before, 2, rng.choice(["", "async"]), stream_id=rng.choice(["", "9-9"]))
        again = ours.stamp(after, 3)
        assert php.ask("same", before, after)["same"], f"tangle {seed}"
        assert php.ask("same", before, again)["same"], f"tangle {seed}, stamped twice"


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_symfony_handles_what_was_sent_again_anew(ours, php, serializer):
    for topic, payload in contents(serializer):
        value = ours.ask("encode", serializer, "public", 1, hexed(topic), hexed(payload))
        for attempt in range(1, 12):
            value = ours.stamp(value, attempt, stream_id=f"{attempt}-0")
        value = ours.ask("redriven", ours.stamp(value, 2, "async"))
        read = php.ask("decode", serializer, value)
        assert (read["topic"] or "-", read["payload"] or "-") == (hexed(topic), hexed(payload))
        stamps = read["stamps"]
        assert "SentToFailureTransportStamp" not in stamps, "Symfony would lose it when it fails again"
        redeliveries = stamps["RedeliveryStamp"]  # under the numbers that they had: a list only if none went
        redeliveries = list(redeliveries.values()) if isinstance(redeliveries, dict) else redeliveries
        assert redeliveries[-1]["retryCount"] == 0 and len(redeliveries) == 10
        assert ours.decode(value)["id"] == hexed("00ff-1")


def test_objects_and_references_stay_shared_when_a_message_is_sent_again(ours, php, rng):
    for _ in range(300):
        seed = rng.randrange(2**31)
        before = php.ask("tangle", seed)["value"]
        again = ours.ask("redriven", ours.stamp(before, 2, "async"))
        assert php.ask("same", before, again)["same"], f"tangle {seed}"
        assert php.ask("same", before, ours.ask("redriven", before))["same"], f"tangle {seed}, without stamps"
        failed_again = ours.ask("redriven", ours.stamp(again, 1, "async"))
        assert php.ask("same", before, failed_again)["same"], f"tangle {seed}, sent again twice"
