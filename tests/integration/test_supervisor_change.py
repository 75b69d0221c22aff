"""The supervisor told to change: scale, stop, start and restart by name, reload, reopen the log."""

import os
import signal
import time

from bridge import wait_until
from bridge.process import open_files, resume
from bridge.stubs import wait_proven, workers


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


def test_a_worker_wanted_again_while_it_drains_is_started_again(stubs):
    stubs.behave("worker:2", "slow-stop 500")
    stubs.start()
    pid = stubs.find("worker:2")["pid"]
    stubs.ask("scale", count=1)
    wait_until(lambda: stubs.events("worker:2", "term"), 15, "it drains")
    stubs.ask("scale", count=2)
    stubs.wait_successor("worker:2", pid)
    assert workers(stubs) == [1, 2]


def test_sigttin_adds_a_worker_and_sigttou_removes_one(stubs):
    stubs.start()
    stubs.supervisor.send(signal.SIGTTIN)
    wait_until(lambda: workers(stubs) == [1, 2, 3], 15, "one more")
    stubs.wait_state("worker:3", "running")
    for left in ([1, 2], [1]):
        stubs.supervisor.send(signal.SIGTTOU)
        wait_until(lambda: workers(stubs) == left, 15, f"{left} are left")
    stubs.supervisor.send(signal.SIGTTOU)
    wait_until(lambda: "SIGTTOU ignored: one worker is the minimum" in stubs.log(), 15, "the last one stays")
    assert workers(stubs) == [1]


def test_sigusr2_replaces_the_workers_one_after_the_other(make_stubs):
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


def test_a_rolling_restart_stops_when_the_first_successor_dies(make_stubs):
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
    assert any(reason.startswith("worker: no worker is running; worker:") for reason in stubs.ask("health")["reasons"])
    result = stubs.run_cli("restart", "gardener")
    assert result.returncode == 2 and "there are: consumer worker:1 worker:2 monitor" in result.stderr


def test_several_names_and_a_star_are_taken_at_once(stubs):
    stubs.start()
    before = pids(stubs)
    result = stubs.run_cli("restart", "worker:2", "monitor")
    assert (result.returncode, result.stdout) == (0, "restarted: worker:2 monitor\n")
    changed = {title for title, pid in pids(stubs).items() if pid != before[title]}
    assert changed == {"worker:2", "monitor:1"}
    assert stubs.run_cli("stop", "worker:*").returncode == 0
    assert [stubs.find(f"worker:{n}")["state"] for n in (1, 2)] == ["stopped", "stopped"]
    result = stubs.run_cli("start", "worker:1", "worker:9")
    assert result.returncode == 2 and 'there is no process "worker:9"' in result.stderr
    assert stubs.find("worker:1")["state"] == "stopped", "a wrong name changes nothing"
    assert stubs.ask("restart", target="  ").get("unknown"), "blanks name nobody"


def test_events_tell_what_happened_newest_last(stubs):
    stubs.start()
    pid = wait_proven(stubs, "worker:1")
    os.kill(pid, signal.SIGKILL)
    stubs.wait_successor("worker:1", pid)
    assert reload(stubs)["ok"]
    result = stubs.run_cli("events")
    assert result.returncode == 0
    lines = [line.partition("  ")[2] for line in result.stdout.splitlines()]

    def index(start):
        return next(i for i, line in enumerate(lines) if line.startswith(start))
    assert index("worker:1 is ready") < index("worker:1 ended (signal SIGKILL); started again at once") < \
        index('Settings reloaded {"restarted":0}')


def test_a_signal_is_sent_by_name(stubs):
    stubs.start()
    before = pids(stubs)
    result = stubs.run_cli("signal", "worker:2", "TERM")
    assert (result.returncode, result.stdout) == (0, "sent to: worker:2\n")
    stubs.wait_successor("worker:2", before["worker:2"])
    assert pids(stubs)["worker:1"] == before["worker:1"]
    result = stubs.run_cli("signal", "worker:2", "TERMINATE")
    assert result.returncode == 1 and "signal: must be a name" in result.stderr
    assert stubs.run_cli("signal", "worker:9", "TERM").returncode == 2


