"""The bridge's own programs that can't start: why is in the status, the probe and the answer to the command, and said
once to who runs one by itself."""

import json
import socket

import pytest
from bridge import wait_until


def take_port(bridge):
    """Another program listens where the monitor would."""
    other = socket.create_server(("127.0.0.1", bridge.http_port))
    return other, "monitor", str(bridge.http_port)


def lose_token(bridge):
    bridge.settings["http"]["token_file"] = bridge.folder / "no-token"
    return None, "monitor", "no-token"


def block_spool(bridge):
    (bridge.state_dir / "spool").mkdir(parents=True)
    (bridge.state_dir / "spool" / "bridge").write_text("a file\n")
    return None, "consumer", "spool/bridge"


def block_instance(bridge):
    (bridge.state_dir / "instance").mkdir(parents=True)
    return None, "worker", "instance"


@pytest.mark.parametrize("spoil", [take_port, lose_token, block_spool, block_instance])
def test_status_health_and_restart_say_why_a_program_can_not_start(bridge, spoil):
    bridge.settings["supervisor"] |= {"start_retries": 0, "on_fatal": "unready"}
    held, name, text = spoil(bridge)
    try:
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
    finally:
        if held:
            held.close()


@pytest.mark.parametrize("log_file", [None, "/dev/stderr", "monitor-own.log"])
def test_a_program_by_itself_says_it_once_where_it_was_started(bridge, log_file):
    own = bridge.folder / log_file if log_file else None
    bridge.settings["log"]["file"] = own
    held, _, _ = take_port(bridge)
    try:
        monitor = bridge.run_program("monitor")
        assert monitor.wait() == 1
    finally:
        held.close()
    assert monitor.log().count(str(bridge.http_port)) == 1, monitor.log()
    if log_file == "monitor-own.log":
        assert "mqtt-bridge-monitor: " in monitor.log() and own.read_text().count(str(bridge.http_port)) == 1
