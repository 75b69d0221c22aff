"""Name servers that answer late or never, and programs that know no other."""

import os
import socket
import struct
import subprocess
import threading
import time
from urllib.parse import urlsplit

from .process import wait_until

# Of the C library: one question, and this long for its answer.
LOOK_UP_S = 25


class Names:
    """A name server that never answers, and programs in a mount namespace of their own that know no other. A
    name that is in `hosts` is not asked for."""

    SCRIPT = """
set -e
for name in resolv.conf hosts nsswitch.conf; do mount --bind "$1/$name" "/etc/$name"; done
shift
exec "$@"
"""

    def __init__(self, folder):
        self.folder = folder
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = self._bind()
        self.socket.setblocking(False)
        (folder / "resolv.conf").write_text(f"nameserver {self.address}\noptions timeout:{LOOK_UP_S} attempts:1\n")
        (folder / "nsswitch.conf").write_text("hosts: files dns\n")
        self.set_hosts()
        made = subprocess.run([*self.prefix(), "true"], text=True, capture_output=True)
        assert made.returncode == 0, \
            f"these tests need a mount namespace (root, CAP_SYS_ADMIN) to have an /etc/resolv.conf of their own: " \
            f"{made.stderr.strip()}"

    def _bind(self):
        for last in range(53, 254):
            try:
                self.socket.bind((f"127.53.{os.getpid() % 250}.{last}", 53))
                return self.socket.getsockname()[0]
            except PermissionError as fault:
                raise AssertionError(f"these tests need port 53 of a loopback address (root): {fault}") from None
            except OSError:
                continue
        raise AssertionError("no loopback address has a free port 53")

    def set_hosts(self, *lines):
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")

    def prefix(self):
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", self.SCRIPT, "sh", str(self.folder)]

    def run(self, process):
        """Starts a process in the mount namespace."""
        process.arguments = [*self.prefix(), *process.arguments]
        return process.start()

    def addresses(self, name):
        """The addresses of a name in the order in which the C library gives them in the namespace."""
        found = subprocess.run([*self.prefix(), "getent", "ahosts", name], text=True, capture_output=True,
                               check=True).stdout
        return list(dict.fromkeys(line.split()[0] for line in found.splitlines()))

    def wait_question(self, name, timeout=15):
        """Waits until the name server is asked for that name."""
        wanted = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        wait_until(lambda: any(wanted in question for question in self._questions()), timeout,
                   f"the name server is asked for {name}")

    def _questions(self):
        while True:
            try:
                yield self.socket.recv(4096)
            except BlockingIOError:
                return

    def close(self):
        self.socket.close()


class SlowNames(Names):
    """A name server that answers each question late, with the address that it has then."""

    TAKES_S = 3

    def __init__(self, folder):
        super().__init__(folder)
        self.ip = "127.0.0.1"
        self.waiting = []  # (when to answer, question, client), the next one first
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        while not self.ended.wait(0.02):
            try:
                while True:
                    question, client = self.socket.recvfrom(4096)
                    self.waiting.append((time.monotonic() + self.TAKES_S, question, client))
            except BlockingIOError:
                pass
            while self.waiting and self.waiting[0][0] <= time.monotonic():
                _, question, client = self.waiting.pop(0)
                self.socket.sendto(self._answer(question), client)

    def _answer(self, question):
        end = question.index(b"\0", 12) + 5  # the name, its type and its class
        is_ipv4 = question[end - 4:end - 2] == b"\0\1"
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(self.ip)
        header = question[:2] + struct.pack(">HHHHH", 0x8180, 1, int(is_ipv4), 0, 0)
        return header + question[12:end] + (record if is_ipv4 else b"")

    def close(self):
        self.ended.set()
        self.thread.join()
        super().close()


def named(dsn, name):
    """The DSN with this name as its host."""
    return dsn.replace(urlsplit(dsn).hostname, name)


def start_among(names, bridge, program):
    """Starts that program of the bridge alone, in the namespace of the name server."""
    bridge.write_config()
    process = bridge._process(program, [])
    process.env = bridge.environment()
    return names.run(process)
