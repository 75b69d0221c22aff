"""Small C programs that drive one client module each, so that a test can connect it to a real server: line in, line
out. Compiled against the archive of the programs under test, with their sanitizers."""

import contextlib
import subprocess

from bridge import Process, wait_until
from bridge.compiled import compile_program, once

# What failure_driver answers; the codes are common/base/error.h's.
UNREACHABLE, REFUSED, USAGE = -5, -6, -2
BODY = 'O:36:\\"Symfony\\\\Component\\\\Messenger\\\\Envelope\\":0:{}'


def build_driver(name):
    """The program of drivers/NAME.c."""
    return once(name, lambda path: compile_program(path, [f"tests/integration/drivers/{name}.c"]))


class Driver(Process):
    """The driver with its standard input; what it writes is its log."""

    def __init__(self, program, arguments, folder, name="driver", env=None):
        super().__init__(name, [program, *arguments], folder, env)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.arguments], cwd=self.folder,
                                          env=self.env, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
        return self

    def tell(self, *words):
        self.popen.stdin.write(" ".join(map(str, words)) + "\n")
        self.popen.stdin.flush()

    def answers(self):
        """The complete lines so far."""
        return self.log().split("\n")[:-1]

    def ask(self, *words, timeout=15.0):
        """Sends a command to the driver and returns its next line."""
        before = len(self.answers())
        self.tell(*words)
        wait_until(lambda: len(self.answers()) > before or not self.is_running(), timeout,
                   lambda: f"{self.name} answers {words[0]}\n{self.log_tail()}")
        lines = self.answers()
        assert len(lines) > before, f"{self.name} ended: {self.log_tail()}"
        return lines[before]

    def finish(self):
        """Closes the driver's input; it must end by itself with exit code 0."""
        if self.popen is None:
            return
        if not self.popen.stdin.closed:
            self.popen.stdin.close()
        assert self.wait(15) == 0, self.log_tail()


class FailureDriver(Driver):
    """failure_driver.c: writes to a failure transport and counts what is there."""

    def __init__(self, program, folder, dsn, table="messenger_messages", queue="failed", auto_setup=True,
                 timezone="UTC", name="driver"):
        super().__init__(program, [dsn, table, queue, int(auto_setup), timezone], folder, name)

    @staticmethod
    def _hex(value):
        raw = value if isinstance(value, bytes) else value.encode()
        return raw.hex() or "-"

    def command(self, body, headers="[]", dedupe_key="", entry_us=0, identity=""):
        return ["write", self._hex(body), self._hex(headers), self._hex(dedupe_key), entry_us, self._hex(identity)]

    def write(self, body=BODY, *arguments, timeout=15.0, **options):
        """Writes a message to the failure transport; returns result and text."""
        result, text = self.ask(*self.command(body, *arguments, **options), timeout=timeout).split(" ", 1)
        return int(result), text

    def count(self, timeout_ms=2000):
        result, count, text = self.ask("count", timeout_ms).split(" ", 2)
        return int(result), int(count), text


@contextlib.contextmanager
def drivers_of(kind, program, folder):
    """Gives make(address, ...), which starts a driver of that kind. At the end all must have ended without a
    sanitizer's report."""
    drivers = []

    def make(address, **options):
        driver = kind(program, folder, address, name=f"driver-{len(drivers)}", **options)
        drivers.append(driver)
        return driver.start()
    yield make
    for driver in drivers:
        if driver.is_running():
            driver.finish()
        assert "Sanitizer" not in driver.log(), driver.log_tail()
