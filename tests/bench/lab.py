"""The real servers and the programs that are measured on them. Each method that measures one thing starts
what it needs, stops it, and returns a Sample."""

import contextlib
import functools
import json
import os
import re
import tempfile
import time
from datetime import datetime
from pathlib import Path

from measure import Machine, Sample, cpu_seconds

from bridge import Bridge, Hub, Mosquitto, Postgres, Process, Publisher, Redis, build_folder, jwt, wait_until
from bridge.authority import Authority
from bridge.process import pss_bytes
from bridge.redis_kinds import TlsRedis

ROOT = Path(__file__).resolve().parents[2]
FILTER = "bench/#"
TOPICS = 1000
LIMIT = 60.0  # seconds for any one step
# Nothing of the broker's own limits or of its disk stands in the way: what is measured is the subscriber.
BROKER = {"max_inflight_messages": 1000, "max_queued_messages": 0, "persistence": "false"}
# The append-only file is on, as the bridge wants it, but is never rewritten in the middle of a sample.
REDIS = ["--auto-aof-rewrite-percentage", "0"]


@contextlib.contextmanager
def on_cpus(cpus):
    """What is started inside runs on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def halves():
    """Of the CPUs that there are; of one both are the same."""
    cpus = sorted(os.sched_getaffinity(0))
    return set(cpus[:(len(cpus) + 1) // 2]), set(cpus[len(cpus) // 2:])


def received_at(entry):
    """Seconds: the consumer's time in the envelope of a stream entry."""
    text = re.search(rb"X-Mqtt-Received-At.*?(\d{4}-\d\d-\d\dT[\d:.]+)Z", entry, re.DOTALL).group(1)
    return datetime.fromisoformat(text.decode()).timestamp()


