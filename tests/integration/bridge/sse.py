"""A subscriber: what a page's EventSource sees, every event kept."""

import base64
import http.client
import itertools
import json
import socket
import threading
import time
import urllib.parse
from typing import NamedTuple

from .process import wait_until

MARKER = "urn:mqtt-bridge-tests:marker"  # a topic, and the type of its updates
MARKERS = itertools.count(1)


def compact(value):
    """As JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Event(NamedTuple):
    id: str
    type: str
    data: str
    at: float  # time.monotonic() of its arrival

    @property
    def document(self):
        """The message document that the bridge publishes."""
        return json.loads(self.data)

    @property
    def payload(self):
        return self.document["payload"]

    @property
    def payload_bytes(self):
        """What the device sent; of JSON, its compact form."""
        document = self.document
        payload = document["payload"]
        if document.get("encoding") == "base64":
            return base64.b64decode(payload)
        return (payload if isinstance(payload, str) else compact(payload)).encode()


class SseClient:
    """Reads in a thread of its own. Reconnects as a browser does, with Last-Event-ID, unless told not to.
    publish(topic, data, type=...) publishes at the same hub."""

    def __init__(self, port, topics, last_event_id=None, token=None, reconnect=True, publish=None):
        self.port = port
        self.path = "/.well-known/mercure?" + urllib.parse.urlencode(
            [("topic", topic) for topic in [*topics, MARKER]])
        self.publish = publish
        self._marker = 0
        self.last_event_id = last_event_id
        self.token = token
        self.reconnect = reconnect
        self.connections = 0
        self.connected = threading.Event()
        self.error = None
        self._events = []
        self._closed = False
        self._socket = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def connect(self, timeout=10.0):
        self._thread.start()
        wait_until(lambda: self.connected.is_set() or not self._thread.is_alive(), timeout,
                   "the hub takes the subscription")
        assert self.connected.is_set(), f"the hub refused the subscription: {self.error}"
        return self

    def close(self):
        self._closed = True
        if self._socket:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(5)

    @property
    def events(self):
        """What has arrived so far, in order; a copy."""
        return self._events[:]

    def caught_up(self, timeout=15.0):
        """All events of updates that the hub has taken before this call: it hands them on in their order."""
        wanted = next(MARKERS)
        next_try = 0.0

        def has_come():
            nonlocal next_try
            if time.monotonic() >= next_try:  # again: the connection may have been lost meanwhile
                self.publish(MARKER, str(wanted), type=MARKER)
                next_try = time.monotonic() + 1
            return self._marker >= wanted
        wait_until(has_come, timeout, "the subscriber has seen all updates so far")
        return self.events

    def __len__(self):
        return len(self._events)

    def wait_for(self, predicate, timeout=15.0, what="the events"):
        """Until predicate(events) is true; returns the events."""
        wait_until(lambda: predicate(self._events[:]), timeout,
                   lambda: f"{what}; {len(self)} events so far, the last: {self._events[-3:]}")
        return self.events

    def wait_count(self, count, timeout=15.0):
        """Until so many events are there; returns them."""
        wait_until(lambda: len(self) >= count, timeout,
                   lambda: f"{count} events; {len(self)} so far, the last: {self._events[-3:]}")
        return self.events

    def wait_topic(self, topic, timeout=15.0):
        """The first event whose document has that MQTT topic."""
        return wait_until(lambda: next((event for event in self.events if event.document["topic"] == topic), None),
                          timeout, lambda: f"an event of topic {topic}; {len(self)} others so far")

    def _run(self):
        while not self._closed:
            try:
                self._read_once()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.error = error
            self.connected.clear()
            if not self.reconnect or isinstance(self.error, PermissionError):
                return
            time.sleep(0.05)

    def _read_once(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Accept": "text/event-stream"}
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.connect()
            self._socket = connection.sock
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise PermissionError(f"{answer.status} {answer.read()!r}")
            self.connections += 1
            self.connected.set()
            self._read_events(answer)
        finally:
            connection.close()

    def _read_events(self, answer):
        rest = b""
        while not self._closed:
            data = answer.read1(65536)
            if not data:
                return
            *blocks, rest = (rest + data).split(b"\n\n")
            for block in blocks:
                self._take(block.decode("utf-8", "replace"))

    def _take(self, block):
        fields = {"id": None, "event": "message"}
        lines = []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                lines.append(value)
            elif name in fields:
                fields[name] = value
        if fields["id"] is not None:
            self.last_event_id = fields["id"]
        if fields["event"] == MARKER:
            self._marker = max(self._marker, int(lines[0]))
        elif lines:
            self._events.append(Event(fields["id"], fields["event"], "\n".join(lines), time.monotonic()))
