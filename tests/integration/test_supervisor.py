"""The supervisor: starts, watches, restarts, scales and stops, whatever happens to it and its children.

The children here are helpers/child_stub.c, real programs on the same common/base/child.h as the bridge's
own, which crash, hang or dawdle when a test asks for it. The bridge's own children are in the other files."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest
from bridge import Bridge, Process, build_folder, wait_until
from bridge.process import children_of, is_alive

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("consumer", "worker", "monitor")


@pytest.fixture(scope="session")
def stub_folder(workspace):
    """The supervisor and the command beside stubs under the children's names."""
    folder = workspace / "stubs"
    folder.mkdir()
    for name in ("mqtt-bridge-supervisor", "mqtt-bridge"):
        shutil.copy(build_folder() / name, folder / name)
    stub = folder / "mqtt-bridge-worker"
    subprocess.run(["gcc", "-std=gnu11", "-O1", "-D_GNU_SOURCE", '-DMQTT_BRIDGE_VERSION="test"', f"-I{ROOT}", "-o",
                    stub, ROOT / "tests/integration/helpers/child_stub.c", *(ROOT / "common/base").glob("*.c"),
                    "-linih", "-lm", "-lpthread"], check=True)
    for program in PROGRAMS:
        if program != "worker":
            shutil.copy(stub, folder / f"mqtt-bridge-{program}")
    return folder


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

    def ask(self, verb, timeout=10, **arguments):
        with self.connect(timeout) as connection:
            connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            return json.loads(read_to_end(connection))

    def connect(self, timeout=10):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(str(self.socket))
        return connection

    def wait_listening(self):
        """Until it answers; not ready yet."""
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
            return health and health["ready"]
        wait_until(ready, timeout, lambda: f"ready\n{self.supervisor.log_tail()}")
        return self

    def wait_state(self, title, state, timeout=15.0):
        return wait_until(lambda: (found := self.find(title)) and found["state"] == state and found, timeout,
                          lambda: f"{title} is {state}: {self.find(title)}\n{self.supervisor.log_tail()}")

    def wait_successor(self, title, pid, timeout=15.0):
        """Until another process than pid runs in the place; returns it."""
        return wait_until(lambda: (found := self.find(title)) and found["state"] == "running"
                          and found["pid"] != pid and found, timeout,
                          lambda: f"{title} has a successor of {pid}: {self.find(title)}\n{self.supervisor.log_tail()}")

    def run_cli(self, *arguments, timeout=60):
        return subprocess.run([self.programs / "mqtt-bridge", *map(str, arguments)], text=True, capture_output=True,
                              timeout=timeout, cwd=self.folder, env=self.environment())


def read_to_end(connection):
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


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
    """A child that was ready for a second is restarted at once."""
    wait_until(lambda: stubs.find(title)["uptime_ms"] > 1200, 10, f"{title} is proven")
    return stubs.find(title)["pid"]


# Starting, and what children are given.

def test_everything_starts_and_the_status_lists_it(stubs):
    stubs.start()
    status = stubs.ask("status")
    assert [(p["name"], p["slot"], p["state"]) for p in status["processes"]] == [
        ("consumer", 1, "running"), ("worker", 1, "running"), ("worker", 2, "running"), ("monitor", 1, "running")]
    assert status["ready"] and status["reasons"] == []
    assert status["pid"] == stubs.supervisor.pid
    for process in status["processes"]:
        assert is_alive(process["pid"]) and process["memory_bytes"] > 0 and process["restarts"] == 0


def test_each_consumer_section_is_a_process(make_stubs):
    stubs = make_stubs(settings={"consumer:garden": {"topics": "garden/#"}})
    stubs.start()
    names = [p["name"] for p in stubs.ask("status")["processes"]]
    assert names == ["consumer", "consumer:garden", "worker", "worker", "monitor"]


def test_children_have_own_process_groups_and_no_descriptor_too_many(stubs):
    stubs.start()
    for process in stubs.ask("status")["processes"]:
        pid = process["pid"]
        assert os.getpgid(pid) == pid
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        targets = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert targets["1"] == targets["2"] and targets["1"].startswith("pipe:")
        others = [target for fd, target in targets.items() if int(fd) > 2]
        assert len(others) <= 3, targets  # the log, a signalfd, perhaps one more
        assert not any("socket:" in target or "eventpoll" in target or "lock" in target for target in others), targets


