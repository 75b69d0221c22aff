"""`mqtt-bridge upgrade`: the bridge becomes the program that was installed over the running one."""

import json
import os
import shutil
import signal
import subprocess
import threading

import pytest
from bridge import Bridge, account_when_seen, build_folder, wait_until
from bridge.compiled import ROOT, compile_program, once, version
from bridge.process import open_files
from bridge.stubs import PROGRAMS, STUB, Stubs, workers

VERSION = version()
NEXT = "9.9.9"
VERSIONED = ["common/runtime/command_line.c", "common/runtime/status.c"]  # of the archive, what knows the version
FILES = ("mqtt-bridge", "mqtt-bridge-supervisor", *(f"mqtt-bridge-{name}" for name in PROGRAMS))


def _make_next(folder):
    folder.mkdir()
    supervisor = [path.relative_to(ROOT) for path in (ROOT / "supervisor").glob("*.c")]
    compile_program(folder / "mqtt-bridge-supervisor", [*supervisor, *VERSIONED], NEXT)
    compile_program(folder / "stub", [STUB, *VERSIONED], NEXT)
    for name in PROGRAMS:
        shutil.copy(folder / "stub", folder / f"mqtt-bridge-{name}")
    shutil.copy(build_folder() / "mqtt-bridge", folder / "mqtt-bridge")


@pytest.fixture(scope="session")
def next_folder():
    """The supervisor and the stubs as another version."""
    return once("next", _make_next)


class Installed:
    """Programs in a folder of their own. As `make install` and a package do, a file is replaced by a rename."""

    def __init__(self, folder, source):
        self.folder = folder
        folder.mkdir()
        self.install(source)

    def replace(self, name, content):
        fresh = self.folder / "fresh"
        fresh.write_bytes(content)
        fresh.chmod(0o755)
        os.replace(fresh, self.folder / name)

    def install(self, source, names=FILES):
        for name in names:
            self.replace(name, (source / name).read_bytes())


@pytest.fixture
def make_installed(makers, stub_folder):
    def make(**parts):
        folder = makers.new_folder("bridge")
        installed = Installed(folder / "bin", stub_folder)
        stubs = makers.keep(Stubs(installed.folder, folder, **parts))
        for process in stubs.processes:
            makers.watch(process)
        return stubs, installed
    return make


@pytest.fixture
def installed(make_installed):
    return make_installed()


def pids(stubs):
    return {f"{process['name']}:{process['slot']}": process["pid"] for process in stubs.ask("status")["processes"]}


def test_an_upgrade_makes_the_running_process_the_new_version(make_installed, next_folder):
    stubs, installed = make_installed()
    pid_file = stubs.folder / "bridge.pid"
    stubs.settings["supervisor"]["pid_file"] = pid_file
    stubs.start()
    before = pids(stubs)
    assert stubs.run_cli("scale", 3).returncode == 0
    installed.install(next_folder)
    result = stubs.run_cli("upgrade")
    assert (result.returncode, result.stdout) == (0, f"upgraded to {NEXT} from {VERSION}\n"), result.stderr
    status = stubs.ask("status")
    assert (status["version"], status["pid"]) == (NEXT, stubs.supervisor.pid)
    assert workers(stubs) == [1, 2, 3], "the number of workers stays in force"
    assert not set(before.values()) & set(pids(stubs).values())
    assert all(process["state"] == "running" for process in status["processes"]), "it is answered when all run"
    assert pid_file.read_text() == f"{stubs.supervisor.pid}\n"
    assert len(stubs.events(what="end")) == 5, "all of the former version drained"
    answer = json.loads(stubs.run_cli("upgrade", "--json").stdout)
    assert answer == {"ok": True, "former": NEXT, "version": NEXT}, "and once more"
    assert stubs.stop() == 0 and not pid_file.exists()


def descriptors(stubs):
    return sorted(target.split(":")[0] for target in open_files(stubs.supervisor.pid))


def settled_descriptors(stubs):
    """Those of two looks that agree: none is open for a moment only."""
    looks = [descriptors(stubs)]

    def agree():
        looks.append(descriptors(stubs))
        return looks[-1] == looks[-2]
    wait_until(agree, 15, lambda: f"two looks agree: {looks[-2:]}", every=0.1)
    return looks[-1]


