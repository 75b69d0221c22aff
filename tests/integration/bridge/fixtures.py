"""What a test asks for by name.

mosquitto, redis      a fresh server each test (it costs 50 ms)
hub                   one server for the run, without history; revived if a test stopped it
postgres, database    one server for the run, a database of its own for each test
make_mosquitto(...), make_redis(...), make_hub(...), make_postgres(...)
                      further ones, or with options of their own (see the classes)
bridge                a Bridge on those four, not yet started; make_bridge(...) for another
publisher             a connected Publisher
sse                   an SseClient that sees every public update; make_sse(topic, ...) for others
php_peer              Symfony Messenger on the test's Redis and database; make_php_peer(...)
rng                   random.Random; its seed is printed, MQTT_BRIDGE_SEED repeats it
folder                an empty folder of the test's own
"""

import os
import random
import re
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from .hub import Hub
from .mqtt import Publisher
from .php import PhpPeer
from .process import Process
from .program import Bridge, build_folder
from .servers import Mosquitto, Postgres, Redis

SEED = int(os.environ.get("MQTT_BRIDGE_SEED") or time.time_ns() % 2**32)
os.environ["MQTT_BRIDGE_SEED"] = str(SEED)  # the workers of a parallel run have it too


PARTS = ("waits", "own_core")  # markers; the part "shared" is what has neither


def pytest_addoption(parser):
    parser.addoption("--part", choices=(*PARTS, "shared"), help="only the tests of one part of a run")


def part_of(item):
    return next((part for part in PARTS if item.get_closest_marker(part)), "shared")


def pytest_collection_modifyitems(config, items):
    part = config.getoption("--part")
    if part is None:
        return
    others = [item for item in items if part_of(item) != part]
    items[:] = [item for item in items if part_of(item) == part]
    config.hook.pytest_deselected(items=others)