def test_descriptors_that_the_supervisor_was_started_with_stay_with_it(make_stubs):
    stubs = make_stubs(prefix=["bash", "-c", 'exec 9</etc/passwd; exec "$@"', "stray"])
    stubs.start()
    assert os.readlink(f"/proc/{stubs.supervisor.pid}/fd/9") == "/etc/passwd"
    for process in stubs.ask("status")["processes"]:
        targets = [os.readlink(f"/proc/{process['pid']}/fd/{fd}") for fd in os.listdir(f"/proc/{process['pid']}/fd")]
        assert "/etc/passwd" not in targets


def test_the_supervisor_starts_without_standard_descriptors(make_stubs):
    stubs = make_stubs(prefix=["bash", "-c", 'exec "$@" <&- >&- 2>&-', "closed"])
    stubs.settings["log"]["file"] = stubs.folder / "bridge.log"
    stubs.start()
    for fd in range(3):
        assert os.readlink(f"/proc/{stubs.supervisor.pid}/fd/{fd}") == "/dev/null"
    assert stubs.stop() == 0
    assert "Everything runs" in (stubs.folder / "bridge.log").read_text()


def test_the_supervisor_is_small(stubs):
    stubs.start()
    for _ in range(50):
        stubs.ask("status")
    rollup = pathlib.Path(f"/proc/{stubs.supervisor.pid}/smaps_rollup").read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    maps = pathlib.Path(f"/proc/{stubs.supervisor.pid}/maps").read_text()
    sanitized = "asan" in maps or "tsan" in maps
    assert sanitized or pss <= 2048


def test_the_pid_file_is_there_while_it_runs(make_stubs):
    stubs = make_stubs()
    pid_file = stubs.folder / "run" / "bridge.pid"
    stubs.settings["supervisor"]["pid_file"] = pid_file
    stubs.start()
    assert int(pid_file.read_text()) == stubs.supervisor.pid
    assert stubs.stop() == 0
    assert not pid_file.exists() and not stubs.socket.exists()


def test_a_second_supervisor_on_the_same_socket_leaves_the_firsts_pid_file(make_stubs):
    first, second = make_stubs(), make_stubs()
    pid_file = first.folder / "bridge.pid"
    first.settings["supervisor"]["pid_file"] = pid_file
    first.start()
    second.settings["supervisor"] |= {"pid_file": pid_file, "socket": first.socket}
    second.write_config()
    process = second._process("supervisor", ["--config", second.config])
    process.start()
    assert process.wait(10) != 0
    assert int(pid_file.read_text()) == first.supervisor.pid and first.socket.exists()
    pid_file.write_text("1\n")
    assert first.stop() == 0
    assert pid_file.read_text() == "1\n"


def test_the_command_reaches_the_supervisor_with_settings_that_are_wrong(stubs):
    stubs.start()
    stubs.settings["mqtt"]["prot"] = 1
    stubs.settings["worker"]["prefetch"] = "much"
    stubs.write_config()
    assert stubs.run_cli("status").returncode == 0
    assert stubs.run_cli("restart", "worker").returncode == 0
    assert stubs.run_cli("stop").returncode == 0
    result = stubs.run_cli("status")
    assert result.returncode == 2 and "prot" in result.stderr and "much" in result.stderr


def test_bad_settings_are_refused_with_every_fault(make_stubs):
    stubs = make_stubs(settings={"mqtt": {"prot": 1}, "worker": {"count": "many"}})
    stubs.start(wait=False)
    assert stubs.supervisor.wait() == 2
    assert "prot" in stubs.log() and "many" in stubs.log()


def test_a_second_supervisor_is_refused_and_told_who_has_the_place(stubs, make_stubs):
    stubs.start()
    second = make_stubs()
    second.settings["supervisor"]["state_dir"] = stubs.state_dir
    second.start(wait=False)
    assert second.supervisor.wait() == 3
    assert f"pid {stubs.supervisor.pid}" in second.log() and str(stubs.state_dir) in second.log()
    assert stubs.ask("health")["ready"]


def test_a_socket_of_another_service_is_not_taken_over(stubs, make_stubs):
    stubs.start()
    second = make_stubs()
    second.settings["supervisor"]["socket"] = stubs.socket
    second.start(wait=False)
    assert second.supervisor.wait() == 3
    assert stubs.ask("health")["ready"]


