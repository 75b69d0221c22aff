"""Processes and ports that belong to one test."""

import os
import random
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

# Each of the workers that run tests side by side gives every n-th port: none takes another's while its server is down.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_ports_given = set()


def wait_until(condition, timeout=10.0, what="the condition", every=0.02):
    """Calls condition until it returns something true, and returns that. what may be a function, called
    for the message when time is up."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {timeout:g} s: {text}")
        time.sleep(every)


def free_port():
    """Below the ephemeral range: no outgoing connection takes it while its server is down."""
    while True:
        port = random.SystemRandom().randrange(20000 + _WORKER % _WORKERS, 32000, _WORKERS)
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port


def port_is_open(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children_of(pid):
    """Every living descendant, parents first."""
    found = []
    for child in _direct_children(pid):
        found.append(child)
        found.extend(children_of(child))
    return found


def _direct_children(pid):
    children = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            children.extend(int(word) for word in text.split())
    except OSError:
        pass
    return children


def _state(folder):
    """The state of a process or thread as one letter (proc(5)); X: it has ended."""
    try:
        return (Path(folder) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_alive(pid):
    """Whether a process exists, running or stopped, and is no zombie."""
    return _state(f"/proc/{pid}") not in "ZX"


def open_files(pid):
    """What the descriptors of a process refer to; those that it closes meanwhile are left out."""
    targets = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return targets


def is_pending(pid, number):
    """Whether a process that blocks a signal has been sent it and has not read it yet."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return bool(int(re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE).group(1), 16) >> number - 1 & 1)


def has_stopped(pid):
    """Whether no thread of a process runs: all are stopped, or it has ended."""
    try:
        return all(_state(task) in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return not is_alive(pid)


def resume(pids):
    """Sends SIGCONT to those processes that SIGSTOP has stopped, and to no others: SIGCONT discards a pending SIGSTOP.
    The address sanitizer's leak check waits for one when a program ends, and would wait for ever."""
    _send_each(signal.SIGCONT, [pid for pid in pids if _state(f"/proc/{pid}") == "T"])


def _send_each(number, pids):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has ended meanwhile


class Process:
    """One program with its log. It dies with the test run, however that ends (setpriv --pdeathsig)."""

    def __init__(self, name, arguments, folder, env=None, user=None, death_signal="KILL"):
        self.name = name
        self.arguments = [str(argument) for argument in arguments]
        self.folder = Path(folder)
        self.env = env
        self.user = user
        self.death_signal = death_signal
        self.log_path = self.folder / f"{name.replace(':', '-')}.log"
        self.popen = None

    def start(self):
        assert not self.is_running(), f"{self.name} runs already"
        command = ["setpriv", "--pdeathsig", self.death_signal]
        if self.user and os.geteuid() == 0:
            command += ["--reuid", self.user, "--regid", self.user, "--init-groups"]
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(command + self.arguments, cwd=self.folder, env=self.env,
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True)
        return self

    @property
    def pid(self):
        return self.popen.pid

    @property
    def exit_code(self):
        """None while it runs; negative: the signal that ended it."""
        return self.popen.poll() if self.popen else None

    def is_running(self):
        return self.popen is not None and self.popen.poll() is None

    def send(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout=15.0):
        """Waits until the process has ended by itself; returns the exit code."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout:g} s\n{self.log_tail()}") from None

    def stop(self, timeout=15.0, with_signal=signal.SIGTERM):
        """Asks it to end and returns its exit code; what does not end is killed and is a failure."""
        if not self.is_running():
            return self.exit_code
        self.thaw()
        self.send(with_signal)
        try:
            return self.wait(timeout)
        except AssertionError:
            self.kill()
            raise

    def kill(self):
        """Kills the process and all its descendants with SIGKILL."""
        if not self.is_running():
            return
        family = children_of(self.pid)
        self.popen.kill()
        self.popen.wait()
        _send_each(signal.SIGKILL, family)
        wait_until(lambda: not any(is_alive(pid) for pid in family), 10, f"all of {self.name} has ended")

    def freeze(self):
        """Stops the process with SIGSTOP, and waits until it has stopped: it stays connected and does nothing."""
        _send_each(signal.SIGSTOP, [self.pid, *children_of(self.pid)])
        wait_until(lambda: all(has_stopped(pid) for pid in [self.pid, *children_of(self.pid)]), 10,
                   f"{self.name} is stopped", every=0.001)

    def thaw(self):
        if self.is_running():
            resume([self.pid, *children_of(self.pid)])

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=60):
        return "\n".join(line[:400] for line in self.log().splitlines()[-lines:])


def cpu_ticks(process):
    """User and system time of a process so far, in hundredths of a second."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def assert_idle(process):
    """Asserts that a waiting process uses less than a tenth of a CPU."""
    before = cpu_ticks(process)
    time.sleep(2)
    assert cpu_ticks(process) - before < 20, "of 200"


def _memory(process, name):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def resident_bytes(process):
    """The resident memory of a process."""
    return _memory(process, "VmRSS")


def peak_bytes(process):
    """The peak resident memory of a process."""
    return _memory(process, "VmHWM")


def pss_bytes(pid):
    """The proportional set size of a process: its private memory and its share of shared memory."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))


def sanitizers(process):
    """"asan" keeps what was freed for a while, "tsan" multiplies memory; empty for what is built without."""
    with open(f"/proc/{process.pid}/maps", encoding="ascii") as maps:
        return set(re.findall(r"lib(asan|tsan)\b", maps.read()))


class Server(Process):
    """A Process that listens: start returns when it answers."""

    START_TIMEOUT = 20.0

    def answers(self):
        raise NotImplementedError

    def start(self):
        super().start()
        wait_until(lambda: not self.is_running() or self.answers(), self.START_TIMEOUT,
                   lambda: f"{self.name} answers\n{self.log_tail()}")
        assert self.is_running(), f"{self.name} ended at once ({self.exit_code}):\n{self.log_tail()}"
        return self

    def restart(self):
        self.stop()
        return self.start()

    def revive(self):
        """Thaws or starts the server, whichever it needs."""
        if self.is_running():
            self.thaw()
        else:
            self.start()
