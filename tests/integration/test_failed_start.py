"""The bridge's own programs that can't start. The reason is in the status, the probe and the answer to the command. A
program that runs by itself prints it once."""

import json
import socket

import pytest
from bridge import wait_until


def take_port(bridge):
    """Another program listens where the monitor would."""
    return socket.create_server(("127.0.0.1", bridge.http_port))


def block_spool(bridge):
    (bridge.state_dir / "spool").mkdir(parents=True)
    (bridge.state_dir / "spool" / "bridge").write_text("a file\n")
    return "consumer", "spool/bridge"


def block_instance(bridge):
    (bridge.state_dir / "instance").mkdir(parents=True)
    return "worker", "instance"


@pytest.mark.parametrize("spoil", [block_spool, block_instance])
def test_status_health_and_restart_say_why_a_program_can_not_start(bridge, spoil):
    bridge.settings["supervisor"] |= {"start_retries": 0, "on_fatal": "unready"}
    name, text = spoil(bridge)
    bridge.start(wait=False)

    def given_up():
        result = bridge.cli("status", "--json", check=False)
        processes = json.loads(result.stdout)["processes"] if result.returncode == 0 else []
        return next((p for p in processes if p["name"] == name and p["state"] == "fatal"), None)
    reason = wait_until(given_up, 15, lambda: f"{name} is given up\n{bridge.log()}")["reason"]
    assert text in reason and reason.startswith("exit code")
    assert text in bridge.cli("status").stdout
    assert text in bridge.cli("health", check=False).stderr
    result = bridge.cli("restart", name, check=False)
    assert result.returncode == 1 and text in result.stderr


def test_the_bridge_is_ready_without_a_page_and_has_it_later(bridge):
    other = take_port(bridge)
    token = bridge.folder / "token"
    bridge.settings["http"]["token_file"] = token
    bridge.start()
    health = bridge.cli("health")
    assert (health.returncode, health.stderr) == (0, "")
    assert f"ready without: page: [http] token_file: {token}" in bridge.cli("status").stdout
    token.write_text("s3cret\n")
    wait_until(lambda: f"{bridge.http_port}: Address already in use" in bridge.cli("status").stdout, 15,
               lambda: bridge.cli("status").stdout)
    other.close()
    wait_until(lambda: "without: page" not in bridge.cli("status").stdout, 15, lambda: bridge.cli("status").stdout)
    socket.create_connection(("127.0.0.1", bridge.http_port)).close()
    assert "monitor ended" not in bridge.log()


@pytest.mark.parametrize("log_file", [None, "/dev/stderr", "monitor-own.log"])
def test_a_program_by_itself_says_it_once_where_it_was_started(bridge, log_file):
    own = bridge.folder / log_file if log_file else None
    bridge.settings["log"]["file"] = own
    with take_port(bridge):
        monitor = bridge.run_program("monitor")
        assert monitor.wait() == 1
    assert monitor.log().count(str(bridge.http_port)) == 1, monitor.log()
    if log_file == "monitor-own.log":
        assert "mqtt-bridge-monitor: " in monitor.log() and own.read_text().count(str(bridge.http_port)) == 1