def test_children_run_as_the_user_of_the_settings_and_still_die_with_the_supervisor(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"user": "nobody"}})
    if os.geteuid() != 0:
        stubs.start(wait=False)
        assert stubs.supervisor.wait() == 2 and "only root can run the bridge as nobody" in stubs.log()
        return
    for path in (stubs.folder.parent, stubs.folder, stubs.stub_dir):
        path.chmod(0o777)
    stubs.start()
    pids = [p["pid"] for p in stubs.ask("status")["processes"]]
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        assert set(uids) == {str(os.stat(stubs.state_dir).st_uid)} and uids[0] != "0"
    stubs.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 5, "no child outlives it")


def test_a_log_that_nobody_reads_does_not_hold_the_supervisor_up(make_stubs):
    stubs = make_stubs()
    fifo = stubs.folder / "log.fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    stubs.supervisor.arguments[:0] = ["bash", "-c", 'exec "$@" 2>"$0"', str(fifo)]
    stubs.start()
    try:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, b"x")
        stubs.ask("stop", target="worker:1")  # which is logged
        stubs.wait_state("worker:1", "stopped")
        assert stubs.ask("status")["ok"]
    finally:
        stubs.supervisor.send(signal.SIGQUIT)
        assert stubs.supervisor.wait() == 0
        os.close(reader)
        os.close(writer)


def test_a_socket_folder_of_another_user_is_refused(make_stubs):
    if os.geteuid() != 0:
        return  # nobody else to be
    stubs = make_stubs(prefix=["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"])
    for path in (stubs.folder.parent, stubs.folder, stubs.stub_dir):
        path.chmod(0o777)
    trap = stubs.folder / "trap"
    trap.mkdir()
    trap.chmod(0o777)
    os.chown(trap, 12345, 12345)
    stubs.settings["supervisor"]["socket"] = trap / "control.sock"
    stubs.start(wait=False)
    assert stubs.supervisor.wait() == 2
    assert "belongs to another user (12345)" in stubs.log()
    stubs.settings["supervisor"]["socket"] = stubs.socket
    stubs.start()


# Dying.

def test_a_killed_child_is_replaced_at_once_and_its_counters_go_on(stubs):
    stubs.behave("worker:1", "work 5")
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    successor = stubs.wait_successor("worker:1", pid)
    assert time.monotonic() - began < 1
    assert successor["restarts"] == 1 and successor["done"] == 10
    # Nor do they fall when a worker goes and comes.
    stubs.ask("scale", count=0)
    wait_until(lambda: workers(stubs) == [], 5, "no worker is left")
    stubs.ask("scale", count=1)
    assert stubs.wait_state("worker:1", "running")["done"] == 15
    assert "worker:1 ended (signal SIGKILL); started again at once" in stubs.log()


def test_a_terminated_child_drains_and_is_replaced_without_counting(stubs):
    stubs.start()
    pid = wait_proven(stubs, "worker:2")
    os.kill(pid, signal.SIGTERM)
    stubs.wait_successor("worker:2", pid)
    assert ("worker:2", pid, "term") in stubs.events()
    assert "worker:2 ended (exit code 0); started again at once" in stubs.log()


def test_kill_9_of_the_supervisor_leaves_no_orphan(stubs):
    stubs.start()
    pids = [p["pid"] for p in stubs.ask("status")["processes"]]
    stubs.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 5, "no child outlives it")
    stubs.start()
    assert stubs.ask("health")["ready"]


def test_a_childs_own_child_goes_with_it(stubs):
    stubs.behave("worker:1", "helper")
    stubs.start()
    helper = int(wait_until((stubs.stub_dir / "helper.pid").read_text, 5, "the helper runs"))
    os.kill(stubs.find("worker:1")["pid"], signal.SIGKILL)
    wait_until(lambda: not is_alive(helper), 5, "the helper is gone")


