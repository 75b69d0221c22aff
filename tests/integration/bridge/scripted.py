"""A broker that does what a script says: for what no real one can be brought to do."""

import socket
import struct
import threading

from .relays import shut

CONNACK, PUBLISH, PUBREC, PUBREL, PUBCOMP, SUBACK, DISCONNECT = 0x20, 0x30, 0x50, 0x62, 0x70, 0x90, 0xe0


class Link:
    """One connection, from the broker's side. five: whether MQTT 5 is spoken on it."""

    def __init__(self, client):
        self.client = client
        self.five = None

    def send(self, first, body):
        assert len(body) < 128
        self.client.sendall(bytes([first, len(body)]) + body)

    def read(self):
        """The next packet: its first byte, and what is behind its length."""
        first = self._bytes(1)[0]
        length = shift = 0
        while True:
            byte = self._bytes(1)[0]
            length |= (byte & 0x7f) << shift
            shift += 7
            if not byte & 0x80:
                return first, self._bytes(length)

    def _bytes(self, count):
        data = b""
        while len(data) < count:
            more = self.client.recv(count - len(data))
            if not more:
                raise OSError("the client has gone")
            data += more
        return data

    def accept(self, session_present, expects_subscribe=True):
        _, connect = self.read()
        self.five = connect[6] == 5
        self.send(CONNACK, bytes([session_present, 0]) + (b"\0" if self.five else b""))
        if expects_subscribe or self.five:
            _, subscribe = self.read()
            self.send(SUBACK, subscribe[:2] + (b"\0" if self.five else b"") + b"\2")

    def publish(self, topic, payload, packet_id, dup=False, expiry=None):
        """At QoS 2, until PUBREC. expiry: a Message Expiry Interval in seconds, for MQTT 5."""
        properties = b"" if expiry is None else b"\2" + struct.pack("!I", expiry)
        self.send(PUBLISH | (8 if dup else 0) | 4, struct.pack("!H", len(topic)) + topic
                  + struct.pack("!H", packet_id) + (bytes([len(properties)]) + properties if self.five else b"")
                  + payload)
        self._wait(PUBREC, packet_id)

    def release(self, packet_id):
        """Until PUBCOMP."""
        self.send(PUBREL, struct.pack("!H", packet_id))
        self._wait(PUBCOMP, packet_id)

    def _wait(self, first, packet_id):
        while self.read() != (first, struct.pack("!H", packet_id)):
            pass

    def disconnect(self, code):
        self.send(DISCONNECT, bytes([code, 0]))

    def stay(self):
        """Until the client goes."""
        while True:
            self.read()


class ScriptedBroker:
    """plays: one function a connection, in turn (the last for all further ones); it gets the Link, and the
    connection ends with it."""

    def __init__(self, *plays):
        self.plays = plays
        self.connections = 0
        self.faults = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            play = self.plays[min(self.connections, len(self.plays) - 1)]
            self.connections += 1
            threading.Thread(target=self._play, args=(play, client), daemon=True).start()

    def _play(self, play, client):
        try:
            play(Link(client))
        except OSError as fault:
            self.faults.append(fault)
        shut(client)
        client.close()

    def close(self):
        self.listener.close()
