"""A Symfony application's side: Messenger's own code on the same Redis and PostgreSQL."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .process import Process

# Another release's PHP and Symfony, in a folder to chroot to (tests/compat/make-root), which has the scripts too.
ROOT = os.environ.get("MQTT_BRIDGE_PHP_ROOT")
PHP = ["chroot", ROOT, "php"] if ROOT else ["php"]
SCRIPTS = Path("/srv/php") if ROOT else Path(__file__).resolve().parents[1] / "php"


class PhpPeer:
    """env: MESSENGER_FAILURE_SERIALIZER (php or json), if `failed` has another, and whatever the script takes."""

    def __init__(self, folder, redis, database=None, serializer="php", env=None, dsn=None):
        self.folder = Path(folder)
        self.own = Path(tempfile.mkdtemp(dir=f"{ROOT}/tmp")) if ROOT else self.folder  # PHP sees it
        own = f"/tmp/{self.own.name}" if ROOT else self.own
        self.handled_path = self.own / "handled.jsonl"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(own),
                    "MESSENGER_TRANSPORT_DSN": dsn or redis.dsn(delete_after_ack=1),
                    "MESSENGER_SERIALIZER": serializer,
                    "HANDLED_FILE": f"{own}/handled.jsonl", **(env or {})}
        if database:
            self.env["DATABASE_URL"] = database.dsn
        self.processes = []

    def run(self, *arguments, check=True, timeout=30, env=None, text=None):
        """`bin/console ARGUMENTS`: dispatch, messenger:consume async --limit=1,
        messenger:failed:show, messenger:failed:retry ID --force, messenger:failed:remove ID --force ...
        text: on its standard input. Returns the CompletedProcess; stdout holds both streams (Messenger's commands
        write to the second)."""
        result = subprocess.run([*PHP, SCRIPTS / "bridge.php", *map(str, arguments), "--no-interaction"],
                                text=True, input=text or "", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                                cwd=self.folder, env={**self.env, **(env or {})})
        if check:
            assert result.returncode == 0, f"php {arguments}: {result.stdout[-4000:]}"
        return result

    def dispatch(self, topic, payload):
        """Through Symfony's bus; payload may be bytes."""
        self.dispatch_all([(topic, payload if isinstance(payload, bytes) else payload.encode(), None)])

    def dispatch_all(self, messages):
        """Topic, payload and trace (of a stamp of the application's own; None: without) of each; one process."""
        lines = [json.dumps({"topic": topic, "payload_hex": payload.hex(), "trace": trace})
                 for topic, payload, trace in messages]
        self.run("dispatch", text="\n".join(lines) + "\n", timeout=60)

    def consume(self, limit, time_limit=20, env=None):
        """Handles that many messages, then ends; what it handled is in handled()."""
        return self.run("messenger:consume", "async", f"--limit={limit}", f"--time-limit={time_limit}", "-vv",
                        timeout=time_limit + 20, env=env)

    def start_consumer(self, *arguments):
        """Starts a messenger:consume that does not end by itself; returns its Process, stopped at the end of the
        test."""
        process = Process(f"php-{len(self.processes)}",
                          [*PHP, SCRIPTS / "bridge.php", "messenger:consume", "async", "-vv", *arguments], self.folder,
                          self.env)
        self.processes.append(process)
        return process.start()

    def _lines(self):
        return [json.loads(line) for line in self.handled_path.read_text().splitlines()] \
            if self.handled_path.exists() else []

    def handled(self):
        """What the handler got, in order: dicts of topic and payload (payload as bytes)."""
        return [{"topic": line["topic"], "payload": bytes.fromhex(line["payload_hex"])} for line in self._lines()]

    def traces(self):
        """What the stamps of each message said: topic to `TRACE, about it|another|nothing`, or to None."""
        return {line["topic"]: line["trace"] for line in self._lines()}

    def close(self):
        for process in self.processes:
            process.stop()
        if ROOT:
            shutil.rmtree(self.own)