def test_a_crash_loop_backs_off_and_ends_as_fatal_with_its_last_words(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 3}})
    stubs.behave("worker:1", "exit 1 the disk is on fire")
    stubs.start(wait=False)
    stubs.wait_listening()
    fatal = stubs.wait_state("worker:1", "fatal")
    starts = stubs.events("worker:1", "start")
    assert len(starts) == 4 and fatal["restarts"] == 3
    assert "the disk is on fire" in fatal["reason"] and "exit code 1" in fatal["reason"]
    assert "worker:1 says: the disk is on fire" in stubs.log()
    assert "worker:1 given up after 4 failed starts" in stubs.log()
    # on_fatal = continue: the rest goes on, and is ready.
    assert stubs.ask("health")["ready"]
    # Mended and started by hand it comes back.
    stubs.behave("worker:1", "")
    assert stubs.ask("start", target="worker:1")["ok"]
    stubs.wait_state("worker:1", "running")


def test_on_fatal_unready_keeps_the_service_unready(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 0, "on_fatal": "unready"}})
    stubs.behave("worker:1", "exit 1 no")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:1", "fatal")
    stubs.wait_state("worker:2", "running")
    health = stubs.ask("health")
    assert not health["ready"] and any(reason.startswith("worker:1: fatal") for reason in health["reasons"])


def test_on_fatal_exit_ends_the_service_with_the_childs_code(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 1, "on_fatal": "exit"}})
    stubs.behave("worker:1", "exit 41 no")
    stubs.start(wait=False)
    assert stubs.supervisor.wait() == 41
    assert stubs.events("consumer:1", "term"), "the others end in good order"


def test_settings_that_a_child_refuses_are_fatal_at_once(stubs):
    stubs.behave("monitor", "exit 2 I can not work with this")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("monitor", "fatal")
    assert len(stubs.events("monitor:1", "start")) == 1


def test_a_planned_end_never_counts_however_often(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 0}})
    stubs.behave("worker:1", "ready-exit 75 1")
    stubs.start(wait=False)
    wait_until(lambda: len(stubs.events("worker:1", "start")) >= 5, 15, "five planned ends")
    assert stubs.find("worker:1")["state"] != "fatal"


def test_a_program_that_is_not_there_is_said_and_backs_off(make_stubs, stub_folder, folder):
    programs = folder / "programs"
    shutil.copytree(stub_folder, programs)
    (programs / "mqtt-bridge-monitor").unlink()
    stubs = make_stubs(settings={"supervisor": {"start_retries": 1}})
    stubs.programs = programs
    stubs.supervisor.arguments[-1] = str(programs / "mqtt-bridge-supervisor")
    stubs.start(wait=False)
    stubs.wait_listening()
    fatal = stubs.wait_state("monitor", "fatal")
    assert "mqtt-bridge-monitor: No such file" in fatal["reason"]


def test_a_child_that_hangs_is_killed_and_replaced(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"hang_timeout": "2s"}})
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    os.kill(pid, signal.SIGSTOP)
    stubs.wait_successor("worker:1", pid)
    assert "worker:1 gave no sign of life for 2000 ms: killed" in stubs.log()
    assert len(stubs.events("worker:2", "start")) == 1


def test_after_a_pause_of_everything_nobody_counts_as_hung(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"hang_timeout": "2s"}})
    stubs.start()
    pids = [p["pid"] for p in stubs.ask("status")["processes"]]
    stubs.supervisor.freeze()
    time.sleep(4.5)  # longer than hang_timeout: what passes is the matter itself
    os.kill(stubs.supervisor.pid, signal.SIGCONT)
    time.sleep(0.2)
    stubs.supervisor.thaw()
    time.sleep(1)
    assert [p["pid"] for p in stubs.ask("status")["processes"]] == pids
    assert "sign of life" not in stubs.log()


def test_a_child_that_is_not_ready_makes_the_service_unready_with_its_reason(stubs):
    stubs.behave("consumer", "unready the broker refuses the password")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:1", "running")
    wait_until(lambda: stubs.ask("health")["reasons"] == ["consumer: starting: the broker refuses the password"], 5,
               lambda: stubs.ask("health"))
    assert stubs.find("consumer")["state"] == "starting"


def test_a_running_child_with_a_reason_makes_the_service_unready(stubs):
    stubs.behave("worker:2", "reason the hub does not answer")
    stubs.start(wait=False)
    stubs.wait_listening()
    wait_until(lambda: stubs.ask("health")["reasons"] == ["worker:2: the hub does not answer"], 5,
               lambda: stubs.ask("health"))


def test_nonsense_on_the_notify_descriptor_is_not_readiness_and_does_no_harm(stubs):
    stubs.behave("worker:1", "garbage")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:2", "running")
    assert stubs.find("worker:1")["state"] == "starting"


