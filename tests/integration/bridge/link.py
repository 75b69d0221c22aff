"""A network between the consumer and one server, and what is seen on it.

A Link carries bytes at a rate, late, or not at all, and can be cut. An MqttLink also reads along: it knows which
messages the broker has given to the consumer and which of them the consumer has acknowledged."""

import select
import socket
import threading
import time
from typing import NamedTuple

from .relays import accept_clients, shut

CHUNK = 16384
NOTE_HOLDS = 3.0  # seconds: what was noted before a break counts for the end that it leads to
CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 3, 4, 5, 6, 7


def unread_bytes(near, far):
    """What the socket `far` has sent and the program behind the port `near` has not read: kernel buffers of both
    ends, from /proc/net/tcp. Ports of one loopback connection; 0 when it is gone."""
    count = 0
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            words = line.split()
            ports = int(words[1].split(":")[1], 16), int(words[2].split(":")[1], 16)
            sent, received = (int(part, 16) for part in words[4].split(":"))
            if ports == (near, far):
                count += received
            elif ports == (far, near):
                count += sent
    return count


class Connection:
    """One of the consumer's; the two sockets and the threads that pass on."""

    def __init__(self, link, client):
        self.link = link
        self.client = client
        self.server = socket.socket()
        for end in (client, self.server):  # small, so that what is slow is felt at the other end
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connect(("127.0.0.1", link.behind))
        self.own_port = self.server.getsockname()[1]
        self.sending = {True: 0, False: 0}  # bytes in our hands
        self.running = 2

    def run(self):
        for source, sink, upward in ((self.client, self.server, True), (self.server, self.client, False)):
            threading.Thread(target=self._pump, args=(source, sink, upward), daemon=True).start()

    def _pump(self, source, sink, upward):
        try:
            while data := self._receive(source):
                if upward and self.link.deaf:
                    continue
                self.sending[upward] = len(data)
                self.link.seen(self, upward, data)
                sink.sendall(data)
                self.sending[upward] = 0
        except OSError:
            pass
        self.before_end()
        shut(source, sink)
        with self.link.lock:
            self.running -= 1
            last = not self.running
        if last:
            self.link.ended(self)
            self.client.close()
            self.server.close()

    def before_end(self):
        """Both sockets are still there."""

    def _receive(self, source):
        """The next bytes, when the link lets them through."""
        link = self.link
        while True:
            link.flowing.wait()
            # Not within recv: a stall that begins meanwhile must hold what comes.
            if select.select([source], [], [], 0.2)[0] and link.flowing.is_set():
                break
        rate = link.rate
        data = source.recv(CHUNK if not rate else max(64, min(CHUNK, rate // 20)))
        if rate and data:
            with link.lock:
                until = link.free_at = max(link.free_at, time.monotonic()) + len(data) / rate
            time.sleep(max(0, until - time.monotonic()))
        if link.latency:
            time.sleep(link.latency)
        link.flowing.wait()
        return data


class Link:
    """rate: bytes a second of both directions together, None: as fast as it goes; latency: seconds that each piece is
    late. Both may be set at any time. refusing: a balancer without a backend, which accepts and closes. deaf: what the
    client says is swallowed."""

    kind = Connection

    def __init__(self, behind, rate=None, latency=0.0):
        self.behind = behind
        self.rate = rate
        self.latency = latency
        self.refusing = False
        self.refused = 0
        self.deaf = False
        self.free_at = 0.0
        self.lock = threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
        self.connections = []
        self.made = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        accept_clients(self.listener, self._welcome)

    def _welcome(self, client):
        if self.refusing:
            self.refused += 1
            client.close()
            return
        try:
            connection = self.kind(self, client)
        except OSError:
            client.close()
            return
        with self.lock:
            self.connections.append(connection)
            self.made += 1
        connection.run()

    def seen(self, connection, upward, data):
        """Bytes that are about to be passed on."""

    def ended(self, connection):
        with self.lock:
            if connection in self.connections:
                self.connections.remove(connection)

    def stall(self):
        """Nothing is passed on, and nobody is told."""
        self.flowing.clear()

    def flow(self):
        self.flowing.set()

    def cut(self):
        """What is under way is lost."""
        for connection in list(self.connections):
            connection.before_end()
            shut(connection.client, connection.server)

    def close(self):
        self.listener.close()
        self.rate, self.latency = None, 0
        self.flow()
        self.cut()


class MqttConnection(Connection):
    """given: PUBLISH packets at QoS 1 and 2 that were passed to the consumer, repeated: those with DUP set;
    acknowledged: answers that end them (PUBACK, PUBCOMP) that were passed to the broker."""

    def __init__(self, link, client):
        super().__init__(link, client)
        self.given = self.repeated = self.acknowledged = 0
        self.known_to_broker = None  # of the acknowledged, when it was noted
        self.noted = 0.0
        self.five = None
        self.left = {True: bytearray(), False: bytearray()}

    def unread(self):
        """Acknowledgements that the broker has not read yet, at most: four bytes each."""
        return -(-(unread_bytes(self.link.behind, self.own_port) + self.sending[True]) // 4)

    def note(self):
        self.noted = time.monotonic()
        self.known_to_broker = max(0, self.acknowledged - self.unread())

    def before_end(self):
        if time.monotonic() - self.noted > NOTE_HOLDS:
            self.note()

    def unacknowledged(self):
        return self.given - self.known_to_broker


class End(NamedTuple):
    """Of a connection: what it had been given, how much of that with DUP, and what the broker had no answer for."""
    moment: float
    given: int
    repeated: int
    unacknowledged: int


class MqttLink(Link):
    """key(head): what a message is counted by, from the first 16 bytes of its payload at most.

    acknowledged: keys in the order in which the consumer said that it has them (PUBACK, PUBREC). ends: an End each.
    versions: that the consumer has spoken. sent_again: keys that the broker has released (PUBREL), so that it had our
    PUBREC, and has published once more all the same: Mosquitto 2.0.11 does it when it is stopped and started amid a
    queue."""

    kind = MqttConnection

    def __init__(self, behind, key=lambda head: head[:8], **how):
        self.key = key
        self.acknowledged = []
        self.ends = []
        self.versions = set()
        self.keys = {}  # packet id to the message's key
        self.released = set()
        self.sent_again = set()
        super().__init__(behind, **how)

    def note(self):
        """Just before something that ends the connection: afterwards the broker may be gone, and what it had not
        read with it."""
        for connection in list(self.connections):
            connection.note()

    def known_acknowledged(self):
        """The keys of which the broker knows by now."""
        count = len(self.acknowledged)  # before the unread are: what comes meanwhile is not known
        unread = sum(connection.unread() for connection in list(self.connections))
        return self.acknowledged[:max(0, count - unread)]

    def all_ends(self):
        """Those too that have not ended."""
        return self.ends + [self._end(connection) for connection in list(self.connections)]

    @staticmethod
    def _end(connection):
        connection.before_end()
        return End(time.monotonic(), connection.given, connection.repeated, connection.unacknowledged())

    def ended(self, connection):
        super().ended(connection)
        self.ends.append(self._end(connection))

    def seen(self, connection, upward, data):
        left = connection.left[upward]
        left += data
        start, size = 0, len(left)
        while size - start >= 2:
            length, at, shift = 0, start + 1, 0
            while at < size:
                byte = left[at]
                at += 1
                length |= (byte & 0x7f) << shift
                shift += 7
                if byte < 0x80:
                    break
            else:
                break
            if size - at < length:
                break
            self._packet(connection, upward, left, start, at, length)
            start = at + length
        del left[:start]

    def _packet(self, connection, upward, data, start, at, length):
        kind = data[start] >> 4
        if upward:
            if kind in (PUBACK, PUBREC):
                key = self.keys.get(data[at] << 8 | data[at + 1])
                if key is not None:
                    self.acknowledged.append(key)
            if kind in (PUBACK, PUBCOMP):
                connection.acknowledged += 1
            elif kind == CONNECT:
                connection.five = data[at + 6] == 5
                self.versions.add("5" if connection.five else "3.1.1")
        elif kind == PUBLISH and data[start] & 6:
            connection.given += 1
            connection.repeated += data[start] >> 3 & 1
            topic = data[at] << 8 | data[at + 1]
            offset = at + 2 + topic
            packet_id = data[offset] << 8 | data[offset + 1]
            offset += 2
            if connection.five:
                properties, shift = 0, 0
                while True:
                    byte = data[offset]
                    offset += 1
                    properties |= (byte & 0x7f) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                offset += properties
            key = self.keys[packet_id] = self.key(bytes(data[offset:min(offset + 16, at + length)]))
            if key in self.released:
                self.sent_again.add(key)
        elif kind == PUBREL:
            self.released.add(self.keys.get(data[at] << 8 | data[at + 1]))
