"""The control socket and the commands that ask it."""

import json
import os
import pty
import socket
import subprocess
import termios
import threading

import pytest
from bridge import Process, wait_until
from bridge.stubs import read_to_end


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


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_a_program_that_poses_as_the_supervisor_is_asked_nothing(stubs):
    folder = stubs.folder / "posed"
    folder.mkdir()
    folder.chmod(0o777)
    stubs.settings["supervisor"]["socket"] = folder / "control.sock"
    stubs.write_config()
    script = ("import os,socket,sys; s=socket.create_server(sys.argv[1], family=socket.AF_UNIX);"
              "os.chmod(sys.argv[1], 0o666); c=s.accept()[0]; sys.exit(len(c.recv(1000)))")
    for path in (stubs.folder, stubs.folder.parent):
        path.chmod(0o755)
    impostor = subprocess.Popen(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups",
                                 "/usr/bin/python3", "-c", script, str(folder / "control.sock")])
    wait_until((folder / "control.sock").exists, 10, "it listens")
    wait_until(lambda: (folder / "control.sock").stat().st_mode & 0o777 == 0o666, 10, "for everybody")
    result = stubs.run_cli("status")
    assert result.returncode == 1 and "who can't be the bridge's: not asked" in result.stderr
    assert impostor.wait(10) == 0, "it was sent nothing"


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
        assert b"NAME" in os.read(here, 65536)
        os.write(here, b"q")
        assert top.wait(10) == 0
        assert termios.tcgetattr(terminal) == before
    finally:
        top.kill()
        os.close(here)
        os.close(terminal)


def test_a_connection_that_merely_ends_is_not_the_end_of_the_bridge(stubs):
    """The answers of a supervisor that loses the command's connection and goes on for a while."""
    stubs.write_config()
    verbs = []
    listener = socket.create_server(str(stubs.socket), family=socket.AF_UNIX)

    def serve():
        while len(verbs) < 4:
            connection, _ = listener.accept()
            with connection:
                verbs.append(json.loads(connection.recv(1000))["verb"])
                if len(verbs) == 4:  # now it has ended
                    stubs.socket.unlink()
                    listener.close()
                connection.sendall(b'{"ok":true,"pid":4711}\n')

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    result = stubs.run_cli("stop")
    assert (result.returncode, result.stdout) == (0, "stopped\n"), result.stderr
    assert verbs == ["stop", "status", "status", "status"]
    server.join(10)
