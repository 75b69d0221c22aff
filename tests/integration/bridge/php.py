"""A Symfony application's side: Messenger's own code on the same Redis and PostgreSQL."""

import json
import os
import subprocess
from pathlib import Path

from .process import Process

SCRIPT = Path(__file__).resolve().parents[1] / "php" / "bridge.php"


class PhpPeer:
    """env: MESSENGER_SERIALIZER (php or json) and whatever the script takes."""

    def __init__(self, folder, redis, database=None, serializer="php", env=None, dsn=None):
        self.folder = Path(folder)
        self.handled_path = self.folder / "handled.jsonl"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.folder),
                    "MESSENGER_TRANSPORT_DSN": dsn or redis.dsn(delete_after_ack=1),
                    "MESSENGER_SERIALIZER": serializer,
                    "HANDLED_FILE": str(self.handled_path), **(env or {})}
        if database:
            self.env["DATABASE_URL"] = database.dsn
        self.processes = []

    def run(self, *arguments, check=True, timeout=30, env=None):
        """`bin/console ARGUMENTS`: dispatch TOPIC PAYLOAD, messenger:consume async --limit=1,
        messenger:failed:show, messenger:failed:retry ID --force, messenger:failed:remove ID --force ...
        Returns the CompletedProcess; stdout holds both streams (Messenger's commands write to the second)."""
        result = subprocess.run(["php", SCRIPT, *map(str, arguments), "--no-interaction"], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, cwd=self.folder,
                                env={**self.env, **(env or {})})
        if check:
            assert result.returncode == 0, f"php {arguments}: {result.stdout}"
        return result

    def dispatch(self, topic, payload):
        """Through Symfony's bus; payload may be bytes."""
        raw = payload if isinstance(payload, bytes) else payload.encode()
        self.run("dispatch", topic, raw.hex(), "--hex")

    def consume(self, limit, time_limit=20, env=None):
        """Handles that many messages, then ends; what it handled is in handled()."""
        return self.run("messenger:consume", "async", f"--limit={limit}", f"--time-limit={time_limit}", "-vv",
                        timeout=time_limit + 20, env=env)

    def start_consumer(self, *arguments):
        """A messenger:consume that goes on; returns its Process, stopped at the end of the test."""
        process = Process(f"php-{len(self.processes)}",
                          ["php", SCRIPT, "messenger:consume", "async", "-vv", *arguments], self.folder, self.env)
        self.processes.append(process)
        return process.start()

    def handled(self):
        """What the handler got, in order: dicts of topic and payload (payload as bytes)."""
        if not self.handled_path.exists():
            return []
        lines = [json.loads(line) for line in self.handled_path.read_text().splitlines()]
        return [{"topic": line["topic"], "payload": bytes.fromhex(line["payload_hex"])} for line in lines]

    def close(self):
        for process in self.processes:
            process.stop()
