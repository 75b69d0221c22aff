"""The supervisor and what it gives its children at their start; as PID 1 as well. The children in these files
are bridge/stubs.py; the bridge's own are in the other files."""

import fcntl
import os
import pathlib
import signal

import pytest
from bridge import wait_until
from bridge.process import children_of, is_alive, pss_bytes, sanitizers


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


def test_children_do_not_inherit_the_supervisors_descriptors(make_stubs):
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
    assert "All processes run" in (stubs.folder / "bridge.log").read_text()


def test_the_supervisor_takes_at_most_2_mib_of_memory(stubs):
    stubs.start()
    for _ in range(50):
        stubs.ask("status")
    assert pss_bytes(stubs.supervisor.pid) <= 2048 * 1024 or sanitizers(stubs.supervisor)


def test_the_pid_file_exists_while_the_supervisor_runs(make_stubs):
    stubs = make_stubs()
    pid_file = stubs.folder / "run" / "bridge.pid"
    stubs.settings["supervisor"]["pid_file"] = pid_file
    stubs.start()
    assert int(pid_file.read_text()) == stubs.supervisor.pid
    assert stubs.stop() == 0
    assert not pid_file.exists() and not stubs.socket.exists()


def test_a_second_supervisor_on_the_socket_leaves_the_firsts_pid_file(make_stubs):
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


def test_the_command_reaches_the_supervisor_despite_wrong_settings(stubs):
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


def test_a_second_supervisor_is_refused_with_the_firsts_pid(stubs, make_stubs):
    stubs.start()
    second = make_stubs()
    second.settings["supervisor"] |= {"state_dir": stubs.state_dir, "lock_wait": "0"}
    second.start(wait=False)
    assert second.supervisor.wait() == 3
    assert f"pid {stubs.supervisor.pid}" in second.log() and str(stubs.state_dir) in second.log()
    assert stubs.ask("health")["ready"]


def test_a_second_supervisor_waits_for_the_first_to_end_and_says_so(stubs, make_stubs):
    stubs.start()
    second = make_stubs()
    second.settings["supervisor"]["state_dir"] = stubs.state_dir
    second.start(wait=False)
    wait_until(lambda: "waiting up to 60 s" in second.log(), 15, second.log)
    assert f"pid {stubs.supervisor.pid}" in second.log()
    assert stubs.ask("health")["ready"]
    stubs.stop()
    second.wait_ready()
    assert second.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_supervisor_that_waits_for_another_can_be_stopped(stubs, make_stubs, number):
    stubs.start()
    second = make_stubs()
    second.settings["supervisor"]["state_dir"] = stubs.state_dir
    second.start(wait=False)
    wait_until(lambda: "waiting up to" in second.log(), 15, second.log)
    second.supervisor.send(number)
    assert second.supervisor.wait() == 3
    assert stubs.ask("health")["ready"]


def test_a_stop_while_waiting_for_the_lock_holds_when_the_lock_is_freed(stubs):
    stubs.state_dir.mkdir()
    with open(stubs.state_dir / "supervisor.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stubs.start(wait=False)
        wait_until(lambda: "waiting up to" in stubs.log(), 15, stubs.log)
        stubs.supervisor.send(signal.SIGTERM)
        fcntl.flock(lock, fcntl.LOCK_UN)
    assert stubs.supervisor.wait() == 3
    assert not stubs.events()


def test_a_socket_of_another_service_is_not_taken_over(stubs, make_stubs):
    stubs.start()
    second = make_stubs()
    second.settings["supervisor"]["socket"] = stubs.socket
    second.start(wait=False)
    assert second.supervisor.wait() == 3
    assert stubs.ask("health")["ready"]


def test_children_of_another_user_still_die_with_the_supervisor(make_stubs):
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
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 15, "no child outlives it")


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


def test_a_supervisor_as_pid_1_reaps_orphans_and_leaves_no_process(make_stubs):
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    stubs = make_stubs(prefix=["unshare", *as_root, "--pid", "--fork", "--mount-proc", "--kill-child=SIGTERM"])
    stubs.behave("worker:1", "stranger")
    stubs.start()
    inner = next(pid for pid in children_of(stubs.supervisor.pid)
                 if os.readlink(f"/proc/{pid}/exe").endswith("supervisor"))
    try:
        stubs.left_behind("stranger")
        wait_until(lambda: len(children_of(inner)) == 5, 15, "four children and the stranger")
        stubs.end_stranger()
        wait_until(lambda: len(children_of(inner)) == 4, 15, "the stranger has ended and was reaped")
        states = [pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                  for pid in children_of(inner)]
        assert "Z" not in states
    finally:
        os.kill(inner, signal.SIGTERM)  # unshare itself does not pass it on
    assert stubs.supervisor.wait() == 0
    stubs.assert_nothing_left()


def test_a_supervisor_that_is_not_pid_1_reaps_orphans(stubs):
    stubs.behave("worker:1", "stranger")
    stubs.start()
    stranger = stubs.left_behind("stranger")
    wait_until(lambda: stranger in children_of(stubs.supervisor.pid), 15, "it has become the supervisor's")
    stubs.end_stranger()
    wait_until(lambda: not pathlib.Path(f"/proc/{stranger}").exists(), 15, "no zombie of it is left")
