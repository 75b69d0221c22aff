"""The supervisor told to change: scale, stop, start and restart by name, reload, reopen the log."""

import os
import signal

from bridge import wait_until
from bridge.stubs import workers


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
    assert any(reason.startswith("worker: no worker is running; worker:") for reason in stubs.ask("health")["reasons"])
    result = stubs.run_cli("restart", "gardener")
    assert result.returncode == 1 and "there are: consumer worker:1 worker:2 monitor" in result.stderr


def test_restart_says_at_once_that_the_rolling_restart_was_given_up(make_stubs):
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


def test_who_does_not_come_is_told_before_who_waits(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}, "supervisor": {"stop_timeout": "0s", "start_retries": 100}})
    stubs.start()
    stubs.ask("stop", target="worker")
    wait_until(lambda: all(stubs.find(f"worker:{n}")["state"] == "stopped" for n in (1, 2, 3)), 10, "all are stopped")
    stubs.behave("worker:1", "exit 1 the new version is broken")
    stubs.behave("worker:3", "unready it waits")
    result = stubs.run_cli("start", "worker")  # which has patience
    assert result.returncode == 1 and result.stderr.startswith("mqtt-bridge: worker:1 is "), result.stderr


def test_a_consumer_with_a_number_for_a_name_is_meant_by_it(make_stubs):
    stubs = make_stubs(settings={"consumer:1": {"topics": "one/#"}})
    stubs.start()
    result = stubs.run_cli("stop", "consumer:1")
    assert (result.returncode, result.stdout) == (0, "stopped: consumer:1\n"), result.stderr
    assert stubs.find("consumer")["state"] == "running"
    # Else the number is the process's.
    assert stubs.ask("stop", target="monitor:1")["processes"][0]["name"] == "monitor"
    del stubs.settings["consumer:1"]
    assert reload(stubs)["ok"]
    wait_until(lambda: "consumer:1:1" not in pids(stubs), 5, "it is gone")
    assert [p["name"] for p in stubs.ask("restart", target="consumer:1")["processes"]] == ["consumer"]


def test_restart_says_when_the_new_one_does_not_come(make_stubs):
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


def test_reload_restarts_those_whom_a_restart_that_was_given_up_has_left(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 3}})
    stubs.start()
    before = pids(stubs)
    stubs.behave("worker:1", "exit 1 not yet")
    stubs.settings["retry"] = {"max_retries": 9}
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


def test_reload_does_not_bring_back_who_was_told_to_stop(stubs):
    stubs.behave("worker:2", "slow-stop 700")
    stubs.start()
    stubs.ask("stop", target="worker:2")
    stubs.settings["retry"] = {"max_retries": 9}
    assert reload(stubs)["restarted"] == 2
    wait_until(lambda: stubs.find("worker:2")["state"] != "stopping", 10, "it has ended")
    assert stubs.find("worker:2")["state"] == "stopped"


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
