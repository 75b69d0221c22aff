"""`make demo`'s script: it reaches its first value by itself and leaves nothing behind."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from bridge import build_folder, free_port, wait_until
from bridge.mqtt import watching

# A group runs one by one: there is one folder demo/.
pytestmark = [pytest.mark.own_core, pytest.mark.xdist_group("demo")]

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"


def demo_processes():
    """Whatever runs on files under demo/ or was started by the script."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"{DEMO}/" in command or "tools/demo-" in command or f"MQTT_BRIDGE_CONFIG={DEMO}/".encode() in environment:
            found.append((entry.name, command.replace("\0", " ")))
    return found


@pytest.fixture
def start_demo(folder):
    started = []

    def start(**env):
        log = open(folder / "demo.out", "wb")
        demo = subprocess.Popen([ROOT / "tools/demo.sh"], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                start_new_session=True,
                                env={**os.environ, "MQTT_BRIDGE_BUILD": str(build_folder()),
                                     "DEMO_PORT": str(free_port()),
                                     "DEMO_PORTS": " ".join(str(free_port()) for _ in range(6)), **env})
        started.append(demo)
        return demo, folder / "demo.out"
    yield start
    for demo in started:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(60)


def test_the_demo_ends_by_itself_and_leaves_no_process_and_no_file(start_demo):
    demo, output = start_demo(DEMO_SECONDS="6")
    code = demo.wait(90)
    text = output.read_text()
    assert code == 0, text
    assert "first value on the hub after" in text and '"topic":' in text
    assert not DEMO.exists()
    wait_until(lambda: not demo_processes(), 15, lambda: f"nothing is left: {demo_processes()}")


def test_the_demos_devices_send_bytes_that_are_no_text_as_well(mosquitto):
    with watching(mosquitto.port, "gateway/frame") as seen:
        devices = subprocess.Popen(["/usr/bin/python3", ROOT / "tools/demo-devices", str(mosquitto.port)])
        try:
            wait_until(lambda: seen, 20, "a frame comes")
        finally:
            devices.terminate()
    assert devices.wait(10) == 0
    assert b"\0" in seen[0] and max(seen[0]) > 0x7f


def test_a_refused_message_of_the_demo_is_counted_as_failed(start_demo):
    demo, output = start_demo()
    wait_until(lambda: "· failed 1 ·" in output.read_text() or demo.poll() is not None, 60,
               lambda: f"a failure is counted:\n{output.read_text()[-2000:]}")
    assert (DEMO / "mqtt-bridge.ini").stat().st_mode & 0o077 == 0, "a secret is in it"
    listed = subprocess.run([build_folder() / "mqtt-bridge", "failed", "list"], text=True, capture_output=True, check=True,
                            env={**os.environ, "MQTT_BRIDGE_CONFIG": str(DEMO / "mqtt-bridge.ini")})
    assert len(listed.stdout.splitlines()) >= 2 and "mqtt-bridge failed list" in output.read_text()
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(60) == 0, output.read_text()
    assert not DEMO.exists()


def test_a_killed_demo_leaves_no_process_and_the_next_one_starts(start_demo):
    demo, output = start_demo()
    wait_until(lambda: "Ctrl-C stops everything" in output.read_text() or demo.poll() is not None, 60,
               lambda: output.read_text())
    demo.kill()
    demo.wait()
    wait_until(lambda: not demo_processes(), 10, lambda: f"nothing is left: {demo_processes()}")
    demo, output = start_demo(DEMO_SECONDS="5")
    assert demo.wait(90) == 0, output.read_text()
