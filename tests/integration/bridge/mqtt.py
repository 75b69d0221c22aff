"""A device: publishes, and knows what the broker has confirmed. And others that just look on."""

import contextlib
import threading
import time
import warnings

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .process import wait_until


def _client(client_id, clean=True, version="3.1.1"):
    arguments = {"client_id": client_id, "clean_session": clean, "protocol": paho.MQTTv311}
    if version == "5":
        arguments = {"client_id": client_id, "protocol": paho.MQTTv5}
    if hasattr(paho, "CallbackAPIVersion"):  # paho 2
        warnings.simplefilter("ignore", DeprecationWarning)
        return paho.Client(paho.CallbackAPIVersion.VERSION1, **arguments)
    return paho.Client(**arguments)


@contextlib.contextmanager
def another_client(port, client_id):
    """A client that is connected while the block runs."""
    client = _client(client_id)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def leave_session(port, client_id, version, filters):
    """Makes a session as another program, subscribed to these filters with QoS 1, and disconnects."""
    client = _client(client_id, clean=False, version=version)
    answered = []
    client.on_subscribe = lambda *_: answered.append(True)
    if version == "5":
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    else:
        client.connect("127.0.0.1", port)
    client.loop_start()
    wait_until(client.is_connected, 10, "the broker takes the other program's connection")
    for text in filters:
        client.subscribe(text, 1)
    wait_until(lambda: len(answered) == len(filters), 10, "the other program is subscribed")
    client.disconnect()
    client.loop_stop()


@contextlib.contextmanager
def watching(port, topic):
    """The payloads that arrive on a topic while the block runs."""
    seen = []
    with another_client(port, "watcher") as client:
        client.on_message = lambda _, __, message: seen.append(message.payload)
        client.subscribe(topic, 1)
        yield seen


class Publisher:
    """One connection. With QoS 1 and 2 what the broker has not confirmed is sent again after a reconnect,
    so a broker that is killed in between gets it in the end (perhaps twice)."""

    def __init__(self, port, client_id="device", username=None, password=None):
        self.port = port
        self.sent = 0
        self.confirmed = 0
        self._lock = threading.Lock()
        self._client = _client(client_id, clean=False)
        if username:
            self._client.username_pw_set(username, password)
        self._client.max_inflight_messages_set(500)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = self._on_publish

    def connect(self):
        self._client.connect("127.0.0.1", self.port, keepalive=30)
        self._client.loop_start()
        wait_until(self._client.is_connected, 10, "the broker takes the device's connection")
        return self

    def _on_publish(self, *_):
        with self._lock:
            self.confirmed += 1

    def publish(self, topic, payload, qos=1, retain=False, wait=True, timeout=30.0):
        """Until the broker has it (QoS 0: until it is written)."""
        self.sent += 1
        self._client.publish(topic, payload, qos, retain)
        if wait:
            self.wait_confirmed(timeout)

    def publish_all(self, messages, qos=1, rate=None, timeout=60.0):
        """messages: (topic, payload) pairs; rate: at most so many a second."""
        self._send_all(messages, qos, rate)
        self.wait_confirmed(timeout)

    def start_all(self, messages, qos=1, rate=None):
        """The same in a thread, for a test that breaks something meanwhile; join() it, then
        wait_confirmed()."""
        thread = threading.Thread(target=self._send_all, args=(messages, qos, rate), daemon=True)
        thread.start()
        return thread

    def _send_all(self, messages, qos, rate):
        started = time.monotonic()
        for number, (topic, payload) in enumerate(messages):
            if rate:
                ahead = started + number / rate - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
            self.sent += 1
            self._client.publish(topic, payload, qos)

    def wait_confirmed(self, timeout=60.0):
        wait_until(lambda: self.confirmed >= self.sent, timeout,
                   lambda: f"the broker confirms {self.sent} messages; {self.confirmed} so far", every=0.002)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()