def test_the_new_program_has_the_arguments_and_no_variable_of_the_upgrade(make_installed):
    stubs, installed = make_installed()
    stubs.supervisor.arguments += ["--config", str(stubs.config)]
    stubs.start()
    assert stubs.run_cli("upgrade").returncode == 0
    for pid in (stubs.supervisor.pid, *pids(stubs).values()):
        with open(f"/proc/{pid}/environ", "rb") as environment:
            assert (b"MQTT_BRIDGE_UPGRADE" in environment.read()) == (pid == stubs.supervisor.pid)
    assert stubs.ask("status")["config"] == str(stubs.config)
    wait_until(lambda: descriptors(stubs).count("socket") == 1, 15, "only the control socket is open")
    before = settled_descriptors(stubs)
    assert stubs.run_cli("upgrade").returncode == 0
    wait_until(lambda: descriptors(stubs) == before, 15, lambda: f"none is left over: {before} {descriptors(stubs)}")


def missing(installed, _stubs, _next):
    (installed.folder / "mqtt-bridge-supervisor").unlink()


def not_executable(installed, _stubs, _next):
    (installed.folder / "mqtt-bridge-supervisor").chmod(0o644)


def nonsense(installed, _stubs, _next):
    installed.replace("mqtt-bridge-supervisor", b"\x00nonsense")


def half_installed(installed, _stubs, next_folder):
    installed.install(next_folder, FILES[:3])


def without_worker(installed, _stubs, _next):
    (installed.folder / "mqtt-bridge-worker").unlink()


def broken(installed, _stubs, _next):
    installed.replace("mqtt-bridge-worker", b"#!/bin/sh\nexit 127\n")


def settings_refused(_installed, stubs, _next):
    stubs.settings["worker"]["speed"] = "high"
    stubs.write_config()


def folder_elsewhere(_installed, stubs, _next):
    stubs.settings["supervisor"]["state_dir"] = stubs.folder / "elsewhere"
    stubs.write_config()


def older(installed, _stubs, _next):
    installed.replace("mqtt-bridge-supervisor", b"#!/bin/sh\necho 'no option --upgrade' >&2; exit 2\n")


REFUSALS = [
    (missing, "mqtt-bridge-supervisor: No such file or directory"),
    (not_executable, "mqtt-bridge-supervisor: Permission denied"),
    (nonsense, "mqtt-bridge-supervisor: Exec format error"),
    (half_installed, f"mqtt-bridge-worker is of version {VERSION}, not {NEXT}"),
    (without_worker, "mqtt-bridge-worker: No such file or directory"),
    (broken, "mqtt-bridge-worker can't be run"),
    (settings_refused, "speed"),
    (folder_elsewhere, "elsewhere: No such file or directory: restart the bridge instead"),
    (older, "no option --upgrade"),
]


@pytest.mark.parametrize("change, said", REFUSALS, ids=[change.__name__ for change, _ in REFUSALS])
def test_an_upgrade_that_cannot_take_over_is_refused_with_no_change(installed, next_folder, change, said):
    stubs, programs = installed
    stubs.start()
    before = pids(stubs)
    command = stubs.folder / "mqtt-bridge"
    shutil.copy(programs.folder / "mqtt-bridge", command)
    change(programs, stubs, next_folder)
    result = subprocess.run([command, "--config", stubs.config, "upgrade"], text=True, capture_output=True, timeout=30,
                            env=stubs.environment(), check=False)
    assert result.returncode == 1, result.stdout
    assert f"not upgraded, the bridge is {VERSION} as before: " in result.stderr and said in result.stderr, result.stderr
    assert pids(stubs) == before and stubs.ask("health")["ready"]
    assert not stubs.events(what="term")


def test_a_check_without_end_is_ended_and_keeps_nobody_waiting(installed):
    stubs, programs = installed
    stubs.start()
    programs.replace("mqtt-bridge-supervisor", b"#!/bin/sh\nexec sleep 1000\n")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(stubs.run_cli("upgrade")))
    waiting.start()
    wait_until(lambda: "checks whether it can take over" in stubs.log(), 15, "the check runs")
    assert "an upgrade is under way" in stubs.ask("upgrade", wait=True)["error"]
    assert stubs.ask("health")["ready"] and stubs.run_cli("restart", "worker:1").returncode == 0
    waiting.join(30)
    assert answers[0].returncode == 1 and "its check ended with signal 9" in answers[0].stderr


