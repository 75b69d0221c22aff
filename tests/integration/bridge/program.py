"""The bridge under test: the supervisor with all its children, or one program by itself."""

import http.client
import json
import os
import re
import signal
import subprocess
from pathlib import Path

from .process import Process, children_of, free_port, is_alive, wait_until

ROOT = Path(__file__).resolve().parents[3]
# What a sanitizer writes before it ends a program.
SANITIZER_REPORT = re.compile(r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:).*")


def build_folder():
    """The programs under test: MQTT_BRIDGE_BUILD, or build/."""
    return Path(os.environ.get("MQTT_BRIDGE_BUILD") or ROOT / "build")


class Bridge:
    """settings is a dict of sections, each a dict of keys, written as the ini at every start: change it
    before start() or before a reload. None as a value leaves a key out. env goes over it.

        bridge.settings["worker"]["count"] = 1
        bridge.start()
        bridge.stop()                       # SIGTERM: drains; returns the exit code
    """

    def __init__(self, folder, mosquitto=None, redis=None, hub=None, database=None, settings=None, env=None):
        self.folder = Path(folder)
        self.http_port = free_port()
        self.config = self.folder / "mqtt-bridge.ini"
        self.state_dir = self.folder / "state"
        self.socket = self.folder / "control.sock"
        self.env = dict(env or {})
        self.settings = {
            "mqtt": {"topics": "#", "client_id": "bridge", "reconnect_min": "100ms", "reconnect_max": "1s"},
            "transport:async": {},
            "worker": {"count": 2},
            "failure": {},
            "mercure": {},
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "log": {"level": "debug", "format": "line"},
            "supervisor": {"state_dir": self.state_dir, "socket": self.socket},
        }
        if mosquitto:
            self.settings["mqtt"] |= {"host": "127.0.0.1", "port": mosquitto.port}
        if redis:
            self.settings["transport:async"]["dsn"] = redis.dsn()
        if hub:
            self.settings["mercure"] |= {"url": hub.url, "jwt_secret": hub.publisher_key}
        if database:
            self.settings["failure"]["dsn"] = database.dsn
        for section, keys in (settings or {}).items():
            self.settings.setdefault(section, {}).update(keys)
        self.processes = []
        self.supervisor = self._process("supervisor", [])

    # The settings as the programs get them.

    def write_config(self):
        lines = []
        for section, keys in self.settings.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {value}" for key, value in keys.items() if value is not None]
        self.config.write_text("\n".join(lines) + "\n")
        return self.config

    def environment(self):
        """The environment of a program: of the caller's only what any program needs, and the bridge's own."""
        env = {name: value for name, value in os.environ.items()
               if name in ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH") or name.endswith("SAN_OPTIONS")}
        env["MQTT_BRIDGE_CONFIG"] = str(self.config)
        if ROOT not in build_folder().resolve().parents:  # where the monitor can't find the page by itself
            env["MQTT_BRIDGE_WEB"] = str(ROOT / "web")
        env.update({name: str(value) for name, value in self.env.items()})
        return env

    def _process(self, program, arguments, name=None):
        process = Process(name or program, [build_folder() / f"mqtt-bridge-{program}", *arguments],
                          self.folder, self.environment())
        self.processes.append(process)
        return process

    # The whole bridge.

    def start(self, wait=True, timeout=20.0):
        """Starts the supervisor; wait: until the bridge is ready."""
        assert not self.supervisor.is_running(), "the supervisor runs already"
        self.write_config()
        self.supervisor.env = self.environment()
        self.supervisor.start()
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=20.0):
        """Until `mqtt-bridge health` says so, and all processes run: one worker would be enough for that."""
        self.wait_running(timeout)
        wait_until(lambda: self.cli("health", check=False).returncode == 0, timeout,
                   lambda: f"the bridge is ready\n{self.supervisor.log_tail()}", every=0.05)
        return self

    def wait_running(self, timeout=20.0):
        """Until all processes run, whatever the hub may be."""
        def running():
            assert self.supervisor.is_running(), \
                f"the supervisor ended ({self.supervisor.exit_code}):\n{self.supervisor.log_tail()}"
            status = self.cli("status", "--json", check=False)
            return status.returncode == 0 and \
                all(process["state"] == "running" for process in json.loads(status.stdout)["processes"])
        wait_until(running, timeout, lambda: f"all processes run\n{self.supervisor.log_tail()}", every=0.05)
        return self

    def stop(self, timeout=20.0, with_signal=signal.SIGTERM):
        """Stops the supervisor with a signal; returns its exit code. No process may be left."""
        code = self.supervisor.stop(timeout, with_signal)
        self.assert_nothing_left()
        return code

    def kill(self):
        """kill -9 of the supervisor alone: its children must go by themselves (wait_nothing_left)."""
        os.kill(self.supervisor.pid, signal.SIGKILL)
        self.supervisor.wait()

    def restart(self):
        self.stop()
        return self.start()

    # One program by itself, without the supervisor.

    def run_program(self, program, *arguments, name=None, env=None):
        """Starts mqtt-bridge-<program> on the same ini: run_program("worker", "--slot", "2"). Returns its
        Process."""
        self.write_config()
        process = self._process(program, arguments, name)
        process.env = {**self.environment(), **{key: str(value) for key, value in (env or {}).items()}}
        return process.start()

    def cli(self, *arguments, check=True, timeout=30, env=None):
        """Runs `mqtt-bridge ARGUMENTS`; returns the CompletedProcess with text in stdout and stderr."""
        if not self.config.exists():
            self.write_config()
        result = subprocess.run([build_folder() / "mqtt-bridge", *map(str, arguments)], text=True,
                                capture_output=True, timeout=timeout, cwd=self.folder,
                                env={**self.environment(), **(env or {})})
        if check:
            assert result.returncode == 0, \
                f"mqtt-bridge {' '.join(map(str, arguments))}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def status(self):
        """What `mqtt-bridge status --json` prints."""
        return json.loads(self.cli("status", "--json").stdout)

    def get(self, path):
        """GET from the monitor; returns status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    # Its processes.

    def pids(self, program):
        """Of the children that run mqtt-bridge-<program> now: "consumer", "worker", "monitor"."""
        wanted = f"mqtt-bridge-{program}"
        return [pid for pid in children_of(self.supervisor.pid) if _program_of(pid) == wanted]

    def kill_child(self, program, index=0, with_signal=signal.SIGKILL):
        """Returns the pid that was killed; its place is filled again by the supervisor."""
        pid = wait_until(lambda: self.pids(program), 10, f"a {program} runs")[index]
        os.kill(pid, with_signal)
        return pid

    @property
    def marker(self):
        """A line of the environment that no other bridge's processes have."""
        return f"MQTT_BRIDGE_CONFIG={self.config}"

    def left_over(self):
        """Processes of this bridge that still run, whoever started them: known by their environment."""
        marker = self.marker.encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker in environment and is_alive(int(entry.name)):
                found.append(int(entry.name))
        return found

    def assert_nothing_left(self, timeout=5.0):
        wait_until(lambda: not self.left_over(), timeout,
                   lambda: "no process of the bridge is left: "
                           + ", ".join(f"{pid} {_program_of(pid)}" for pid in self.left_over()))

    def log(self):
        """Of the supervisor and its children: they share its standard error."""
        return self.supervisor.log()

    def close(self):
        """At the end of a test: stops all by pid; what was left, or reported by a sanitizer, fails it."""
        for process in self.processes:
            if process.is_running():
                process.thaw()
                process.send(signal.SIGTERM)
        for process in self.processes:
            try:
                if process.is_running():
                    process.wait(20)
            except AssertionError:
                process.kill()
                raise
        try:
            self.assert_nothing_left()
        finally:
            for pid in self.left_over():
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            report = SANITIZER_REPORT.search(process.log())
            assert report is None, f"{process.name}: {report.group(0)}\n{process.log_tail(80)}"


def _program_of(pid):
    """The name of the program file; the kernel's comm is cut at 15 characters."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""
