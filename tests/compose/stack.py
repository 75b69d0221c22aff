"""The stack of compose.yaml under a project name and ports of its own."""

import json
import os
import subprocess
import tempfile
import uuid
from pathlib import Path

from bridge import Publisher, SseClient, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = os.environ.get("MQTT_BRIDGE_COMPOSE", "docker compose").split()
# What the tools need; nothing that compose.yaml would take for a setting.
KEPT_VARIABLES = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_CERT_PATH",
                  "DOCKER_TLS_VERIFY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
STREAM = "messages"


def run(*command, env=None, timeout=600, check=True):
    """Returns its standard output; a failure shows both."""
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=env, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, capture_output=True)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Stack:
    def __init__(self):
        self.project = f"mqtt-bridge-test-{uuid.uuid4().hex[:8]}"
        self.mqtt_port, self.hub_port, self.http_port = free_port(), free_port(), free_port()
        self.environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self.environment |= {"PUBLISH_MQTT_PORT": str(self.mqtt_port), "PUBLISH_MERCURE_PORT": str(self.hub_port),
                             "PUBLISH_HTTP_PORT": str(self.http_port)}
        self.folder = tempfile.TemporaryDirectory(prefix="mqtt-bridge-stack-")
        self.env_file = Path(self.folder.name) / ".env"
        run(ROOT / "tools/make-env", self.env_file)

    # Docker.

    def compose(self, *words, env=None, timeout=600):
        """env: settings, as a user's shell would have them."""
        return run(*COMPOSE, "--project-name", self.project, "--project-directory", ROOT, "--file",
                   ROOT / "compose.yaml", "--env-file", self.env_file, *words,
                   env=self.environment | (env or {}), timeout=timeout)

    def up(self, *words):
        self.compose("up", "--detach", "--wait", "--wait-timeout", "300", *words)

    def container(self, service):
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service):
        return json.loads(run("docker", "inspect", self.container(service)))[0]

    def exec(self, service, *words):
        return run("docker", "exec", self.container(service), *words)

    def image(self):
        return self.inspect("mqtt-bridge")["Image"]

    def volumes(self):
        """Their names, without the project's."""
        names = run("docker", "volume", "ls", "--quiet", "--filter",
                    f"label=com.docker.compose.project={self.project}").split()
        return {name.removeprefix(self.project + "_") for name in names}

    def log_tail(self):
        return self.compose("logs", "--no-color", "--tail", "40")

    def close(self):
        self.compose("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "30")
        self.folder.cleanup()

    # What is in it.

    def publisher(self, client_id="device"):
        return Publisher(self.mqtt_port, client_id).connect()

    def subscribe(self, topic, last_event_id=None):
        return SseClient(self.hub_port, [topic], last_event_id).connect()

    def status(self):
        return json.loads(self.exec("mqtt-bridge", "mqtt-bridge", "status", "--json"))

    def pid_of(self, name):
        """Of the first process of that name, as the container counts; None while it does not run."""
        found = [process for process in self.status()["processes"] if process["name"] == name]
        return found[0]["pid"] if found[0]["state"] == "running" else None

    def kill_child(self, name):
        pid = wait_until(lambda: self.pid_of(name), 30, f"{name} runs")
        self.exec("mqtt-bridge", "sh", "-c", f"kill -9 {pid}")
        wait_until(lambda: self.pid_of(name) not in (None, pid), 30, f"{name} is started again")

    def redis(self, *words):
        return self.exec("redis", "redis-cli", *words).strip()

    def queue_length(self):
        return int(self.redis("XLEN", STREAM))

    def sql(self, query):
        return self.exec("database", "psql", "-U", "app", "-d", "app", "-Atc", query).strip()