def test_a_child_that_talks_without_end_floods_no_log(stubs):
    stubs.behave("worker:1", "talk 20000")
    stubs.start()
    assert stubs.ask("stop", timeout=15)["ok"]
    assert stubs.supervisor.wait() == 0
    shown = stubs.log().count("worker:1 says: talking")
    assert 100 <= shown <= 500
    assert '"lines_left_out":' in stubs.log()


# Stopping.

def test_sigterm_ends_consumers_then_workers_then_the_monitor(make_stubs):
    stubs = make_stubs(settings={"consumer:garden": {"topics": "garden/#"}})
    for title in ("consumer", "consumer:garden:1", "worker"):
        stubs.behave(title, "slow-stop 150")
    stubs.start()
    assert stubs.stop() == 0
    order = [(name, what) for name, _, what in stubs.events() if what in ("term", "end")]
    at = {event: order.index(event) for event in order}
    for consumer in ("consumer:1", "consumer:garden:1"):
        for worker in ("worker:1", "worker:2"):
            assert at[(consumer, "end")] < at[(worker, "term")]
            assert at[(worker, "end")] < at[("monitor:1", "term")]
    assert stubs.log().rstrip().splitlines()[-1].count("Stopped") == 1


def test_who_does_not_end_in_time_is_killed(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "300ms"}})
    stubs.behave("worker:1", "ignore-term")
    stubs.start()
    assert stubs.stop() == 0
    assert "worker:1 has not ended within 300 ms: killed" in stubs.log()


def test_nobody_is_replaced_while_the_service_ends(make_stubs):
    stubs = make_stubs()
    stubs.behave("consumer", "slow-stop 700")
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    stubs.supervisor.send(signal.SIGTERM)
    wait_until(lambda: stubs.events("consumer:1", "term"), 5, "the consumer is asked to end")
    os.kill(pid, signal.SIGKILL)
    assert stubs.supervisor.wait() == 0
    assert len(stubs.events("worker:1", "start")) == 1


def test_sigquit_ends_at_once(make_stubs):
    stubs = make_stubs()
    for title in ("consumer", "worker", "monitor"):
        stubs.behave(title, "ignore-term")
    stubs.start()
    began = time.monotonic()
    assert stubs.stop(with_signal=signal.SIGQUIT) == 0
    assert time.monotonic() - began < 2
    assert not stubs.events(what="term")


def test_a_second_sigint_ends_at_once(make_stubs):
    stubs = make_stubs()
    stubs.behave("consumer", "ignore-term")
    stubs.start()
    stubs.supervisor.send(signal.SIGINT)
    wait_until(lambda: stubs.events("consumer:1", "term"), 5, "the consumer is asked to end")
    began = time.monotonic()
    assert stubs.stop(with_signal=signal.SIGINT) == 0
    assert time.monotonic() - began < 2


def test_the_stop_command_returns_when_everything_has_ended(make_stubs):
    stubs = make_stubs()
    stubs.behave("worker", "slow-stop 300")
    stubs.start()
    result = stubs.run_cli("stop")
    assert (result.returncode, result.stdout) == (0, "stopped\n"), result.stderr
    assert len(stubs.events(what="end")) == 4
    assert stubs.supervisor.wait() == 0
    # The place is free at that moment.
    stubs.start()


# Scaling, restarting.

def workers(stubs):
    return [p["slot"] for p in stubs.ask("status")["processes"] if p["name"] == "worker"]


def test_scale_adds_and_removes_workers(stubs):
    stubs.start()
    first = stubs.find("worker:1")["pid"]
    result = stubs.run_cli("scale", 5)
    assert result.returncode == 0, result.stderr
    assert workers(stubs) == [1, 2, 3, 4, 5]
    result = stubs.run_cli("scale", 1)
    assert result.returncode == 0, result.stderr
    assert workers(stubs) == [1] and stubs.find("worker:1")["pid"] == first
    assert len(stubs.events(what="term")) == 4, "who is no longer wanted drains"
    assert stubs.run_cli("scale", 65).returncode == 1
    assert stubs.ask("scale", count=100000)["error"] == "100000 workers: must be from 0 to 64"


