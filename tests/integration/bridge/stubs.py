"""The supervisor with children that do as a test says (helpers/child_stub.c). They are real programs on the same
common/runtime/child.h as the bridge's own. They crash, hang or dawdle when a test asks for it."""

import json
import pathlib
import shutil
import socket
import subprocess

import pytest
from .compiled import compile_program, once
from .process import Process, wait_until
from .program import Bridge, build_folder

PROGRAMS = ("consumer", "worker", "monitor")
STUB = "tests/integration/helpers/child_stub.c"


def _make_stubs(folder):
    folder.mkdir()
    for name in ("mqtt-bridge-supervisor", "mqtt-bridge"):
        shutil.copy(build_folder() / name, folder / name)
    stub = folder / "mqtt-bridge-worker"
    compile_program(stub, [STUB])
    for program in PROGRAMS:
        if program != "worker":
            shutil.copy(stub, folder / f"mqtt-bridge-{program}")


@pytest.fixture(scope="session")
def stub_folder():
    """A folder with the supervisor and the command, and stubs under the names of the children."""
    return once("stubs", _make_stubs)


class Stubs(Bridge):
    """A bridge whose children are stubs. behave(title, line) says how one behaves from its next start on."""

    def __init__(self, programs, folder, settings=None, env=None, prefix=()):
        self.programs = programs
        self.prefix = list(prefix)
        self.stub_dir = pathlib.Path(folder) / "stub"
        self.stub_dir.mkdir()
        super().__init__(folder, settings=settings, env={"STUB_DIR": self.stub_dir, **(env or {})})
        self.settings["mercure"] = {"url": "http://127.0.0.1/", "jwt_secret": "of nobody, for stubs publish nothing"}

    def _process(self, program, arguments, name=None):
        process = Process(name or program, [*self.prefix, self.programs / f"mqtt-bridge-{program}", *arguments],
                          self.folder, self.environment())
        self.processes.append(process)
        return process

    def behave(self, title, line):
        (self.stub_dir / title).write_text(line + "\n")

    def events(self, title=None, what=None):
        """(title, pid, what), in order."""
        path = self.stub_dir / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [line.split() for line in lines]
        return [(name, int(pid), event) for name, pid, event in events
                if title in (None, name) and what in (None, event)]

    def left_behind(self, what):
        """The pid of what a stub has started, "helper" or "stranger", once it runs."""
        path = self.stub_dir / f"{what}.pid"
        return int(wait_until(lambda: path.exists() and path.read_text(), 15, f"the {what} runs"))

    def end_stranger(self):
        (self.stub_dir / "stranger.pid").unlink()

    def release(self):
        """Lets the stubs end that behave as `hold-stop`."""
        (self.stub_dir / "release").touch()

    def ask(self, verb, timeout=10, **arguments):
        """Sends a request and returns the answer, which does not wait for its completion unless told to."""
        with self.connect(timeout) as connection:
            connection.send(json.dumps({"verb": verb, "wait": False, **arguments}).encode())
            return json.loads(read_answer(connection))

    def connect(self, timeout=10):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(timeout)
        connection.connect(str(self.socket))
        return connection

    def wait_listening(self):
        """Waits until the supervisor answers; it need not be ready."""
        wait_until(self.listens, 10, lambda: f"it listens\n{self.supervisor.log_tail()}")

    def listens(self):
        try:
            return self.ask("health")
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    def find(self, title):
        for process in self.ask("status")["processes"]:
            names = (process["name"], f"{process['name']}:{process['slot']}")
            if title in names:
                return process
        return None

    def wait_ready(self, timeout=20.0):
        def ready():
            assert self.supervisor.is_running(), f"ended ({self.supervisor.exit_code})\n{self.supervisor.log_tail()}"
            health = self.listens()
            return health and health["ready"] and \
                all(process["state"] in ("running", "fatal") for process in self.ask("status")["processes"])
        wait_until(ready, timeout, lambda: f"ready\n{self.supervisor.log_tail()}")
        return self

    def wait_state(self, title, state, timeout=15.0):
        return wait_until(lambda: (found := self.find(title)) and found["state"] == state and found, timeout,
                          lambda: f"{title} is {state}: {self.find(title)}\n{self.supervisor.log_tail()}")

    def wait_successor(self, title, pid, timeout=15.0):
        """Waits until another process than pid runs in that slot; returns it."""
        return wait_until(lambda: (found := self.find(title)) and found["state"] == "running"
                          and found["pid"] != pid and found, timeout,
                          lambda: f"{title} has a successor of {pid}: {self.find(title)}\n{self.supervisor.log_tail()}")

    def run_cli(self, *arguments, timeout=60):
        return subprocess.run([self.programs / "mqtt-bridge", *map(str, arguments)], text=True, capture_output=True,
                              timeout=timeout, cwd=self.folder, env=self.environment())


def read_answer(connection):
    """One packet, or the memory that came in place of a long one; b"" at the end of the connection."""
    packet, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
    for descriptor in descriptors:
        with open(descriptor, "rb") as memory:
            packet = memory.read()
    return packet


@pytest.fixture
def make_stubs(makers, stub_folder):
    def make(**parts):
        stubs = makers.keep(Stubs(stub_folder, makers.new_folder("bridge"), **parts))
        for process in stubs.processes:
            makers.watch(process)
        return stubs
    return make


@pytest.fixture
def stubs(make_stubs):
    return make_stubs()


def wait_proven(stubs, title):
    """Waits until a child was ready for a second: from then on it is restarted at once."""
    ready = stubs.wait_state(title, "running")["uptime_ms"]  # or a little less
    wait_until(lambda: stubs.find(title)["uptime_ms"] > ready + 1050, 10, f"{title} is proven")
    return stubs.find(title)["pid"]


def workers(stubs):
    return [p["slot"] for p in stubs.ask("status")["processes"] if p["name"] == "worker"]
