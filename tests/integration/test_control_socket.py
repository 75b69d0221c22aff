"""The control socket and the commands that ask it."""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios

import pytest
from bridge import Process, wait_until
from bridge.monitor import request
from bridge.stubs import read_answer


def test_the_control_socket_is_closed_to_others(stubs):
    stubs.start()
    assert stubs.socket.stat().st_mode & 0o777 == 0o600
    assert stubs.state_dir.stat().st_mode & 0o777 == 0o700


def test_hostile_input_on_the_control_socket_harms_nobody(stubs):
    stubs.start()
    for packet in (b"\n", b"\x00\xff\xfe\n", b"{" * 60000, b"GET / HTTP/1.1\r\n", b'{"verb":"explode"}',
                   b'{"verb":"scale","count":1e99}', b'{"verb":"stop","target":["all"]}', b'{"verb":"status"', b"x" * 100_000):
        with stubs.connect() as connection:
            connection.send(packet)
            answer = json.loads(read_answer(connection))
            assert answer["ok"] is False, packet
    assert "64 KB" in answer["error"]
    slow = stubs.connect(timeout=15)
    crowd = [stubs.connect() for _ in range(40)]
    assert stubs.ask("health")["ready"], "the slow and the many keep nobody waiting"
    for connection in crowd:
        connection.close()
    dropped = stubs.connect(timeout=15)
    assert dropped.recv(100) == b"", "who does not ask is dropped"
    slow.close()
    dropped.close()
    assert stubs.ask("health")["ready"]


def test_a_client_that_never_reads_its_answer_keeps_nobody_waiting(stubs):
    stubs.start()
    lazy = [stubs.connect() for _ in range(8)]
    for connection in lazy:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.send(b'{"verb":"status"}')
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
    script = ("import socket,sys; s=socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]);"
              "s.send(b'{\"verb\":\"status\"}'); sys.exit(len(s.recv(100)))")
    result = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
                             "/usr/bin/python3", "-c", script, str(stubs.socket)], capture_output=True, text=True)
    assert result.returncode == 0 or "reset" in result.stderr or "Broken pipe" in result.stderr, result.stderr


def test_a_request_that_means_another_bridge_is_refused(stubs, make_stubs):
    stubs.start()
    second = make_stubs()
    second.state_dir.mkdir()
    second.settings["supervisor"]["socket"] = stubs.socket  # its ini leads to the first one's
    second.write_config()
    for verb in ("status", "stop", "health"):
        result = second.run_cli(verb)
        assert result.returncode == 1
        assert f"the bridge that listens here is that of {stubs.state_dir}, not of {second.state_dir}" in result.stderr
    assert stubs.run_cli("status").returncode == 0
    assert stubs.ask("status", bridge=str(stubs.folder / "link" / "..")) == {
        "ok": False, "error": f"the bridge that listens here is that of {stubs.state_dir}, not of "
                              f"{stubs.folder}/link/.."}


def test_the_default_socket_belongs_to_the_state_directory(make_stubs):
    stubs = make_stubs()
    stubs.settings["supervisor"]["socket"] = None
    stubs.socket = stubs.state_dir / "control.sock"
    stubs.start()
    assert stubs.run_cli("status").returncode == 0
    assert stubs.stop() == 0 and not stubs.socket.exists()


