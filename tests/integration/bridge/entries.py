"""Stream entries as a PHP application writes them, and what stands in the failure transport."""

import base64
import collections
import json

from .process import wait_until


def _string(data):
    return b's:%d:"%s";' % (len(data), data)


def _is_utf8(data):
    try:
        data.decode()
        return True
    except UnicodeDecodeError:
        return False


def php_value(topic, payload, headers=None):
    """The field `message` of a fresh dispatch under PhpSerializer, as php-redis stores it."""
    topic, payload = (part if isinstance(part, bytes) else part.encode() for part in (topic, payload))
    stamp = b"Symfony\\Component\\Messenger\\Stamp\\BusNameStamp"
    envelope = b"Symfony\\Component\\Messenger\\Envelope"
    serialized = (
        b'O:%d:"%s":2:{' % (len(envelope), envelope)
        + _string(b"\0" + envelope + b"\0stamps") + b"a:1:{" + _string(stamp)
        + b'a:1:{i:0;O:%d:"%s":1:{' % (len(stamp), stamp)
        + _string(b"\0" + stamp + b"\0busName") + _string(b"messenger.bus.default") + b"}}}"
        + _string(b"\0" + envelope + b"\0message")
        + b'O:23:"App\\Message\\MqttMessage":2:{' + _string(b"topic") + _string(topic)
        + _string(b"payload") + _string(payload) + b"}}")
    slashed = serialized.translate(None)
    for plain, escaped in ((b"\\", b"\\\\"), (b"'", b"\\'"), (b'"', b'\\"'), (b"\0", b"\\0")):
        slashed = slashed.replace(plain, escaped)
    body = slashed.decode() if _is_utf8(slashed) else base64.b64encode(slashed).decode()
    text = json.dumps({"body": body, "headers": headers or []}, separators=(",", ":"))
    text = text.replace("/", "\\/").encode()
    return _string(text)


def json_value(topic, payload):
    """The same under Symfony's JSON serializer."""
    body = json.dumps({"topic": topic, "payload": payload}, separators=(",", ":")).replace("/", "\\/")
    bus = "X-Message-Stamp-Symfony\\Component\\Messenger\\Stamp\\BusNameStamp"
    headers = {"type": "App\\Message\\MqttMessage", bus: '[{"busName":"messenger.bus.default"}]',
               "Content-Type": "application/json"}
    return _string(json.dumps({"body": body, "headers": headers}, separators=(",", ":")).encode())


def add(redis, topic, payload, stream="messages"):
    return redis.client.xadd(stream, {"message": php_value(topic, payload)}).decode()


def add_many(redis, messages, stream="messages"):
    """messages: (topic, payload) pairs."""
    pipeline = redis.client.pipeline(transaction=False)
    for topic, payload in messages:
        pipeline.xadd(stream, {"message": php_value(topic, payload)})
    return [entry.decode() for entry in pipeline.execute()]


def failed_rows(database, queue="failed"):
    """Empty while the table does not exist."""
    if not database.query("SELECT to_regclass('messenger_messages') AS name")[0]["name"]:
        return []
    return database.query("SELECT * FROM messenger_messages WHERE queue_name = %s ORDER BY id", queue)


def pend(redis, entries, consumer="here-1"):
    """The entries are in the hands of a worker that died; its successor has the instance `here`."""
    redis.client.xgroup_create("messages", "symfony", "0", mkstream=True)
    ids = add_many(redis, entries)
    redis.client.xreadgroup("symfony", consumer, {"messages": ">"}, count=len(entries))
    return ids


def wait_until_kept(redis, count, times=5):
    """So many entries are pending, and each of them has been touched so often by whoever works on it."""
    idle, kept = {}, collections.Counter()

    def all_are_kept():
        for entry in redis.client.xpending_range("messages", "symfony", "-", "+", count):
            name, now = entry["message_id"], entry["time_since_delivered"]
            kept[name] += now < idle.get(name, 0)
            idle[name] = now
        return len(kept) == count and min(kept.values()) >= times
    wait_until(all_are_kept, 30, lambda: f"kept so often: {kept}")