@pytest.mark.parametrize("end", ["stop", signal.SIGTERM])
def test_a_stop_during_an_upgrade_ends_the_bridge(installed, next_folder, end):
    stubs, programs = installed
    stubs.behave("worker", "slow-stop 1500")
    stubs.start()
    programs.install(next_folder)
    with stubs.connect(timeout=30) as connection:
        connection.send(b'{"verb":"upgrade"}')
        wait_until(lambda: stubs.events("worker:1", "term"), 10, "the workers drain")
        assert stubs.ask("restart")["error"] == "the service is being upgraded"
        if end == "stop":
            assert stubs.run_cli("stop").returncode == 0
        else:
            stubs.supervisor.send(end)
        answer = json.loads(connection.recv(65536))
    assert answer["ok"] is False and "the service is stopping" in answer["error"], answer
    assert stubs.supervisor.wait() == 0
    stubs.assert_nothing_left()


def test_the_control_socket_answers_and_the_lock_is_kept_all_the_time(installed, makers, next_folder):
    stubs, programs = installed
    stubs.start()
    other = makers.keep(Stubs(programs.folder, makers.new_folder("other")))
    other.settings["supervisor"] |= {"state_dir": stubs.state_dir, "lock_wait": "60s"}
    other.start(wait=False)
    wait_until(lambda: "waiting up to 60 s" in other.log(), 10, "another supervisor waits for the lock")
    programs.install(next_folder)
    ended, answers, errors = threading.Event(), [], []

    def ask():
        while not ended.is_set():
            try:
                answers.append(stubs.ask("status")["version"])
            except (OSError, ValueError) as error:
                errors.append(error)
    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    results = [stubs.run_cli("upgrade") for _ in range(3)]
    ended.set()
    for thread in asking:
        thread.join()
    assert [result.returncode for result in results] == [0, 0, 0], results
    assert not errors and {VERSION, NEXT} == set(answers)
    assert other.supervisor.is_running() and "starts" not in other.log()
    other.supervisor.stop()


def test_a_process_that_does_not_come_back_after_an_upgrade_is_named(make_installed, next_folder):
    stubs, programs = make_installed(settings={"supervisor": {"start_retries": 0}})
    stubs.start()
    programs.install(next_folder)
    stubs.behave("worker:2", "exit 1 a new fault")
    result = stubs.run_cli("upgrade")
    assert result.returncode == 1
    assert f"upgraded to {NEXT} from {VERSION}, but worker:2 is fatal: exit code 1: a new fault" in result.stderr


def test_an_upgrade_under_load_loses_no_message(makers, mosquitto, redis, hub, database, publisher, sse):
    installed = Installed(makers.new_folder("installed") / "bin", build_folder())
    bridge = makers.keep(Bridge(makers.new_folder("bridge"), mosquitto=mosquitto, redis=redis, hub=hub, database=database))
    bridge.supervisor.arguments[-1] = installed.folder / "mqtt-bridge-supervisor"
    bridge.env["MQTT_BRIDGE_WEB"] = build_folder().parent / "web"
    makers.watch(bridge.supervisor)
    bridge.start()
    sent = [(f"load/{number % 50}", f"value {number}") for number in range(12000)]

    def publish():
        for start in range(0, len(sent), 200):
            publisher.publish_all(sent[start:start + 200], qos=1)
    device = threading.Thread(target=publish)
    device.start()
    for _ in range(2):
        installed.install(build_folder())
        wait_until(lambda: sse.events, 20, "messages arrive")
        result = bridge.cli("upgrade")
        assert result.stdout == f"upgraded to {VERSION} from {VERSION}\n", result.stdout
    device.join()
    result = account_when_seen(sent, sse, timeout=60)
    result.assert_nothing_lost()
    result.assert_repeats_recognisable()
    assert bridge.stop() == 0