def test_shutdown_ends_the_bridge(stubs):
    stubs.start()
    result = stubs.run_cli("shutdown")
    assert (result.returncode, result.stdout) == (0, "stopped\n")
    assert stubs.supervisor.wait() == 0


def given_up(make_stubs, behaviour):
    """A bridge whose worker:1 ends like that at each start."""
    stubs = make_stubs(settings={"supervisor": {"start_retries": 0}})
    stubs.behave("worker:1", behaviour)
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:1", "fatal")
    return stubs


def test_the_status_says_why_a_process_is_not_there_and_what_is_next(make_stubs):
    stubs = given_up(make_stubs, "exit 1 the disk is full")
    assert "worker:1: exit code 1: the disk is full; given up: `mqtt-bridge start worker:1` tries again" in \
        stubs.run_cli("status").stdout
    assert stubs.find("worker:1")["last_exit"] == "exit code 1"


def test_the_restart_command_reports_a_failed_rolling_restart_at_once(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}})
    stubs.start()
    before = pids(stubs)
    stubs.behave("worker:1", "exit 1 the new version is broken")
    result = stubs.run_cli("restart", "worker")
    assert result.returncode == 1
    assert result.stderr == ("mqtt-bridge: worker:1 does not come back (exit code 1: the new version is broken); the "
                             "rolling restart was given up, not restarted: worker:2 worker:3\n")
    assert "(exit code 1: the new version is broken); not restarted: worker:2 worker:3" in stubs.log()
    assert [pids(stubs)[title] for title in ("worker:2", "worker:3")] == [before["worker:2"], before["worker:3"]]


def test_restart_names_the_failed_process_before_the_waiting_ones(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}, "supervisor": {"stop_timeout": "0s", "start_retries": 100}})
    stubs.start()
    stubs.ask("stop", target="worker")
    wait_until(lambda: all(stubs.find(f"worker:{n}")["state"] == "stopped" for n in (1, 2, 3)), 10, "all are stopped")
    stubs.behave("worker:1", "exit 1 the new version is broken")
    stubs.behave("worker:3", "unready it waits")
    result = stubs.run_cli("start", "worker")  # which has patience
    assert result.returncode == 1 and result.stderr.startswith("mqtt-bridge: worker:1 is "), result.stderr


def test_a_consumer_named_by_a_number_is_found_by_that_name(make_stubs):
    stubs = make_stubs(settings={"consumer:1": {"topics": "one/#"}})
    stubs.start()
    result = stubs.run_cli("stop", "consumer:1")
    assert (result.returncode, result.stdout) == (0, "stopped: consumer:1\n"), result.stderr
    assert stubs.find("consumer")["state"] == "running"
    # Else the number is the process's.
    assert stubs.ask("stop", target="monitor:1")["processes"][0]["name"] == "monitor"
    del stubs.settings["consumer:1"]
    assert reload(stubs)["ok"]
    wait_until(lambda: "consumer:1:1" not in pids(stubs), 15, "it is gone")
    assert [p["name"] for p in stubs.ask("restart", target="consumer:1")["processes"]] == ["consumer"]


def test_restart_says_why_the_new_process_does_not_start(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 1}})
    stubs.start()
    stubs.behave("monitor", "exit 1 the port is taken")
    result = stubs.run_cli("restart", "monitor")
    assert result.returncode == 1
    assert "monitor is fatal" in result.stderr and "the port is taken" in result.stderr


def reload(stubs):
    stubs.write_config()
    return stubs.ask("reload")


def pids(stubs):
    return {f"{p['name']}:{p['slot']}": p["pid"] for p in stubs.ask("status")["processes"]}


def test_reload_is_answered_when_everything_runs_with_the_new_settings(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}})
    stubs.behave("worker", "slow-stop 300")
    stubs.start()
    before = pids(stubs)
    stubs.settings["retry"] = {"max_retries": 9}
    stubs.write_config()
    result = stubs.run_cli("reload")
    assert (result.returncode, result.stdout) == (0, "settings reloaded, restarted: 3\n"), result.stderr
    after = pids(stubs)
    for number in (1, 2, 3):
        assert after[f"worker:{number}"] not in (None, before[f"worker:{number}"])
        assert stubs.find(f"worker:{number}")["state"] == "running"