POSE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
listener.listen()
connection = listener.accept()[0]
sys.exit(len(connection.recv(1000)) > 0)
"""


def pose(stubs, folder, *identity):
    """A program of that identity which listens in the folder; it ends with 1 if it is asked anything."""
    stubs.settings["supervisor"]["socket"] = folder / "control.sock"
    stubs.write_config()
    for path in (stubs.folder, stubs.folder.parent):
        path.chmod(0o755)
    impostor = subprocess.Popen(["setpriv", *identity, "/usr/bin/python3", "-c", POSE, str(folder / "control.sock")])
    wait_until((folder / "control.sock").exists, 10, "it listens")
    wait_until(lambda: (folder / "control.sock").stat().st_mode & 0o777 == 0o666, 10, "for everybody")
    return impostor


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_a_program_that_poses_as_the_supervisor_is_asked_nothing(stubs):
    folder = stubs.folder / "posed"
    folder.mkdir()
    folder.chmod(0o777)
    impostor = pose(stubs, folder, "--reuid", "nobody", "--regid", "nogroup", "--clear-groups")
    result = stubs.run_cli("status")
    assert result.returncode == 1 and "who can't be the bridge's: not asked" in result.stderr
    assert impostor.wait(10) == 0, "it was sent nothing"


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
@pytest.mark.parametrize("group, asked", [("root", 1), ("nogroup", 0)])
def test_in_a_folder_of_group_root_only_its_members_are_trusted(stubs, group, asked):
    folder = stubs.folder / "shared"
    folder.mkdir()
    folder.chmod(0o770)
    impostor = pose(stubs, folder, "--reuid", "nobody", "--regid", group, "--groups", "root")
    result = stubs.run_cli("status")
    assert ("not asked" in result.stderr) == (not asked), result.stderr
    assert impostor.wait(10) == asked


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_another_users_bridge_is_named_to_who_may_not_use_it(stubs):
    for path in (stubs.folder, stubs.folder.parent):
        path.chmod(0o755)
    stubs.start()
    stubs.config.chmod(0o644)
    result = subprocess.run(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
                             stubs.programs / "mqtt-bridge", "status"], capture_output=True, text=True,
                            cwd=stubs.folder, env=stubs.environment())
    assert result.returncode == 1
    assert f"the bridge of {stubs.socket} is another user's, and you may not use it" in result.stderr


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
    assert f"· {stubs.config} · up " in lines[0] and lines[0].startswith("mqtt-bridge ")
    assert lines[1].split() == ["NAME", "STATE", "PID", "UPTIME", "RESTARTS", "CRASHES", "RATE/S", "DONE", "FAILED",
                                "MEMORY"]
    assert lines[3].split()[:2] == ["worker:1", "running"] and lines[3].split()[7] == "1234"
    assert "\033" not in result.stdout
    assert json.loads(stubs.run_cli("status", "--json").stdout)["ready"] is True
    assert stubs.run_cli("health").returncode == 0
    stubs.ask("stop", target="consumer")
    stubs.wait_state("consumer", "stopped")
    result = stubs.run_cli("health")
    assert result.returncode == 1 and "consumer: stopped" in result.stderr
    result = stubs.run_cli("health", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


def pss(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


def test_memory_is_the_proportional_set_size(stubs):
    stubs.start()
    processes = stubs.ask("status")["processes"]
    for process in processes:
        assert abs(process["memory_bytes"] - pss(process["pid"])) < 200_000, process["name"]
        anonymous = int(re.search(r"RssAnon:\s+(\d+)", pathlib.Path(f"/proc/{process['pid']}/status").read_text())[1])
        assert process["memory_bytes"] > anonymous * 1024, "its part of the libraries is in it"
    shown = [line.split()[-1] for line in stubs.run_cli("status").stdout.splitlines()[2:6]]
    assert len(shown) == len(processes) == 4 and all(re.fullmatch(r"[\d.]+[KM]", size) for size in shown), shown


def test_top_redraws_until_it_is_ended(stubs):
    stubs.start()
    top = Process("top", [stubs.programs / "mqtt-bridge", "status", "--watch"], stubs.folder, stubs.environment())
    top.start()
    try:
        wait_until(lambda: top.log().count("NAME") >= 2, 10, "two pictures")
    finally:
        top.kill()


def test_top_ends_at_q_and_leaves_the_terminal_as_it_was(stubs):
    stubs.start()
    here, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    top = subprocess.Popen([stubs.programs / "mqtt-bridge", "top"], stdin=terminal, stdout=terminal, stderr=terminal,
                           cwd=stubs.folder, env=stubs.environment())
    try:
        wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ICANON, 10, "it takes keys")
        seen = b""
        while b"NAME" not in seen:  # ends with the test's limit
            seen += os.read(here, 65536)
        os.write(here, b"q")
        assert top.wait(10) == 0
        assert termios.tcgetattr(terminal) == before
    finally:
        top.kill()
        os.close(here)
        os.close(terminal)


def test_top_sorts_by_a_key_follows_the_size_and_ends_at_a_signal(stubs):
    for number in (1, 2):
        stubs.behave(f"worker:{number}", f"work {number * 1000}")
    stubs.start()
    here, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    before = termios.tcgetattr(terminal)
    top = subprocess.Popen([stubs.programs / "mqtt-bridge", "top"], stdin=terminal, stdout=terminal, stderr=terminal,
                           cwd=stubs.folder, env=stubs.environment() | {"NO_COLOR": "1"})
    seen = b""

    def shows(pattern):
        nonlocal seen
        while select.select([here], [], [], 0)[0]:
            seen += os.read(here, 65536)
        return re.search(pattern, seen.split(b"\033[H")[-2] if seen.count(b"\033[H") > 1 else seen, re.S)
    try:
        wait_until(lambda: shows(rb"worker:1 .*worker:2 .*unsorted"), 10, lambda: seen)
        os.write(here, b"d")
        wait_until(lambda: shows(rb"worker:2 .*worker:1 .*by done"), 10, lambda: seen)
        os.write(here, b"d")
        wait_until(lambda: shows(rb"worker:1 .*worker:2 .*by done, reversed"), 10, lambda: seen)
        assert b"\033[3" not in seen, "no colour"
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 30, 0, 0))
        top.send_signal(signal.SIGWINCH)
        wait_until(lambda: shows(rb"NAME") and not shows(rb"worker:2") and not shows(rb"MEMORY"), 10, lambda: seen)
        top.send_signal(signal.SIGTERM)
        assert top.wait(10) == 0
        shows(b"")
        assert seen.rstrip().endswith(b"\033[?25h\033[?1049l") and termios.tcgetattr(terminal) == before
    finally:
        top.kill()
        os.close(here)
        os.close(terminal)


def test_a_connection_that_merely_ends_is_not_the_end_of_the_bridge(stubs):
    stubs.write_config()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(stubs.socket))
    listener.listen()
    command = subprocess.Popen([stubs.programs / "mqtt-bridge", "stop"], text=True, cwd=stubs.folder,
                               env=stubs.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    connection, _ = listener.accept()
    assert json.loads(connection.recv(1000))["verb"] == "stop"
    connection.close()
    assert command.communicate(timeout=10) == (
        "", "mqtt-bridge: the supervisor closed the connection without an answer\n")
    assert command.returncode == 1
    listener.close()


def test_a_status_that_fits_into_no_packet_is_read_as_well(make_stubs):
    stubs = make_stubs(settings={"worker": {"count": 90}})
    stubs.start()
    result = stubs.run_cli("status", "--json")
    assert len(result.stdout) > 65536 and len(json.loads(result.stdout)["processes"]) == 92
    assert stubs.ask("status").keys() == json.loads(result.stdout).keys()


def test_a_restart_is_completed_though_its_client_has_hung_up(stubs):
    stubs.behave("worker", "slow-stop 500")
    stubs.start()
    before = stubs.find("worker:1")["pid"]
    with stubs.connect() as connection:
        connection.send(b'{"verb":"restart","target":"worker:1"}')
        wait_until(lambda: stubs.events("worker:1", "term"), 10, "it is asked to end")
    stubs.wait_successor("worker:1", before)
    assert stubs.ask("health")["ready"]


def test_many_commands_that_wait_keep_nobody_from_asking_or_ending(stubs):
    stubs.behave("worker:1", "slow-stop 2000")
    stubs.start()
    crowd = [stubs.connect(timeout=30) for _ in range(12)]
    for connection in crowd:
        connection.send(b'{"verb":"stop","target":"worker:1"}')
    wait_until(lambda: stubs.ask("restart", wait=True)["error"].startswith("too many commands wait"), 10, "no more wait")
    assert stubs.ask("status")["ok"]
    assert stubs.run_cli("stop").returncode == 0
    answers = [json.loads(read_answer(connection)) for connection in crowd]
    assert all(answer == {"ok": False, "error": "the service is stopping"} for answer in answers), answers
    for connection in crowd:
        connection.close()


def test_the_page_and_the_command_show_one_document(bridge):
    bridge.start()
    page = request(bridge, "/status").json
    command = json.loads(bridge.cli("status", "--json").stdout)
    assert set(command) - set(page) == {"ok", "config", "state_dir", "pid", "uptime_s", "stopping"}
    assert set(page) <= set(command)
    assert [(p["name"], p["slot"], p["pid"], p["state"]) for p in page["processes"]] == [
        (p["name"], p["slot"], p["pid"], p["state"]) for p in command["processes"]]


def test_log_shows_a_process_last_lines_over_its_end(stubs):
    stubs.settings["log"] = {"level": "error"}
    stubs.behave("worker:1", "ready-exit 3 1")
    stubs.start(wait=False)
    stubs.wait_listening()
    wait_until(lambda: (found := stubs.find("worker:1")) and found["crashes"] >= 2, 10, "it has died twice")
    result = stubs.run_cli("log", "worker:1")
    assert result.returncode == 0, result.stderr
    lines = [line.split("  ", 1)[1] for line in result.stdout.splitlines()]
    assert "INFO  stub is ready" in lines, lines
    assert any(line.startswith("WARNING  worker:1 ended (exit code 3); started again") for line in lines), lines
    assert "stub is ready" not in stubs.log(), "the level of the log does not matter"
    both = stubs.run_cli("log", "worker:1", "monitor").stdout
    assert both.startswith("==> worker:1 <==\n") and "\n\n==> monitor <==\n" in both
    answer = json.loads(stubs.run_cli("log", "monitor", "--json").stdout)
    assert answer["processes"][0]["lines"][-1]["level"] == "INFO"
    assert stubs.run_cli("log", "worker:9").returncode == 2


def test_log_shows_what_a_process_wrote_before_it_died(make_stubs):
    stubs = make_stubs(settings={"supervisor": {"start_retries": 0}})
    stubs.behave("worker:1", "exit 1 the disk is \x1b[31m full")
    stubs.start(wait=False)
    stubs.wait_listening()
    stubs.wait_state("worker:1", "fatal")
    text = stubs.run_cli("log", "worker:1").stdout
    assert "worker:1 says: the disk is ?[31m full" in text and "given up after 1 deaths" in text
