"""A hub that does as a test says, or a relay to the real one that does so with some requests."""

import collections
import socket
import struct
import threading
import time
from urllib.parse import parse_qs

from .relays import accept_clients

HANG, RESET, STRANGER = "hang", "reset", "stranger"
PROBE = "urn:mqtt-bridge:probe"

Update = collections.namedtuple("Update", "topic id data attempt")  # attempt: 1 for the first with this id


class FaultyHub:
    """script(update) says what becomes of it: None passes it, a number is the status of the answer, HANG never
    answers, RESET resets the connection, STRANGER answers 200 as no hub does. behind: the port of a real hub, for what
    passes; without one 200 and the id is answered. script may be replaced at any time."""

    def __init__(self, script=lambda update: None, behind=None):
        self.script = script
        self.behind = behind
        self.passed = {}  # id -> (topic, when)
        self.seen = collections.Counter()
        self.answers = collections.Counter()
        self.sockets = []
        self.lock = threading.Lock()
        self.closed = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        accept_clients(self.listener, self._welcome)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/.well-known/mercure"

    def topics(self):
        """The topics of the messages that have passed, in order."""
        return [topic for topic, _ in list(self.passed.values()) if topic != PROBE]

    def _welcome(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.append(client)
        threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    @staticmethod
    def _read(stream):
        """Head and body, or None at the end."""
        head = stream.readline()
        length = 0
        while True:
            line = stream.readline()
            head += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            if line in (b"\r\n", b""):
                break
        return (head, stream.read(length)) if head else None

    def _serve(self, client):
        server = stream = None
        try:
            requests = client.makefile("rb")
            while request := self._read(requests):
                update = self._look_at(request[1])
                fault = self.script(update)
                with self.lock:
                    self.answers[200 if fault is None else fault] += 1
                if fault == HANG:
                    self.closed.wait()
                    return
                if fault == RESET:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if fault is None and self.behind:
                    if server is None:
                        server = socket.create_connection(("127.0.0.1", self.behind))
                        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        stream = server.makefile("rb")
                    server.sendall(b"".join(request))
                    answer = b"".join(self._read(stream))
                else:
                    body = update.id if fault is None else "not what you look for"
                    status = {None: 200, STRANGER: 200}.get(fault, fault)
                    answer = f"HTTP/1.1 {status} So\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
                if fault is None:
                    with self.lock:
                        self.passed.setdefault(update.id, (update.topic, time.monotonic()))
                client.sendall(answer)
        except OSError:
            pass
        finally:
            client.close()
            if server is not None:
                server.close()

    def _look_at(self, body):
        form = parse_qs(body.decode(), keep_blank_values=True)
        if "id" not in form:
            raise OSError("the connection ended within a request")
        with self.lock:
            self.seen[form["id"][0]] += 1
            return Update(form["topic"][0], form["id"][0], form.get("data", [""])[0], self.seen[form["id"][0]])

    def close(self):
        self.closed.set()
        self.listener.close()
        for each in self.sockets:
            each.close()