def test_a_worker_that_is_wanted_again_while_it_drains_comes_back(stubs):
    stubs.behave("worker:2", "slow-stop 500")
    stubs.start()
    pid = stubs.find("worker:2")["pid"]
    stubs.ask("scale", count=1)
    wait_until(lambda: stubs.events("worker:2", "term"), 5, "it drains")
    stubs.ask("scale", count=2)
    stubs.wait_successor("worker:2", pid)
    assert workers(stubs) == [1, 2]


def test_ttin_and_ttou_are_one_worker_more_and_one_less(stubs):
    stubs.start()
    stubs.supervisor.send(signal.SIGTTIN)
    wait_until(lambda: workers(stubs) == [1, 2, 3], 5, "one more")
    stubs.wait_state("worker:3", "running")
    for left in ([1, 2], [1]):
        stubs.supervisor.send(signal.SIGTTOU)
        wait_until(lambda: workers(stubs) == left, 5, f"{left} are left")
    stubs.supervisor.send(signal.SIGTTOU)
    wait_until(lambda: "the least that SIGTTOU leaves" in stubs.log(), 5, "the last one stays")
    assert workers(stubs) == [1]


def test_usr2_replaces_the_workers_one_after_the_other(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}})
    stubs.behave("worker", "slow-stop 150")
    stubs.start()
    others = [stubs.find(title)["pid"] for title in ("consumer", "monitor")]
    stubs.supervisor.send(signal.SIGUSR2)
    wait_until(lambda: len(stubs.events(what="ready")) == 8, 15, lambda: stubs.events())
    changes = [(name, what) for name, _, what in stubs.events() if what in ("term", "ready")][5:]
    for i in range(0, 6, 2):
        assert changes[i][1] == "term" and changes[i + 1] == (changes[i][0], "ready"), changes
    assert [stubs.find(title)["pid"] for title in ("consumer", "monitor")] == others


def test_a_rolling_restart_stops_when_the_first_does_not_come_back(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}})
    stubs.start()
    stubs.behave("worker", "exit 1 the new version is broken")
    stubs.supervisor.send(signal.SIGUSR2)
    wait_until(lambda: "Rolling restart given up: worker:1" in stubs.log(), 10, "it is given up")
    assert stubs.find("worker:2")["state"] == stubs.find("worker:3")["state"] == "running"
    assert len(stubs.events(what="term")) == 1


def test_processes_are_stopped_started_and_restarted_by_name(stubs):
    stubs.start()
    assert stubs.run_cli("stop", "worker:2").returncode == 0
    assert stubs.find("worker:2")["state"] == "stopped"
    assert stubs.ask("health")["ready"], "what the operator stopped is not missed"
    assert stubs.run_cli("start", "worker:2").returncode == 0
    assert stubs.find("worker:2")["state"] == "running"
    pid = stubs.find("consumer")["pid"]
    result = stubs.run_cli("restart", "consumer")
    assert (result.returncode, result.stdout) == (0, "restarted: consumer\n")
    assert stubs.find("consumer")["pid"] != pid
    assert stubs.run_cli("stop", "worker").returncode == 0
    assert "no worker is running" in stubs.ask("health")["reasons"]
    result = stubs.run_cli("restart", "gardener")
    assert result.returncode == 1 and "there are: consumer worker:1 worker:2 monitor" in result.stderr


def test_restart_says_when_the_new_one_does_not_come(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 1}})
    stubs.start()
    stubs.behave("monitor", "exit 1 the port is taken")
    result = stubs.run_cli("restart", "monitor")
    assert result.returncode == 1
    assert "monitor is fatal" in result.stderr and "the port is taken" in result.stderr


# Reloading.

def reload(stubs):
    stubs.write_config()
    return stubs.ask("reload")


def pids(stubs):
    return {f"{p['name']}:{p['slot']}": p["pid"] for p in stubs.ask("status")["processes"]}


def test_hup_with_a_bad_file_changes_nothing_and_every_fault_is_logged(stubs):
    stubs.start()
    before = pids(stubs)
    stubs.settings["worker"] |= {"count": 7, "prefetch": "much"}
    stubs.settings["mqtt"]["prot"] = 1
    stubs.write_config()
    stubs.supervisor.send(signal.SIGHUP)
    wait_until(lambda: "prot" in stubs.log() and "much" in stubs.log(), 5, "both faults are logged")
    assert "nothing has changed" in stubs.log()
    assert pids(stubs) == before
    result = stubs.run_cli("reload")
    assert result.returncode == 2 and "prot" in result.stderr and "much" in result.stderr


