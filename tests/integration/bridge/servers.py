"""Mosquitto, Redis and PostgreSQL: the real ones, on loopback, each with a folder of its own."""

import fcntl
import glob
import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg2
import redis

from .process import Server, free_port, port_is_open, wait_until


class Mosquitto(Server):
    """options: further lines of mosquitto.conf as a dict, {"max_queued_messages": 10}; users: name to
    password, then nobody is let in without; acl: the text of an acl_file."""

    DEFAULTS = {
        "persistence": "true",
        "autosave_interval": 1800,
        "max_queued_messages": 1000000,
        "max_inflight_messages": 1000,
        "sys_interval": 1,
        "set_tcp_nodelay": "true",  # small packets in a burst may wait up to 40 ms for each other
    }

    def __init__(self, folder, options=None, users=None, acl=None, port=None):
        self.port = port or free_port()
        super().__init__("mosquitto", ["/usr/sbin/mosquitto", "-c", Path(folder) / "mosquitto.conf"], folder)
        self.options = {**self.DEFAULTS, **(options or {})}
        self.users = users or {}
        self.acl = acl
        self.configure()

    def configure(self):
        """Writes the files; after a change of options, users or acl, before the next start."""
        lines = [f"listener {self.port} 127.0.0.1", f"persistence_location {self.folder}/",
                 f"allow_anonymous {'false' if self.users else 'true'}",
                 "log_dest stderr", "log_type error", "log_type warning", "log_type notice",
                 "log_type information", "connection_messages true"]
        if os.geteuid() == 0:
            lines.append("user root")
        if self.users:
            passwords = self.folder / "passwords"
            passwords.unlink(missing_ok=True)
            passwords.touch(mode=0o600)
            for name, password in self.users.items():
                subprocess.run(["mosquitto_passwd", "-b", passwords, name, password], check=True,
                               capture_output=True)
            lines.append(f"password_file {passwords}")
        if self.acl:
            (self.folder / "acl").write_text(self.acl)
            (self.folder / "acl").chmod(0o600)
            lines.append(f"acl_file {self.folder}/acl")
        lines += [f"{key} {value}" for key, value in self.options.items()]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def answers(self):
        return port_is_open(self.port)

    def reload(self):
        self.send(signal.SIGHUP)

    def save(self):
        """Writes its snapshot now, as autosave would: under another name, which then becomes the snapshot's."""
        snapshot = self.folder / "mosquitto.db"
        before = snapshot.stat().st_ino if snapshot.exists() else None
        self.send(signal.SIGUSR1)
        wait_until(lambda: snapshot.exists() and snapshot.stat().st_ino != before, 20, "the broker has saved",
                   every=0.005)


class Redis(Server):
    """With an append-only file, as the bridge wants it. arguments: further ones of redis-server, as
    ["--requirepass", "secret"] or ["--maxmemory", "10mb"]."""

    def __init__(self, folder, arguments=(), port=None, password=None, name="redis"):
        self.port = port or free_port()
        self.password = password
        self._client = None
        command = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", folder,
                   "--save", "", "--appendonly", "yes", "--daemonize", "no"]
        if password:
            command += ["--requirepass", password]
        super().__init__(name, [*command, *arguments], folder)

    @property
    def client(self):
        """A redis-py client; answers are bytes. Its connections are kept, and made anew when the server restarts."""
        if self._client is None:
            self._client = redis.Redis(port=self.port, password=self.password, socket_timeout=10)
        return self._client

    def dsn(self, path="/messages", **options):
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        query = "&".join(f"{key}={value}" for key, value in options.items())
        return f"redis://{credentials}127.0.0.1:{self.port}{path}" + (f"?{query}" if query else "")

    def answers(self):
        try:
            return redis.Redis(port=self.port, password=self.password, socket_timeout=1).ping()
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def pending(self, stream="messages", group="symfony"):
        """Entries that a consumer has read and nobody has acknowledged."""
        try:
            return self.client.xpending(stream, group)["pending"]
        except redis.ResponseError:
            return 0

    # A script, for a full Redis refuses MULTI.
    WAITING = """local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
    return {redis.call('XLEN', KEYS[1]), pending.err and 0 or pending[1], redis.call('ZCARD', KEYS[2])}"""

    def waiting(self, stream="messages", group="symfony"):
        """(entries in the stream, pending, delayed), all of one moment: an entry moves between the three."""
        return tuple(self.client.eval(self.WAITING, 2, stream, f"{stream}__queue", group))

    def is_drained(self, stream="messages", group="symfony"):
        """Nothing waits: not in the stream, not pending, not delayed."""
        return self.waiting(stream, group) == (0, 0, 0)

    def wait_drained(self, timeout=40.0, stream="messages"):
        wait_until(lambda: self.is_drained(stream), timeout, lambda: (
            "nothing waits; in the stream, pending, delayed: {}, {}, {}".format(*self.waiting(stream))))


