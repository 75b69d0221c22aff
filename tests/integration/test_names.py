"""While no name server answers, a look-up takes many seconds. Only the connection that needs it waits for it. The
programs beat, end when they are told to, and do the rest of their work."""

import signal
import socket
import time
from pathlib import Path

import psycopg2
import pytest
import redis as redis_py
from bridge import Hub, Postgres, Redis, wait_until
from bridge.entries import add
from bridge.hub import REFUSED_TOPIC
from bridge.names import LOOK_UP_S, Names, SlowNames, named, start_among

ENDS_WITHIN_S = 6  # and not LOOK_UP_S
ELSEWHERE = "127.0.0.99"


@pytest.fixture
def slow_names(makers):
    return makers.keep(SlowNames(makers.new_folder("names")))


@pytest.fixture
def names(makers):
    return makers.keep(Names(makers.new_folder("names")))


@pytest.fixture
def start(bridge, names):
    return lambda program: start_among(names, bridge, program)


def assert_ends_soon(process):
    started = time.monotonic()
    assert process.stop(LOOK_UP_S * 2) == 0
    assert time.monotonic() - started < ENDS_WITHIN_S


@pytest.mark.parametrize("program", ["consumer", "worker"])
def test_a_program_ends_while_redis_is_looked_up(bridge, names, start, redis, program):
    bridge.settings["transport:async"]["dsn"] = named(redis.dsn(), "redis.test")
    process = start(program)
    names.wait_question("redis.test")
    assert_ends_soon(process)


def test_the_worker_ends_while_the_hub_is_looked_up(bridge, names, start, redis):
    bridge.settings["mercure"] |= {"url": named(bridge.settings["mercure"]["url"], "hub.test"),
                                   "connect_timeout": "300ms"}
    add(redis, "a/x", "1")
    worker = start("worker")
    names.wait_question("hub.test")
    wait_until(lambda: "hub.test" in worker.log(), 10, worker.log_tail)  # a look-up was given up
    assert_ends_soon(worker)
    assert redis.pending() == 1


class NamedHub(Hub):
    """At 127.0.0.1 alone, whatever it is called by."""

    def __init__(self, folder):
        super().__init__(folder)
        at = self.arguments.index("--config") + 1
        own, site = folder / "Caddyfile", "http://127.0.0.1:{$HUB_PORT:3000} {"
        given = Path(self.arguments[at]).read_text()
        assert site in given
        own.write_text(given.replace(site, "http://:{$HUB_PORT} {\n\tbind 127.0.0.1"))
        self.arguments[at] = str(own)


def test_a_hub_whose_name_is_slow_to_look_up_is_found_also_when_it_moves(bridge, makers, slow_names, redis):
    hub = makers.keep(NamedHub(makers.new_folder("hub"))).start()
    sse = makers.keep(hub.subscribe("*"))
    bridge.settings["mercure"]["url"] = named(hub.url, "hub.test")
    add(redis, "a/x", "1")
    with socket.create_server((ELSEWHERE, hub.port)) as former:
        former.settimeout(20)
        slow_names.ip = ELSEWHERE
        worker = start_among(slow_names, bridge, "worker")
        former.accept()[0].close()
    slow_names.ip = "127.0.0.1"
    sse.wait_topic("a/x", timeout=20)
    assert_ends_soon(worker)


def test_programs_beat_while_redis_is_looked_up(bridge, names, redis):
    bridge.settings["transport:async"]["dsn"] = named(redis.dsn(timeout=6), "redis.test")
    bridge.settings["supervisor"]["hang_timeout"] = "3s"
    bridge.settings["worker"]["count"] = 1
    bridge.write_config()
    names.run(bridge.supervisor)
    names.wait_question("redis.test")
    pids = bridge.pids("consumer") + bridge.pids("worker")
    # Twice: each of them has waited for longer than it may be silent.
    wait_until(lambda: bridge.log().count("the host's name could not be looked up in time") >= 2, 40,
               lambda: f"both programs give up an attempt\n{bridge.supervisor.log_tail()}")
    assert bridge.pids("consumer") + bridge.pids("worker") == pids, bridge.supervisor.log_tail()
    started = time.monotonic()
    assert bridge.stop(LOOK_UP_S * 2) == 0
    assert time.monotonic() - started < 2 * ENDS_WITHIN_S  # one after the other


