"""A broker that does what a script says: for what no real one can be brought to do."""

import socket
import struct
import threading

from .relays import accept_clients, shut

CONNACK, PUBLISH, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT = (
    0x20, 0x30, 0x50, 0x62, 0x70, 0x90, 0xb0, 0xe0)
SUBSCRIBE, UNSUBSCRIBE = 0x82, 0xa2

# CONNACK's properties, MQTT 5.
SERVER_KEEP_ALIVE = lambda seconds: b"\x13" + struct.pack("!H", seconds)
MAXIMUM_QOS = lambda qos: bytes([0x24, qos])
RETAIN_AVAILABLE = lambda yes: bytes([0x25, yes])
MAXIMUM_PACKET_SIZE = lambda size: b"\x27" + struct.pack("!I", size)
WILDCARD_AVAILABLE = lambda yes: bytes([0x28, yes])
SHARED_AVAILABLE = lambda yes: bytes([0x2a, yes])


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

    def connect(self):
        """Reads CONNECT: what it asks for is in five, keep_alive_s, will (None, or its QoS and retain)."""
        _, connect = self.read()
        flags = connect[7]
        self.five = connect[6] == 5
        self.keep_alive_s = struct.unpack("!H", connect[8:10])[0]
        self.will = ((flags >> 3) & 3, bool(flags & 0x20)) if flags & 4 else None

    def connack(self, session_present, properties=b"", code=0):
        self.send(CONNACK, bytes([session_present, code])
                  + (bytes([len(properties)]) + properties if self.five else b""))

    def subscribed(self, code=2):
        """Answers the next SUBSCRIBE, of one filter: its text and the QoS it asks for. What else comes before is
        passed over."""
        return self._filter(SUBSCRIBE, SUBACK, bytes([code]))

    def unsubscribed(self, code=0):
        return self._filter(UNSUBSCRIBE, UNSUBACK, bytes([code]) if self.five else b"")[0]

    def _filter(self, wanted, answer, codes):
        first, packet = self.read()
        while first != wanted:
            first, packet = self.read()
        self.send(answer, packet[:2] + (b"\0" if self.five else b"") + codes)
        at = 3 if self.five else 2
        length, = struct.unpack("!H", packet[at:at + 2])
        options = packet[at + 2 + length:]
        return packet[at + 2:at + 2 + length].decode(), options[0] & 3 if options else None

    def accept(self, session_present, expects_subscribe=True, properties=b""):
        self.connect()
        self.connack(session_present, properties)
        if expects_subscribe or self.five:
            self.subscribed()

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
        accept_clients(self.listener, self._welcome)

    def _welcome(self, client):
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
