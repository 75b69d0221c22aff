"""Stream entries as a PHP application writes them, and as they stand in Redis."""

import base64
import collections
import json

from .process import wait_until


def string(data):
    """A string as PHP serializes it; php-redis stores the field `message` in that form."""
    return b's:%d:"%s";' % (len(data), data)


def serialized_body(serialized):
    """The body under PhpSerializer: with slashes, and in base64 where it is no UTF-8."""
    for plain, escaped in ((b"\\", b"\\\\"), (b"'", b"\\'"), (b'"', b'\\"'), (b"\0", b"\\0")):
        serialized = serialized.replace(plain, escaped)
    try:
        return serialized.decode()
    except UnicodeDecodeError:
        return base64.b64encode(serialized).decode()


def stored(body, headers):
    """The field `message` of an entry with that body and those headers."""
    text = json.dumps({"body": body, "headers": headers}, separators=(",", ":")).replace("/", "\\/")
    return string(text.encode())


def php_value(topic, payload, headers=None):
    """The field `message` of a fresh dispatch under PhpSerializer, as php-redis stores it."""
    topic, payload = (part if isinstance(part, bytes) else part.encode() for part in (topic, payload))
    stamp = b"Symfony\\Component\\Messenger\\Stamp\\BusNameStamp"
    envelope = b"Symfony\\Component\\Messenger\\Envelope"
    serialized = (
        b'O:%d:"%s":2:{' % (len(envelope), envelope)
        + string(b"\0" + envelope + b"\0stamps") + b"a:1:{" + string(stamp)
        + b'a:1:{i:0;O:%d:"%s":1:{' % (len(stamp), stamp)
        + string(b"\0" + stamp + b"\0busName") + string(b"messenger.bus.default") + b"}}}"
        + string(b"\0" + envelope + b"\0message")
        + b'O:23:"App\\Message\\MqttMessage":2:{' + string(b"topic") + string(topic)
        + string(b"payload") + string(payload) + b"}}")
    return stored(serialized_body(serialized), headers or [])


def json_value(topic, payload, more=None):
    """The same under Symfony's JSON serializer; more: headers."""
    body = json.dumps({"topic": topic, "payload": payload}, separators=(",", ":")).replace("/", "\\/")
    bus = "X-Message-Stamp-Symfony\\Component\\Messenger\\Stamp\\BusNameStamp"
    headers = {"type": "App\\Message\\MqttMessage", bus: '[{"busName":"messenger.bus.default"}]',
               "Content-Type": "application/json", **(more or {})}
    return stored(body, headers)


def add(redis, topic, payload, stream="messages"):
    return redis.client.xadd(stream, {"message": php_value(topic, payload)}).decode()


def add_many(redis, messages, stream="messages"):
    """messages: (topic, payload) pairs."""
    pipeline = redis.client.pipeline(transaction=False)
    for topic, payload in messages:
        pipeline.xadd(stream, {"message": php_value(topic, payload)})
    return [entry.decode() for entry in pipeline.execute()]


def entries(redis, stream="messages"):
    """The field `message` of each entry, oldest first."""
    return [fields[b"message"] for _, fields in redis.client.xrange(stream)]


def pend(redis, messages, consumer="here-1"):
    """Leaves the messages pending at a worker that died; its successor has the instance `here`."""
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    ids = add_many(redis, messages)
    redis.client.xreadgroup("symfony", consumer, {"messages": ">"}, count=len(messages))
    return ids


def wait_until_claimed(redis, count, times=5):
    """Waits until so many entries are pending, and their worker has claimed each of them so many times."""
    idle, kept = {}, collections.Counter()

    def all_are_kept():
        for entry in redis.client.xpending_range("messages", "symfony", "-", "+", count):
            name, now = entry["message_id"], entry["time_since_delivered"]
            kept[name] += now < idle.get(name, 0)
            idle[name] = now
        return len(kept) == count and min(kept.values()) >= times
    wait_until(all_are_kept, 30, lambda: f"kept so often: {kept}")
