"""Between a client and a real server: what a server's or a network's faults look like from the client."""

import queue
import socket
import threading
import time


def shut(*ends):
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def accept_clients(listener, welcome):
    """Calls welcome(client) for each, in a thread of its own, until the listener is closed."""
    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            welcome(client)
    threading.Thread(target=accept, daemon=True).start()


class Relay:
    """Passes on all bytes between its own port and the server's. A kind of its own changes begin() or passes()."""

    def __init__(self, port, address="127.0.0.1", own_port=0):
        self.behind = port
        self.sockets = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, own_port), family=family)
        self.port = self.listener.getsockname()[1]
        accept_clients(self.listener, self._welcome)

    def begin(self, client):
        """The first bytes to pass on, or None: it has been answered and is not passed on."""
        return b""

    def passes(self, from_client):
        return True

    def _welcome(self, client):
        threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        first = self.begin(client)
        if first is None:
            return client.close()
        try:
            server = socket.create_connection(("127.0.0.1", self.behind))
            server.sendall(first)
        except OSError:
            return client.close()
        self.sockets += [client, server]
        for source, sink, from_client in ((client, server, True), (server, client, False)):
            threading.Thread(target=self._pump, args=(source, sink, from_client), daemon=True).start()

    def _pump(self, source, sink, from_client):
        try:
            while data := source.recv(65536):
                if self.passes(from_client):
                    sink.sendall(data)
        except OSError:
            pass
        shut(source, sink)

    def cut(self):
        ended, self.sockets = self.sockets, []
        shut(*ended)

    def close(self):
        self.listener.close()
        self.cut()


class Counting(Relay):
    """Counts the connections through it."""

    def __init__(self, port):
        self.connections = 0
        super().__init__(port)

    def begin(self, client):
        self.connections += 1
        return b""


class OldBroker(Relay):
    """Refuses MQTT 5 as brokers do that don't know it. answer: what it sends to an MQTT 5 CONNECT before it hangs
    up."""

    def __init__(self, port, answer=bytes([0x20, 2, 0, 1]), **where):
        self.answer = answer
        self.refused = 0
        super().__init__(port, **where)

    def begin(self, client):
        packet = client.recv(65536)
        if not packet:
            return None
        level = packet[packet.index(b"\x00\x04MQTT") + 6]
        if level != 5:
            return packet
        self.refused += 1
        client.sendall(self.answer)
        client.shutdown(socket.SHUT_WR)
        return None


class DeafBroker(Relay):
    """From deafen() on, nothing that the client says comes through, so that the broker goes without its
    acknowledgements (of at most 100 messages: then it sends no more). After cut() both sides are heard again."""

    def __init__(self, port):
        self.deaf = False
        self.slams = False  # accepts connections and ends them, as a balancer without a server
        self.slammed = 0
        super().__init__(port)

    def begin(self, client):
        self.slammed += self.slams
        return None if self.slams else b""

    def passes(self, from_client):
        return not (from_client and self.deaf)

    def deafen(self):
        self.deaf = True

    def cut(self):
        super().cut()
        self.deaf = False


class LateRelay(Relay):
    """What the connections of before hold() send from then on is late: it arrives at release(), when the client
    may be gone. Connections made since are as fast as ever."""

    def __init__(self, port):
        self.generation = 0
        self.held = b""     # of all of them
        self.answers = b""  # the server's to what came late
        self.released = threading.Event()
        super().__init__(port)

    def hold(self):
        self.generation += 1

    def release(self):
        self.released.set()

    def _pump(self, source, sink, from_client):
        generation = self.generation
        own = b""
        try:
            while data := source.recv(65536):
                late = self.generation > generation
                if late and from_client:
                    own += data
                    self.held += data
                elif late:
                    self.answers += data
                else:
                    sink.sendall(data)
            if own:
                self.released.wait()
                sink.sendall(own)
                return  # the server's answers are still read
        except OSError:
            pass
        shut(source, sink)

    def close(self):
        self.released.set()
        super().close()


class Detour(Relay):
    """What a client sends in one piece of `size` bytes or more arrives so many seconds later, whatever became of the
    client, as over a router that has taken it."""

    def __init__(self, port, size, seconds):
        self.size = size
        self.seconds = seconds
        super().__init__(port)

    def _pump(self, source, sink, from_client):
        try:
            while data := source.recv(65536):
                if from_client and len(data) >= self.size:
                    time.sleep(self.seconds)
                sink.sendall(data)
        except OSError:
            pass
        shut(source, sink)


class SlowRelay(Relay):
    """A link that takes so many bytes a second from all clients together, and that can be frozen. Its buffers are
    small, so that the client's kernel knows how slow it is; or it hoards, as some proxies and routers do: what is
    sent is taken at once, and is under way for long. What it has hoarded is gone with the client."""

    CHUNK = 8192

    def __init__(self, port, rate, hoards=False):
        self.rate = rate
        self.hoards = hoards
        self.passed = 0
        self.free_at = 0.0
        self.lock = threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
        super().__init__(port)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * self.CHUNK)

    def freeze(self):
        self.flowing.clear()

    def thaw(self):
        self.flowing.set()

    def _carry(self, data, sink):
        with self.lock:
            until = self.free_at = max(self.free_at, time.monotonic()) + len(data) / self.rate
            self.passed += len(data)
        time.sleep(max(0, until - time.monotonic()))
        self.flowing.wait()
        sink.sendall(data)

    def _deliver(self, hoard, sink):
        try:
            while data := hoard.get():
                self._carry(data, sink)
        except OSError:
            pass

    def _pump(self, source, sink, from_client):
        if not from_client:
            return super()._pump(source, sink, from_client)
        hoard = queue.Queue()
        if self.hoards:
            threading.Thread(target=self._deliver, args=(hoard, sink), daemon=True).start()
        try:
            while data := source.recv(self.CHUNK):
                if self.hoards:
                    hoard.put(data)
                else:
                    self._carry(data, sink)
        except OSError:
            pass
        shut(source, sink)
        hoard.put(b"")

    def close(self):
        self.thaw()
        super().close()


class Downlink(Relay):
    """A link that brings so many bytes a second to its clients from throttle() on, with small buffers."""

    CHUNK = 2048

    def __init__(self, port, rate):
        self.rate = rate
        self.throttled = False
        super().__init__(port)

    def throttle(self):
        self.throttled = True

    def _pump(self, source, sink, from_client):
        if from_client or not self.throttled:
            return super()._pump(source, sink, from_client)
        try:
            while data := source.recv(self.CHUNK):
                sink.sendall(data)
                time.sleep(len(data) / self.rate)
        except OSError:
            pass
        shut(source, sink)