def pytest_report_header():
    return [f"programs: {build_folder()}", f"seed: {SEED} (MQTT_BRIDGE_SEED={SEED} repeats it)"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows the last lines of every log that it made."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    report.sections.append(("seed", f"MQTT_BRIDGE_SEED={SEED}"))
    for process in getattr(item, "bridge_processes", []):
        report.sections.append((f"log of {process.name} (exit code {process.exit_code})", process.log_tail(40)))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """The run's folder, for all its workers. Not pytest's own: that is closed to the user postgres. Gone at the
    end, but for MQTT_BRIDGE_KEEP=1."""
    if hasattr(config, "workerinput"):
        return
    path = tempfile.mkdtemp(prefix="mqtt-bridge-")
    os.chmod(path, 0o755)
    os.environ["MQTT_BRIDGE_WORKSPACE"] = path


def pytest_unconfigure(config):
    if hasattr(config, "workerinput"):
        return
    path = os.environ.pop("MQTT_BRIDGE_WORKSPACE")
    if os.environ.get("MQTT_BRIDGE_KEEP"):
        print(f"\nkept: {path}")
    else:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def workspace():
    """A folder of this worker's own. Its name is short: paths of sockets end at 107 characters."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    path = Path(os.environ["MQTT_BRIDGE_WORKSPACE"]) / worker
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def postgres_template():
    return Path(os.environ["MQTT_BRIDGE_WORKSPACE"]) / "postgres-template"


@pytest.fixture
def folder(workspace, request):
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:40]
    path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=workspace))
    path.chmod(0o755)  # PostgreSQL runs as another user
    return path


@pytest.fixture
def rng():
    return random.Random(SEED)


class Makers:
    """Makes things with a folder of their own each and ends them all, the last first, by pid."""

    def __init__(self, folder, item):
        self.folder = folder
        self.item = item
        self.folders = 0
        self.made = []
        item.bridge_processes = getattr(item, "bridge_processes", [])

    def new_folder(self, name):
        self.folders += 1
        path = self.folder / f"{name}-{self.folders}"
        path.mkdir()
        return path

    def watch(self, process):
        self.item.bridge_processes.append(process)

    def keep(self, thing):
        self.made.append(thing)
        if isinstance(thing, Process):
            self.watch(thing)
        return thing

    def end_all(self):
        faults = []
        for thing in reversed(self.made):
            try:
                thing.kill() if isinstance(thing, Process) else thing.close()
            except AssertionError as fault:
                faults.append(fault)
        if faults:
            raise faults[0]


@pytest.fixture
def makers(folder, request):
    makers = Makers(folder, request.node)
    yield makers
    makers.end_all()


@pytest.fixture
def make_mosquitto(makers):
    return lambda **options: makers.keep(Mosquitto(makers.new_folder("mosquitto"), **options)).start()


@pytest.fixture
def make_redis(makers):
    return lambda *arguments, **options: makers.keep(
        Redis(makers.new_folder("redis"), arguments, **options)).start()


@pytest.fixture
def make_hub(makers):
    return lambda **options: makers.keep(Hub(makers.new_folder("hub"), **options)).start()


@pytest.fixture
def make_postgres(makers, postgres_template):
    return lambda *options: makers.keep(
        Postgres(makers.new_folder("postgres"), postgres_template, options)).start()


@pytest.fixture
def mosquitto(make_mosquitto):
    return make_mosquitto()


@pytest.fixture
def redis(make_redis):
    return make_redis()


def _shared_folder(workspace, name):
    path = workspace / name
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def hub_server(workspace):
    hub = Hub(_shared_folder(workspace, "hub"))
    yield hub
    hub.kill()


@pytest.fixture
def hub(hub_server, makers):
    hub_server.revive()
    makers.watch(hub_server)
    return hub_server


@pytest.fixture(scope="session")
def postgres_server(workspace, postgres_template):
    postgres = Postgres(_shared_folder(workspace, "postgres"), postgres_template)
    yield postgres
    if postgres.is_running():
        postgres.stop()


@pytest.fixture
def postgres(postgres_server, makers):
    postgres_server.revive()
    makers.watch(postgres_server)
    return postgres_server


@pytest.fixture
def database(postgres):
    return postgres.create_database()


@pytest.fixture
def make_bridge(makers):
    """make_bridge(mosquitto=, redis=, hub=, database=, settings={section: {key: value}}, env={}): each
    may be left out."""
    def make(**parts):
        bridge = makers.keep(Bridge(makers.new_folder("bridge"), **parts))
        makers.item.bridge_processes = _Logs(makers.item.bridge_processes, bridge)
        return bridge
    return make


class _Logs:
    """The processes known so far and those that a bridge starts later."""

    def __init__(self, known, bridge):
        self.known, self.bridge, self.more = known, bridge, []

    def append(self, process):
        self.more.append(process)

    def __iter__(self):
        return iter([*self.known, *self.bridge.processes, *self.more])


@pytest.fixture
def bridge(make_bridge, mosquitto, redis, hub, database):
    return make_bridge(mosquitto=mosquitto, redis=redis, hub=hub, database=database)


@pytest.fixture
def make_publisher(makers, mosquitto):
    return lambda port=None, **options: makers.keep(Publisher(port or mosquitto.port, **options)).connect()


@pytest.fixture
def publisher(make_publisher):
    return make_publisher()


@pytest.fixture
def make_sse(makers, hub):
    """make_sse("topic", ..., last_event_id=None, token=None, reconnect=True)"""
    return lambda *topics, **options: makers.keep(hub.subscribe(*topics, **options))


@pytest.fixture
def sse(make_sse):
    return make_sse("*")


@pytest.fixture
def make_php_peer(makers, redis, database):
    return lambda **options: makers.keep(PhpPeer(makers.new_folder("php"), redis, database, **options))


@pytest.fixture
def php_peer(make_php_peer):
    return make_php_peer()