def test_reload_names_the_process_that_does_not_start_again(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 0}})
    stubs.start()
    stubs.behave("monitor", "exit 1 the port is taken")
    stubs.settings["http"] = {"listen": "127.0.0.1:1"}
    stubs.write_config()
    result = stubs.run_cli("reload")
    assert result.returncode == 1 and result.stderr == (
        "mqtt-bridge: the settings are in force, but monitor is fatal: exit code 1: the port is taken\n")


def test_hup_with_a_bad_file_changes_nothing_and_every_fault_is_logged(stubs):
    stubs.start()
    before = pids(stubs)
    stubs.settings["worker"] |= {"count": 7, "prefetch": "much"}
    stubs.settings["mqtt"]["prot"] = 1
    stubs.write_config()
    stubs.supervisor.send(signal.SIGHUP)
    wait_until(lambda: "prot" in stubs.log() and "much" in stubs.log(), 15, "both faults are logged")
    assert "nothing has changed" in stubs.log()
    assert pids(stubs) == before
    result = stubs.run_cli("reload")
    assert result.returncode == 2 and "prot" in result.stderr and "much" in result.stderr


def test_reload_restarts_only_affected_processes(stubs):
    stubs.start()
    before = pids(stubs)
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert pids(stubs) == before
    stubs.settings["retry"] = {"max_retries": 9}
    assert reload(stubs)["restarted"] == 2
    wait_until(lambda: all(pids(stubs)[title] not in (before[title], None)
                           for title in ("worker:1", "worker:2")), 10, lambda: pids(stubs))
    assert [pids(stubs)[title] for title in ("consumer:1", "monitor:1")] == [before["consumer:1"], before["monitor:1"]]


def test_reload_restarts_nobody_for_what_the_supervisor_alone_reads(stubs):
    stubs.start()
    before = pids(stubs)
    stubs.settings["supervisor"] |= {"start_retries": 3, "on_fatal": "unready"}
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert pids(stubs) == before


def test_reload_changes_the_level_of_the_log_of_running_processes(make_stubs):
    stubs = make_stubs(settings={"log": {"level": "error"}})
    stubs.start()
    before = pids(stubs)
    stubs.settings["log"]["level"] = "info"
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert pids(stubs) == before
    stubs.ask("restart", target="consumer")
    stubs.wait_successor("consumer", before["consumer:1"])
    wait_until(lambda: "stub is ready" in stubs.log(), 10, "the successor has logged it")
    assert f'"pid":{before["consumer:1"]}' in next(line for line in stubs.log().splitlines() if "stub ends" in line)


def test_reload_restarts_workers_left_by_a_failed_rolling_restart(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}})
    stubs.start()
    before = pids(stubs)
    stubs.behave("worker:1", "exit 1 not yet")
    stubs.settings["failure"] = {"queue_name": "other"}
    assert reload(stubs)["restarted"] == 4
    wait_until(lambda: "Rolling restart given up" in stubs.log(), 10, "it is given up")
    stubs.behave("worker:1", "")
    stubs.wait_successor("worker:1", before["worker:1"])
    stubs.wait_successor("monitor", before["monitor:1"])
    first = pids(stubs)
    assert [first[title] for title in ("worker:2", "worker:3")] == [before["worker:2"], before["worker:3"]]
    assert reload(stubs) == {"ok": True, "restarted": 2}
    for title in ("worker:2", "worker:3"):
        stubs.wait_successor(title, before[title])
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert [pids(stubs)[title] for title in ("worker:1", "monitor:1")] == [first["worker:1"], first["monitor:1"]]