class Postgres(Server):
    """One cluster; create_database gives each test its own. Runs as the user postgres where the tests run
    as root."""

    USER, PASSWORD = "bridge", "p@ss/word"
    OPTIONS = ["fsync=off", "full_page_writes=off", "max_connections=50",
               "shared_buffers=16MB", "autovacuum=off", "listen_addresses=127.0.0.1", "ssl=off",
               "log_min_messages=warning"]

    def __init__(self, folder, template, options=(), port=None):
        """template: a folder where an initialised cluster is kept, made by the first worker that comes."""
        self.port = port or free_port()
        self.data = Path(folder) / "data"
        self.databases = 0
        command = [self.program("postgres"), "-D", self.data, "-p", self.port, "-k", folder]
        for option in [*self.OPTIONS, *options]:
            command += ["-c", option]
        super().__init__("postgres", command, folder, user="postgres", death_signal="QUIT")
        self._give(self.folder)
        with open(f"{template}.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (Path(template) / "PG_VERSION").exists():
                self._initialise(Path(template))
        subprocess.run(["cp", "-a", template, self.data], check=True)
        self.data.chmod(0o700)

    @staticmethod
    def program(name):
        """Debian keeps the server's programs off PATH, one folder a version."""
        found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: float(path.split("/")[4]))
        return found[-1] if found else name

    def _give(self, path):
        if os.geteuid() != 0:
            return
        shutil.chown(path, "postgres", "postgres")
        for parent, folders, files in os.walk(path):
            for name in folders + files:
                if not name.endswith(".log"):
                    shutil.chown(Path(parent) / name, "postgres", "postgres")

    def _initialise(self, template):
        template.mkdir(parents=True, exist_ok=True)
        password_file = self.folder / "password"
        password_file.write_text(self.PASSWORD)
        self._give(self.folder)
        self._give(template)
        command = [self.program("initdb"), "-D", template, "-U", self.USER, f"--pwfile={password_file}",
                   "--auth-host=scram-sha-256", "--auth-local=trust", "-E", "UTF8", "--locale=C.UTF-8",
                   "--no-sync", "--no-instructions"]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", *command]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def connect(self, database="postgres"):
        """A connection for the test itself: over the socket in the server's folder, which asks for no password."""
        connection = psycopg2.connect(host=str(self.folder), port=self.port, user=self.USER, dbname=database,
                                      connect_timeout=5)
        connection.autocommit = True
        return connection

    def answers(self):
        try:
            self.connect().close()
            return True
        except psycopg2.OperationalError:
            return False

    def create_database(self, options="", name=None):
        """options: what follows the name in CREATE DATABASE."""
        self.databases += 1
        name = name or f"test_{self.databases}"
        connection = self.connect()
        cursor = connection.cursor()
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute(f"CREATE DATABASE {name} {options}")
        connection.close()
        return Database(self, name)

    def stop(self, timeout=15.0, with_signal=signal.SIGINT):
        """SIGINT is PostgreSQL's "fast": open connections are cut."""
        return super().stop(timeout, with_signal)


class Database:
    """A test's own database: where failures go."""

    def __init__(self, server, name):
        self.server = server
        self.name = name

    @property
    def dsn(self):
        """The DSN in the form of Symfony's DATABASE_URL."""
        password = quote(self.server.PASSWORD, safe="")
        return (f"postgresql://{self.server.USER}:{password}@127.0.0.1:{self.server.port}/{self.name}"
                "?serverVersion=15&charset=utf8")

    def query(self, statement, *parameters):
        """The rows as dicts; an empty list for statements that give none."""
        connection = self.server.connect(self.name)
        try:
            cursor = connection.cursor()
            cursor.execute(statement, parameters)
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor.fetchall()]
        finally:
            connection.close()

    def has_table(self, table="messenger_messages"):
        return self.query("SELECT to_regclass(%s) AS found", table)[0]["found"] is not None

    def failures(self, queue="failed", table="messenger_messages"):
        """The rows of failed messages, oldest first; none without a table."""
        try:
            return self.query(f"SELECT * FROM {table} WHERE queue_name = %s ORDER BY id", queue)
        except psycopg2.errors.UndefinedTable:
            return []