def test_a_message_arrives_where_all_servers_have_names(bridge, names, publisher, redis, sse, database):
    bridge.settings["transport:async"]["dsn"] = named(redis.dsn(), "redis.test")
    bridge.settings["failure"]["dsn"] = named(database.dsn, "database.test")
    bridge.settings["retry"] = {"max_retries": 0}
    names.set_hosts("127.0.0.1 redis.test database.test")
    bridge.write_config()
    names.run(bridge.supervisor)
    bridge.wait_ready()
    publisher.publish("a/x", "1")
    sse.wait_topic("a/x")
    add(redis, REFUSED_TOPIC, "poison")
    wait_until(lambda: database.failures(), 20, "the row is written")
    assert bridge.stop() == 0


class RedisElsewhere(Redis):
    def __init__(self, folder):
        super().__init__(folder, ["--bind", ELSEWHERE])

    @property
    def client(self):
        return redis_py.Redis(host=ELSEWHERE, port=self.port, socket_timeout=10)

    def answers(self):
        try:
            return self.client.ping()
        except redis_py.ConnectionError:
            return False


class PostgresElsewhere(Postgres):
    def __init__(self, folder, template):
        super().__init__(folder, template, [f"listen_addresses={ELSEWHERE}"])

    def connect(self, database="postgres"):
        connection = psycopg2.connect(host=ELSEWHERE, port=self.port, user=self.USER, password=self.PASSWORD,
                                      dbname=database, connect_timeout=5)
        connection.autocommit = True
        return connection


def test_every_address_of_a_name_is_tried_before_an_attempt_has_failed(bridge, makers, postgres_template, names,
                                                                        start, sse):
    redis = makers.keep(RedisElsewhere(makers.new_folder("redis"))).start()
    postgres = makers.keep(PostgresElsewhere(makers.new_folder("postgres"), postgres_template)).start()
    database = postgres.create_database()
    names.set_hosts("127.0.0.1 redis.test database.test", f"{ELSEWHERE} redis.test database.test")
    assert names.addresses("redis.test") == ["127.0.0.1", ELSEWHERE]
    bridge.settings["transport:async"]["dsn"] = named(redis.dsn(), "redis.test")
    bridge.settings["failure"]["dsn"] = named(database.dsn, "database.test")
    bridge.settings["retry"] = {"max_retries": 0}
    add(redis, REFUSED_TOPIC, "poison")
    add(redis, "a/x", "1")
    worker = start("worker")
    sse.wait_topic("a/x")
    wait_until(lambda: database.failures(), 20, "the row is written")
    assert_ends_soon(worker)
    assert "refused" not in worker.log(), worker.log_tail()


def test_a_worker_publishes_and_ends_while_the_database_is_looked_up(bridge, names, start, redis, sse, database):
    bridge.settings["failure"]["dsn"] = named(database.dsn, "database.test")
    bridge.settings["retry"] = {"max_retries": 0}
    bridge.settings["supervisor"]["stop_timeout"] = "2s"
    worker = start("worker")
    add(redis, REFUSED_TOPIC, "poison")
    names.wait_question("database.test")
    add(redis, "a/x", "1")
    sse.wait_topic("a/x", timeout=5)
    worker.send(signal.SIGTERM)
    started = time.monotonic()
    worker.wait(LOOK_UP_S * 2)
    assert time.monotonic() - started < ENDS_WITHIN_S
    assert redis.pending() == 1