def test_reload_restarts_only_those_whom_the_change_concerns(stubs):
    stubs.start()
    before = pids(stubs)
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert pids(stubs) == before
    stubs.settings["retry"] = {"max_retries": 9}
    assert reload(stubs)["restarted"] == 3
    wait_until(lambda: all(pids(stubs)[title] not in (before[title], None)
                           for title in ("worker:1", "worker:2", "monitor:1")), 10, lambda: pids(stubs))
    assert pids(stubs)["consumer:1"] == before["consumer:1"]


def test_reload_follows_the_files_number_of_workers_and_keeps_the_others(stubs):
    stubs.start()
    before = pids(stubs)
    stubs.settings["worker"]["count"] = 3
    stubs.write_config()
    stubs.supervisor.send(signal.SIGHUP)
    wait_until(lambda: workers(stubs) == [1, 2, 3], 5, "a third worker")
    stubs.wait_state("worker:3", "running")
    assert {title: pid for title, pid in pids(stubs).items() if title != "worker:3"} == before


def test_reload_keeps_what_scale_did_while_the_files_number_stays(stubs):
    stubs.start()
    stubs.ask("scale", count=4)
    stubs.settings["supervisor"]["start_retries"] = 5
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert workers(stubs) == [1, 2, 3, 4]


def test_reload_starts_and_ends_consumers(stubs):
    stubs.start()
    before = pids(stubs)
    stubs.settings["consumer:garden"] = {"topics": "garden/#"}
    assert reload(stubs)["ok"]
    stubs.wait_state("consumer:garden", "running")
    assert pids(stubs)["consumer:1"] == before["consumer:1"]
    del stubs.settings["consumer:garden"]
    assert reload(stubs)["ok"]
    wait_until(lambda: "consumer:garden:1" not in pids(stubs), 5, "it is gone")
    assert stubs.events("consumer:garden:1", "end")


def test_what_needs_a_new_supervisor_is_said_and_kept(stubs):
    stubs.start()
    stubs.settings["supervisor"]["state_dir"] = stubs.folder / "elsewhere"
    before = pids(stubs)
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert "[supervisor] state_dir: takes effect at the next start" in stubs.log()
    assert pids(stubs) == before


def test_usr1_reopens_the_log_for_all(make_stubs):
    stubs = make_stubs()
    log = stubs.folder / "logs" / "bridge.log"
    stubs.settings["log"]["file"] = log
    stubs.start()
    assert "stub is ready" in log.read_text() and "Everything runs" in log.read_text()
    log.rename(log.with_suffix(".1"))
    stubs.supervisor.send(signal.SIGUSR1)
    wait_until(log.exists, 5, "a new file")
    wait_until(lambda: "Log reopened" in log.read_text(), 5, "the supervisor writes there")
    running = stubs.find("worker:1")["pid"]
    for pid in (stubs.supervisor.pid, running):
        wait_until(lambda: any(os.readlink(f"/proc/{pid}/fd/{fd}") == str(log)
                               for fd in os.listdir(f"/proc/{pid}/fd")), 5, f"{pid} has the new file open")


# The control socket.

def test_the_control_socket_is_closed_to_others(stubs):
    stubs.start()
    assert stubs.socket.stat().st_mode & 0o777 == 0o600
    assert stubs.state_dir.stat().st_mode & 0o777 == 0o700


def test_hostile_input_on_the_control_socket_harms_nobody(stubs):
    stubs.start()
    for line in (b"\n", b"\x00\xff\xfe\n", b"{" * 60000 + b"\n", b"GET / HTTP/1.1\r\n", b'{"verb":"explode"}\n',
                 b'{"verb":"scale","count":1e99}\n', b'{"verb":"stop","target":["all"]}\n'):
        with stubs.connect() as connection:
            connection.sendall(line)
            assert json.loads(read_to_end(connection))["ok"] is False, line
    with stubs.connect() as connection:
        try:
            connection.sendall(b"x" * 1_000_000)
            answer = connection.recv(1000)
        except (BrokenPipeError, ConnectionResetError):
            answer = b"64 KB"
        assert b"64 KB" in answer
    slow = stubs.connect(timeout=15)
    slow.sendall(b'{"verb":')
    crowd = [stubs.connect() for _ in range(40)]
    assert stubs.ask("health")["ready"], "the slow and the many keep nobody waiting"
    for connection in crowd:
        connection.close()
    dropped = stubs.connect(timeout=15)
    dropped.sendall(b'{"verb":')
    assert dropped.recv(100) == b"", "who does not finish is dropped"
    slow.close()
    dropped.close()
    assert stubs.ask("health")["ready"]


