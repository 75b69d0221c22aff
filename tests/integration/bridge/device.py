"""A device that publishes as fast as the broker takes it: MQTT 3.1.1 over a plain socket, pipelined.

It has one connection and a session that is kept. Each publish() returns when the broker has confirmed all of it. So no
message is under way between two calls, and none is sent again if the broker breaks then."""

import socket
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
IDS = 65535


def packet(first, body):
    length, head = len(body), bytearray([first])
    while True:
        length, byte = length >> 7, length & 0x7f
        head.append(byte | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


class Device:
    """window: messages under way; below the max_inflight_messages of the broker."""

    def __init__(self, port, client_id="device", window=90, timeout=60):
        self.port = port
        self.client_id = client_id.encode()
        self.window = window
        self.timeout = timeout
        self.confirmed = 0
        self.last_id = 0
        self.socket = None
        self.buffer = b""

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        body = b"\0\4MQTT\4\0\0\0" + struct.pack("!H", len(self.client_id)) + self.client_id  # no keep alive
        self.socket.sendall(packet(CONNECT, body))
        first, answer = self._read()
        assert first == CONNACK and answer[1] == 0, f"the broker refused the device: {first:#x} {answer!r}"
        return self

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None

    def publish(self, messages, qos=1, retain=False):
        """messages: (topic, payload) pairs, text or bytes. Until the broker has confirmed the last of them."""
        if self.socket is None:
            self.connect()
        messages = iter(messages)
        under_way, more = 0, True
        while under_way or more:
            batch = []
            while more and under_way < self.window:
                message = next(messages, None)
                if message is None:
                    more = False
                    break
                batch.append(self._encode(*message, qos, retain))
                under_way += qos > 0
            if batch:
                self.socket.sendall(b"".join(batch))
            if under_way:
                under_way -= self._confirm(under_way)
        return self

    def _encode(self, topic, payload, qos, retain):
        topic, payload = (part if isinstance(part, bytes) else str(part).encode() for part in (topic, payload))
        self.last_id = self.last_id % IDS + 1
        packet_id = struct.pack("!H", self.last_id) if qos else b""
        return packet(PUBLISH | qos << 1 | retain, struct.pack("!H", len(topic)) + topic + packet_id + payload)

    def _confirm(self, under_way):
        """Reads what has come, at least one confirmation; returns how many messages are done."""
        done, releases = 0, []
        while not done or len(self.buffer) >= 4 and done < under_way:
            if len(self.buffer) < 4 and releases:
                self.socket.sendall(b"".join(releases))
                releases = []
            first, body = self._read()
            if first == PUBREC:
                releases.append(packet(PUBREL, body))
            else:
                assert first in (PUBACK, PUBCOMP), f"the broker sent {first:#x}"
                done += 1
        if releases:
            self.socket.sendall(b"".join(releases))
        self.confirmed += done
        return done

    def _read(self):
        """Everything that a broker sends to one who subscribes to nothing is four bytes long."""
        while len(self.buffer) < 4:
            more = self.socket.recv(65536)
            assert more, "the broker has hung up on the device"
            self.buffer += more
        one, self.buffer = self.buffer[:4], self.buffer[4:]
        return one[0], one[2:]
