"""mqtt-bridge-consumer by itself, between a real broker and a real Redis."""

import base64
import json
import re
import time

import pytest

from .process import wait_until

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
        self.read = {}  # name and fields of an entry -> Entry: each is read once
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
        return [self._entry(name, fields) for name, fields in self.redis.client.xrange(stream)]

    def _entry(self, name, fields):
        key = (name, fields[b"message"])
        if key not in self.read:
            self.read[key] = Entry(fields)
        return self.read[key]

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
        wait_until(lambda: any(last in path.read_bytes() for path in folder.rglob("*segment*")), 20,
                   "the last message is in the spool")

    def wait_idle(self, publisher):
        """Until everything published so far has been through: a last message is there, and counts for
        nothing."""
        marker = f"marker-{time.monotonic_ns()}".encode()
        publisher.publish("marker", marker)
        wait_until(lambda: any(marker in fields[b"message"] for _, fields
                               in self.redis.client.xrevrange("messages", count=2000)), 30,
                   lambda: f"the marker\n{self.process.log_tail(60)}")
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
