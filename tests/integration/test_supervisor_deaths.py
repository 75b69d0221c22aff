"""The supervisor when it or a child dies, hangs or talks nonsense."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from bridge import wait_until
from bridge.process import children_of, is_alive
from bridge.stubs import wait_proven, workers


def test_a_killed_child_is_replaced_at_once_and_its_counters_go_on(stubs):
    stubs.behave("worker:1", "work 5")
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    os.kill(pid, signal.SIGKILL)
    successor = stubs.wait_successor("worker:1", pid)
    assert successor["restarts"] == 1 and successor["done"] == 10
    # Nor do they fall when a worker goes and comes.
    stubs.ask("scale", count=0)
    wait_until(lambda: workers(stubs) == [], 15, "no worker is left")
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
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 15, "no child outlives it")
    stubs.start()
    assert stubs.ask("health")["ready"]


def test_a_childs_own_child_goes_with_it(stubs):
    stubs.behave("worker:1", "helper")
    stubs.start()
    helper = stubs.left_behind("helper")
    os.kill(stubs.find("worker:1")["pid"], signal.SIGKILL)
    wait_until(lambda: not is_alive(helper), 15, "the helper is gone")


def test_a_crash_loop_backs_off_and_becomes_fatal_with_its_last_output(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 3}})
    stubs.behave("worker:1", "exit 1 the disk is on fire")
    stubs.start(wait=False)
    stubs.wait_listening()
    fatal = stubs.wait_state("worker:1", "fatal")
    starts = stubs.events("worker:1", "start")
    assert len(starts) == 4 and fatal["restarts"] == 3
    assert "the disk is on fire" in fatal["reason"] and "exit code 1" in fatal["reason"]
    assert "worker:1 says: the disk is on fire" in stubs.log()
    assert "worker:1 given up after 4 deaths in a row" in stubs.log()
    # on_fatal = continue: the rest goes on, and is ready.
    assert stubs.ask("health")["ready"]
    # Mended and started by hand it comes back.
    stubs.behave("worker:1", "")
    assert stubs.ask("start", target="worker:1")["ok"]
    stubs.wait_state("worker:1", "running")


def test_a_child_that_dies_after_each_second_of_readiness_is_given_up(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 1}})
    stubs.behave("worker:1", "ready-exit 1 2000")
    stubs.start(wait=False)
    stubs.wait_listening()
    fatal = stubs.wait_state("worker:1", "fatal", timeout=40)
    assert len(stubs.events("worker:1", "start")) == 5, "three starts at once, one after a wait"
    assert (fatal["restarts"], fatal["crashes"]) == (4, 5)


def test_last_output_and_reason_are_shown_without_terminal_escapes(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 0}})
    stubs.behave("worker:1", "exit 1 \x1b]0;owned\x07 \x9b31m " + "é" * 200)
    stubs.behave("worker:2", "reason \x1b[2J gone")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:1", "fatal")
    stubs.wait_state("worker:2", "running")
    for arguments in (["status"], ["status", "--json"], ["health"], ["restart", "worker:1"]):
        result = stubs.run_cli(*arguments)  # which decodes UTF-8
        text = result.stdout + result.stderr
        assert not any(ord(c) < 0x20 and c != "\n" or 0x7f <= ord(c) < 0xa0 for c in text), text
    assert "owned" in stubs.find("worker:1")["reason"] and "gone" in stubs.find("worker:2")["reason"]


def test_restarts_by_command_do_not_count_as_crashes(stubs):
    stubs.start()
    assert stubs.run_cli("restart", "worker:1").returncode == 0
    process = stubs.find("worker:1")
    assert (process["restarts"], process["crashes"]) == (1, 0)


def test_on_fatal_unready_keeps_the_service_unready(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 0, "on_fatal": "unready"}})
    stubs.behave("worker:1", "exit 1 no")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:1", "fatal")
    stubs.wait_state("worker:2", "running")
    # The monitor's first answers are waited for.
    wait_until(lambda: stubs.ask("health")["reasons"] == ["supervisor: worker:1 was given up: exit code 1: no"], 10,
               lambda: str(stubs.ask("health")))
    assert not stubs.ask("health")["ready"]


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


def test_a_program_that_is_missing_is_reported_and_backs_off(make_stubs, stub_folder, folder):
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
    assert "worker:1 hangs: no heartbeat for 2000 ms; killed" in stubs.log()
    assert len(stubs.events("worker:2", "start")) == 1


def test_without_hang_timeout_nobody_is_killed_for_its_silence(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"hang_timeout": 0}})
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2)  # what does not happen is the matter itself
    assert stubs.find("worker:1")["pid"] == pid
    assert stubs.ask("health")["ready"]
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("hang_timeout, pause_s", [("3s", 6), ("2s", 2.7)])
def test_after_a_pause_of_everything_nobody_counts_as_hung(make_stubs, hang_timeout, pause_s):
    stubs = make_stubs(settings={"supervisor": {"hang_timeout": hang_timeout}})
    stubs.start()
    pids = [p["pid"] for p in stubs.ask("status")["processes"]]
    stubs.supervisor.freeze()
    time.sleep(pause_s)  # longer than hang_timeout: what passes is the matter itself
    os.kill(stubs.supervisor.pid, signal.SIGCONT)
    time.sleep(0.2)
    stubs.supervisor.thaw()
    time.sleep(1)
    assert [p["pid"] for p in stubs.ask("status")["processes"]] == pids
    assert "hangs" not in stubs.log()


def watched_but_closed(pid):
    """What an epoll descriptor of the process still reports though the process itself has closed it."""
    def target(fd):
        try:
            return os.readlink(f"/proc/{pid}/fd/{fd}"), os.stat(f"/proc/{pid}/fd/{fd}").st_ino
        except FileNotFoundError:
            return "", None  # closed meanwhile
    stale = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if "eventpoll" not in target(fd)[0]:
            continue
        for line in pathlib.Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines():
            if line.startswith("tfd:") and target(line.split()[1])[1] != int(line.partition("ino:")[2].split()[0], 16):
                stale.append(line)
    return stale


def has_fork(pid):
    """Is there a child that has not become another program yet?"""
    def program(number):
        try:
            return os.readlink(f"/proc/{number}/exe")
        except OSError:
            return None
    return program(pid) in [program(child) for child in children_of(pid)]


def test_pipes_of_a_dead_process_are_unwatched_though_a_fork_has_them(make_stubs, folder):
    library = folder / "hold_fork.so"
    helper = pathlib.Path(__file__).parent / "helpers" / "hold_fork.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, helper], check=True)
    hold = folder / "hold"
    stubs = make_stubs(env={"LD_PRELOAD": library, "HOLD_FORK": hold, "ASAN_OPTIONS": ":".join(
        filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))})
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    hold.touch()
    os.kill(pid, signal.SIGKILL)
    try:
        wait_until(lambda: has_fork(stubs.supervisor.pid), 10, "the fork of its successor is held")
        stubs.ask("scale", count=1)
        wait_until(lambda: workers(stubs) == [1], 10, "worker:2 has ended and is forgotten")
        wait_until(lambda: not watched_but_closed(stubs.supervisor.pid), 10,
                   lambda: f"nothing closed is watched: {watched_but_closed(stubs.supervisor.pid)}")
    finally:
        hold.unlink()
    stubs.wait_successor("worker:1", pid)


def test_a_child_that_is_not_ready_makes_the_service_unready(stubs):
    stubs.behave("consumer", "unready the broker refuses the password")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:1", "running")
    wait_until(lambda: stubs.ask("health")["reasons"] == ["broker: consumer: the broker refuses the password"], 15,
               lambda: stubs.ask("health"))
    assert stubs.find("consumer")["state"] == "starting"


def test_workers_that_all_have_a_reason_make_the_service_unready(stubs):
    stubs.behave("worker", "reason the hub does not answer")
    stubs.start(wait=False)
    stubs.wait_listening()
    wait_until(lambda: stubs.ask("health")["reasons"] == ["worker: worker:2: the hub does not answer"], 15,
               lambda: stubs.ask("health"))


def test_garbage_on_the_notify_descriptor_is_not_readiness(stubs):
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