def test_reload_with_a_shorter_hang_timeout_kills_nobody(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 2}, "supervisor": {"stop_timeout": "60s"}})
    stubs.behave("worker", "hold-stop")
    stubs.start()
    before = pids(stubs)
    stubs.settings["supervisor"]["hang_timeout"] = "3s"
    assert reload(stubs)["restarted"] == 4
    wait_until(lambda: stubs.find("worker:1")["state"] == "stopping", 15, "worker:2 waits for its turn")
    os.kill(before["worker:2"], signal.SIGSTOP)
    time.sleep(5)  # more than the new hang_timeout, and far less than its own of 60 s
    resume([before["worker:2"]])
    stubs.release()
    for title, pid in before.items():
        stubs.wait_successor(title, pid)
    assert "hangs" not in stubs.log()


def test_reload_restarts_processes_that_read_a_changed_file(stubs):
    token, other = stubs.folder / "token", stubs.folder / "ca.pem"
    token.write_text("first")
    other.write_text("one")
    stubs.settings["http"] = {"token_file": token}
    stubs.settings["mqtt"] |= {"ca_file": other}
    stubs.start()
    before = pids(stubs)
    token.write_text("second")
    assert reload(stubs) == {"ok": True, "restarted": 1}
    stubs.wait_successor("monitor", before["monitor:1"])
    other.write_text("two")
    assert reload(stubs)["restarted"] == 2, "the consumer, and the monitor, which tells when it expires"
    stubs.wait_successor("consumer", before["consumer:1"])
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert [pids(stubs)[title] for title in ("worker:1", "worker:2")] == [before["worker:1"], before["worker:2"]]


def test_reload_starts_what_was_given_up(make_stubs):
    stubs = given_up(make_stubs, "exit 2 no key")
    stubs.behave("worker:1", "")
    assert reload(stubs) == {"ok": True, "restarted": 1}
    stubs.wait_state("worker:1", "running")


def test_reload_does_not_start_a_stopped_process(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"stop_timeout": "60s"}})
    stubs.behave("worker:2", "hold-stop")
    stubs.start()
    stubs.ask("stop", target="worker:2")
    stubs.settings["retry"] = {"max_retries": 9}
    assert reload(stubs)["restarted"] == 1
    assert stubs.find("worker:2")["state"] == "stopping"
    stubs.release()
    wait_until(lambda: stubs.find("worker:2")["state"] != "stopping", 10, "it has ended")
    assert stubs.find("worker:2")["state"] == "stopped"


def test_reload_follows_a_changed_worker_count_without_restarts(stubs):
    stubs.start()
    before = pids(stubs)
    stubs.settings["worker"]["count"] = 3
    stubs.write_config()
    stubs.supervisor.send(signal.SIGHUP)
    wait_until(lambda: workers(stubs) == [1, 2, 3], 15, "a third worker")
    stubs.wait_state("worker:3", "running")
    assert {title: pid for title, pid in pids(stubs).items() if title != "worker:3"} == before


def test_reload_keeps_a_scaled_worker_count_if_the_file_has_the_same(stubs):
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
    wait_until(lambda: "consumer:garden:1" not in pids(stubs), 15, "it is gone")
    assert stubs.events("consumer:garden:1", "end")


def test_reload_keeps_settings_that_need_a_new_supervisor(stubs):
    stubs.start()
    stubs.settings["supervisor"]["state_dir"] = stubs.folder / "elsewhere"
    before = pids(stubs)
    assert reload(stubs) == {"ok": True, "restarted": 0}
    assert "[supervisor] state_dir: takes effect at the next start" in stubs.log()
    assert pids(stubs) == before


def test_sigusr1_reopens_the_log_of_all_processes(make_stubs):
    stubs = make_stubs()
    log = stubs.folder / "logs" / "bridge.log"
    stubs.settings["log"]["file"] = log
    stubs.start()
    assert "stub is ready" in log.read_text() and "All processes run" in log.read_text()
    log.rename(log.with_suffix(".1"))
    stubs.supervisor.send(signal.SIGUSR1)
    wait_until(log.exists, 15, "a new file")
    wait_until(lambda: "Log reopened" in log.read_text(), 15, "the supervisor writes there")
    running = stubs.find("worker:1")["pid"]
    for pid in (stubs.supervisor.pid, running):
        wait_until(lambda: str(log) in open_files(pid), 15, f"{pid} has the new file open")
