"""The fixtures that watch over the bridge find what they are there to find."""

import os
import signal
from pathlib import Path

import pytest
from bridge import Bridge, wait_until


@pytest.fixture
def stub(folder, monkeypatch):
    """stub(script) puts a shell script in the supervisor's place and returns a Bridge that runs it."""
    programs = folder / "programs"
    programs.mkdir()
    monkeypatch.setenv("MQTT_BRIDGE_BUILD", str(programs))

    def make(script):
        for name, text in (("mqtt-bridge-supervisor", script), ("mqtt-bridge", """echo '{"processes":[]}'""")):
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        return Bridge(folder)
    return make


def is_on_its_own(pid):
    try:
        return os.getsid(pid) == pid and b"sleep" == Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


def test_a_process_that_outlives_the_bridge_is_a_failure_and_is_ended(stub):
    bridge = stub("setsid sleep 300 & wait")
    bridge.start()
    left = wait_until(lambda: [pid for pid in bridge.left_over() if is_on_its_own(pid)], 15, "its sleep runs")
    with pytest.raises(AssertionError, match="no process of the bridge is left"):
        bridge.close()
    wait_until(lambda: not bridge.left_over(), 15, f"{left} ended")


def test_a_sanitizer_report_is_a_failure(stub):
    bridge = stub("echo '==1==ERROR: AddressSanitizer: heap-use-after-free' >&2")
    bridge.start(wait=False)
    bridge.supervisor.wait()
    with pytest.raises(AssertionError, match="heap-use-after-free"):
        bridge.close()


def test_a_supervisor_that_ends_is_reported_with_its_last_output(stub):
    bridge = stub("echo 'the ini is wrong' >&2; exit 2")
    with pytest.raises(AssertionError, match="the ini is wrong"):
        bridge.start()
        wait_until(lambda: not bridge.supervisor.is_running() and bridge.wait_ready(), 5, "never")


def test_settings_become_an_ini_without_the_callers_environment(stub, monkeypatch):
    monkeypatch.setenv("MQTT_HOST", "elsewhere")
    bridge = stub('env > seen; exec sleep 300')
    bridge.settings["worker"] = {"count": 3, "options": None}
    bridge.env["LOG_LEVEL"] = "info"
    bridge.start()
    seen = wait_until(lambda: Path(bridge.folder / "seen").exists() and (bridge.folder / "seen").read_text(), 5)
    bridge.close()
    assert "MQTT_HOST" not in seen and "LOG_LEVEL=info" in seen
    assert "[worker]\ncount = 3\n[" in bridge.config.read_text()


def test_a_killed_process_takes_its_children_along(stub):
    bridge = stub("sleep 300 & wait")
    bridge.start()
    wait_until(lambda: len(bridge.left_over()) == 2, 15, "the stub and its child run")
    bridge.supervisor.kill()
    assert bridge.supervisor.exit_code == -signal.SIGKILL
    wait_until(lambda: not bridge.left_over(), 15, "both are gone")
    assert not os.path.exists(f"/proc/{bridge.supervisor.pid}")