class Lab:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.made = 0
        self.hub = None      # for the worker's samples
        self.redis = None    # the same; holds the template stream

    def _new_folder(self, name):
        self.made += 1
        path = self.folder / f"{self.made}-{name}"
        path.mkdir()
        return path

    @contextlib.contextmanager
    def _running(self, process):
        process.start()
        try:
            yield process
        finally:
            process.kill()

    def _broker(self):
        return self._running(Mosquitto(self._new_folder("mosquitto"), options=BROKER))

    def _redis(self):
        return self._running(Redis(self._new_folder("redis"), REDIS))

    def _tls_redis(self):
        authority = Authority(self._new_folder("authority")).sign()
        redis = TlsRedis(self._new_folder("redis"), authority, arguments=REDIS)
        redis.dsn = functools.partial(redis.dsn, ssl_cafile=authority.certificate)
        return self._running(redis)

    def _tool(self, name, *arguments):
        program = build_folder() / "tests/bench" / name
        return Process(name, [program, *arguments], self._new_folder(name))

    @staticmethod
    def _finish(process):
        """A tool to its natural end."""
        process.start()
        code = process.wait(LIMIT)
        assert code == 0, f"{process.name} ended with {code}\n{process.log_tail()}"

    def _publish(self, broker, count, topics=TOPICS):
        self._finish(self._tool("publish", broker.port, count, topics))

    @staticmethod
    def _publish_qos_2(broker, count):
        with contextlib.closing(Publisher(broker.port).connect()) as device:
            device.publish_all([(f"bench/room{n % TOPICS}/climate", f"value {n}") for n in range(count)], qos=2)

    def _report(self, process, machine=None):
        """Of a tool that measures itself and then waits. machine: since it was started."""
        wait_until(lambda: "}" in process.log() or not process.is_running(), LIMIT,
                   lambda: f"{process.name} is done\n{process.log_tail()}")
        assert process.is_running(), f"{process.name} ended ({process.exit_code})\n{process.log_tail()}"
        idle = machine.idle() if machine else None
        result = json.loads(process.log()[process.log().index("{"):])
        return Sample(result["messages"] / result["seconds"],
                      cpu_seconds(process.pid) * 1e6 / result["messages"], idle)

    # From the broker.

    def raw_drain(self, count):
        """paho's subscriber takes what the broker holds for its session."""
        with self._broker() as broker:
            self._finish(self._tool("raw_subscriber", broker.port, "raw", FILTER, 0))
            self._publish(broker, count)
            machine = Machine()
            with self._running(self._tool("raw_subscriber", broker.port, "raw", FILTER, count)) as raw:
                return self._report(raw, machine)

    def raw_live(self, count):
        """The same while a device publishes."""
        with self._broker() as broker:
            with self._running(self._tool("raw_subscriber", broker.port, "raw", FILTER, count)) as raw:
                wait_until(lambda: "ready" in raw.log(), LIMIT, "the subscriber is ready")
                machine = Machine()
                self._publish(broker, count)
                return self._report(raw, machine)

    def _bridge(self, name, **parts):
        bridge = Bridge(self._new_folder(name), **parts)
        bridge.settings["mqtt"] |= {"topics": FILTER, "qos": 1}
        bridge.settings["log"]["level"] = "info"
        bridge.settings["spool"] = {"size": "1G"}
        return bridge

    def _start_consumer(self, bridge, name):
        consumer = bridge.run_program("consumer", name=name)
        wait_until(lambda: "subscribed" in consumer.log(), LIMIT,
                   lambda: f"the consumer is subscribed\n{consumer.log_tail()}")
        return consumer

    @staticmethod
    def _wait_stored(redis, consumer, count):
        client = redis.client
        wait_until(lambda: client.xlen("messages") >= count, LIMIT,
                   lambda: f"{client.xlen('messages')} of {count} messages are in Redis\n{consumer.log_tail()}")
        assert client.xlen("messages") == count, "a message came twice"
        return [entries[0] for entries in (client.xrange("messages", count=1), client.xrevrange("messages", count=1))]

    def _stream_sample(self, redis, consumer, count, machine=None):
        """The stream's ids are the milliseconds at which Redis took the entries."""
        first, last = (int(entry_id.split(b"-")[0]) / 1000 for entry_id, _ in self._wait_stored(redis, consumer, count))
        return Sample((count - 1) / (last - first), cpu_seconds(consumer.pid) * 1e6 / count,
                      machine.idle() if machine else None)

    @contextlib.contextmanager
    def _held_queue(self, count, publish, qos=1):
        """A broker that holds so many messages for the session of a consumer that has ended."""
        with self._broker() as broker, self._redis() as redis:
            bridge = self._bridge("consumer", mosquitto=broker, redis=redis)
            bridge.settings["mqtt"]["qos"] = qos
            with contextlib.closing(bridge):
                self._start_consumer(bridge, "first").stop()
                publish(broker, count)
                yield bridge, redis

    def consumer_drain(self, count):
        """The consumer takes what the broker holds for its session; done is what stands in Redis."""
        return self._drain(count, self._publish)

    def consumer_drain_of_qos_2(self, qos, count):
        """The same of messages that were published with QoS 2; qos: with which the consumer takes them."""
        return self._drain(count, self._publish_qos_2, qos)

    def _drain(self, count, publish, qos=1):
        with self._held_queue(count, publish, qos) as (bridge, redis):
            machine = Machine()
            return self._stream_sample(redis, bridge.run_program("consumer"), count, machine)

    def consumer_spool(self, count):
        """The same, and done is what it has acknowledged. Redis is there and stands still meanwhile, so that
        broker and consumer have the machine to themselves, as broker and subscriber have. The times are those
        at which the messages reached the spool, just before their acknowledgement."""
        with self._held_queue(count, self._publish) as (bridge, redis):
            redis.freeze()
            machine = Machine()
            consumer = bridge.run_program("consumer")
            cpu, idle = self._wait_quiet(consumer, machine)
            redis.thaw()
            first, last = (received_at(fields[b"message"]) for _, fields in self._wait_stored(redis, consumer, count))
            return Sample((count - 1) / (last - first), cpu * 1e6 / count, idle)

    @staticmethod
    def _wait_quiet(process, machine):
        """Until it has done nothing for a while; its CPU time, and the machine's idle share before."""
        last = (0.0, 0.0)

        def is_quiet():
            nonlocal last
            before, last = last, (cpu_seconds(process.pid), machine.idle())
            return before[0] > 0.1 and last[0] - before[0] < 0.02 and before
        return wait_until(is_quiet, LIMIT, lambda: f"{process.name} rests\n{process.log_tail()}", every=0.2)

    def consumer_live(self, count):
        return self._consumer_live(self._redis(), count)

    def consumer_tls(self, count):
        """The same, with TLS between consumer and Redis."""
        return self._consumer_live(self._tls_redis(), count)

    def _consumer_live(self, store, count):
        with self._broker() as broker, store as redis:
            bridge = self._bridge("consumer", mosquitto=broker, redis=redis)
            with contextlib.closing(bridge):
                consumer = self._start_consumer(bridge, "consumer")
                machine = Machine()
                self._publish(broker, count)
                return self._stream_sample(redis, consumer, count, machine)

    # From Redis.

    @contextlib.contextmanager
    def worker_servers(self, count):
        """A hub, and a Redis whose key `template` is a stream that a consumer wrote. The hub has half of the
        CPUs to itself, whoever feeds it the others: its limit is then the same with little and with much before
        it."""
        before, behind = halves()
        with contextlib.ExitStack() as stack:
            with on_cpus(behind):
                hub = stack.enter_context(self._running(Hub(self._new_folder("hub"))))
            stack.enter_context(on_cpus(before))
            broker, redis = stack.enter_context(self._broker()), stack.enter_context(self._redis())
            bridge = self._bridge("template", mosquitto=broker, redis=redis)
            with contextlib.closing(bridge):
                consumer = self._start_consumer(bridge, "consumer")
                self._publish(broker, count)
                self._stream_sample(redis, consumer, count)
            redis.client.xgroup_create("messages", "symfony", "0")
            redis.client.rename("messages", "template")
            self.redis, self.hub = redis, hub
            yield
            self.redis = self.hub = None

    def stream_drain(self, count):
        """The bare loop of XREADGROUP, XACK and XDEL."""
        self.redis.client.execute_command("COPY", "template", "drained", "REPLACE")
        with self._running(self._tool("stream_drain", self.redis.port, "drained", "symfony", count)) as tool:
            return self._report(tool)

    def hub_saturated(self, count):
        """Updates from 16 connections with nothing behind them."""
        token = jwt(self.hub.publisher_key)
        with self._running(self._tool("hub_saturate", self.hub.url, token, count, 16)) as tool:
            return self._report(tool)

    def handler(self, count):
        """The same with the example of a handler in Python between; CPU is the worker's."""
        command = f"/usr/bin/python3 {ROOT}/examples/python/handler.py"
        return self.worker(count, {"worker": {"handler": "example", "prefetch": 1024},
                                   "handler:example": {"command": command, "inflight": 512}})

    def worker_without_last_values(self, count):
        return self.worker(count, {"page": {"last_values": 0}})

    def worker(self, count, settings=None):
        """One worker from a full stream to the hub; done is what is acknowledged and deleted."""
        client = self.redis.client
        client.delete("{messages}__latest")  # the same messages would not be written again
        client.execute_command("COPY", "template", "messages", "REPLACE")
        bridge = self._bridge("worker", redis=self.redis, hub=self.hub, settings=settings)
        with contextlib.closing(bridge):
            worker = bridge.run_program("worker")
            left = [count]

            def has_come_to(wanted):
                left[0] = client.xlen("messages")
                return left[0] <= wanted

            def wait_for(wanted, every):
                wait_until(lambda: has_come_to(wanted), LIMIT,
                           lambda: f"{left[0]} entries are left\n{worker.log_tail()}", every=every)
                return time.monotonic(), count - left[0], cpu_seconds(worker.pid)

            first = wait_for(count - 1, every=0.001)
            wait_for(count // 20, every=0.05)
            last = wait_for(0, every=0.002)
        messages = last[1] - first[1]
        return Sample(messages / (last[0] - first[0]), (last[2] - first[2]) * 1e6 / messages)

    # All of it.

    def whole(self, count):
        """The bridge under its supervisor, two workers; from a device to the hub. Returns a Sample with the
        CPU time of all its processes, and the memory of each behind the load."""
        postgres = Postgres(self._new_folder("postgres"), self.folder / "postgres-template")
        with self._broker() as broker, self._redis() as redis, \
                self._running(Hub(self._new_folder("hub"))) as hub, self._running(postgres):
            bridge = self._bridge("bridge", mosquitto=broker, redis=redis, hub=hub,
                                  database=postgres.create_database())
            with contextlib.closing(bridge):
                bridge.start()
                processes = [("supervisor", bridge.supervisor.pid)]
                for program in ("consumer", "worker", "monitor"):
                    processes += [(program, pid) for pid in bridge.pids(program)]
                before = sum(cpu_seconds(pid) for _, pid in processes)
                started = time.monotonic()
                self._publish(broker, count)
                wait_until(lambda: self._handled(bridge) >= count, LIMIT,
                           lambda: f"{self._handled(bridge)} of {count} are handled", every=0.1)
                seconds = time.monotonic() - started
                cpu = sum(cpu_seconds(pid) for _, pid in processes) - before
                memory = [(name, pss_bytes(pid)) for name, pid in processes]
        return Sample(count / seconds, cpu * 1e6 / count), memory

    @staticmethod
    def _handled(bridge):
        return sum(process["done"] or 0 for process in bridge.status()["processes"]
                   if process["name"] == "worker")


@contextlib.contextmanager
def open_lab(kind=Lab):
    """Everything lies in one folder that is gone at the end; nothing listens but on loopback."""
    with tempfile.TemporaryDirectory(prefix="mqtt-bridge-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user
        yield kind(folder)