def test_a_client_that_never_reads_its_answer_keeps_nobody_waiting(stubs):
    stubs.start()
    lazy = [stubs.connect() for _ in range(8)]
    for connection in lazy:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.sendall(b'{"verb":"status"}\n')
    assert stubs.ask("status")["ok"]
    for connection in lazy:
        connection.close()


def test_another_user_is_not_answered(stubs):
    stubs.start()
    if os.geteuid() != 0:
        return  # nobody else to ask as: the mode is tested above
    stubs.socket.chmod(0o777)
    for path in (stubs.folder, stubs.folder.parent):
        path.chmod(0o755)
    script = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
              "s.sendall(b'{\"verb\":\"status\"}\\n'); sys.exit(len(s.recv(100)))")
    result = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
                             "/usr/bin/python3", "-c", script, str(stubs.socket)], capture_output=True, text=True)
    assert result.returncode == 0 or "reset" in result.stderr or "Broken pipe" in result.stderr, result.stderr


def test_status_and_health_commands(stubs):
    stubs.write_config()
    result = stubs.run_cli("status")
    assert result.returncode == 3 and "not running" in result.stderr
    assert stubs.run_cli("health").returncode == 3
    stubs.behave("worker:1", "work 1234")
    stubs.start()
    result = stubs.run_cli("status")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "PID", "UPTIME", "RESTARTS", "RATE/S", "DONE", "FAILED", "MEMORY"]
    assert lines[2].split()[:2] == ["worker:1", "running"] and lines[2].split()[6] == "1234"
    assert "\033" not in result.stdout
    assert json.loads(stubs.run_cli("status", "--json").stdout)["ready"] is True
    assert stubs.run_cli("health").returncode == 0
    stubs.ask("stop", target="consumer")
    stubs.wait_state("consumer", "stopped")
    result = stubs.run_cli("health")
    assert result.returncode == 1 and "consumer: stopped" in result.stderr
    result = stubs.run_cli("health", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


def test_top_redraws_until_it_is_ended(stubs):
    stubs.start()
    top = Process("top", [stubs.programs / "mqtt-bridge", "status", "--watch"], stubs.folder, stubs.environment())
    top.start()
    try:
        wait_until(lambda: top.log().count("NAME") >= 2, 10, "two pictures")
    finally:
        top.kill()


# As PID 1.

def test_as_pid_1_it_reaps_strangers_and_takes_all_with_it(make_stubs):
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    stubs = make_stubs(prefix=["unshare", *as_root, "--pid", "--fork", "--mount-proc", "--kill-child=SIGTERM"])
    stubs.behave("worker:1", "stranger")
    stubs.start()
    inner = next(pid for pid in children_of(stubs.supervisor.pid)
                 if os.readlink(f"/proc/{pid}/exe").endswith("supervisor"))
    try:
        wait_until((stubs.stub_dir / "stranger.pid").exists, 5, "the stranger runs")
        wait_until(lambda: len(children_of(inner)) == 5, 5, "four children and the stranger")
        wait_until(lambda: len(children_of(inner)) == 4, 10, "the stranger has ended and was reaped")
        states = [pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                  for pid in children_of(inner)]
        assert "Z" not in states
    finally:
        os.kill(inner, signal.SIGTERM)  # unshare itself does not pass it on
    assert stubs.supervisor.wait() == 0
    stubs.assert_nothing_left()


def test_strangers_are_reaped_without_being_pid_1_too(stubs):
    stubs.behave("worker:1", "stranger")
    stubs.start()
    wait_until((stubs.stub_dir / "stranger.pid").exists, 5, "the stranger runs")
    stranger = int(wait_until((stubs.stub_dir / "stranger.pid").read_text, 5, "its pid"))
    wait_until(lambda: stranger in children_of(stubs.supervisor.pid), 5, "it has become the supervisor's")
    wait_until(lambda: not pathlib.Path(f"/proc/{stranger}").exists(), 10, "no zombie of it is left")
