"""One round of the soak: servers of its own, a backlog and a live load, seeded breaks, and the account at its end."""

import contextlib
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from bridge import Bridge, Mosquitto, Redis, wait_until
from bridge.consumer import READY, Consumer
from bridge.device import Device
from bridge.link import Link, MqttLink

from soak_breaks import all_breaks

KEY = re.compile(rb'payload[^0-9]{1,8}(\d{8})')
IDENTITY = re.compile(rb'X-Mqtt-Id[^0-9a-f]{1,8}([0-9a-f]+-\d+)')
RECEIVED = re.compile(rb'X-Mqtt-Received-At[^0-9]{1,8}([^"\\]+)')
PAGE = 5000
GRACE_S = 8.0       # after a break, in which a connection may end because of it
OWN_ENDS = 2        # connections that may end outside of these times
NO_PROGRESS_S = 30  # after the last break
LONGEST_S = 120     # for everything to arrive after the last break, if the link has no limit


class Fault(Exception):
    """What must not be, with the words for the report."""


@dataclass
class Result:
    settings: object
    breaks: list = field(default_factory=list)
    sent: int = 0
    entries: int = 0
    repeats: int = 0
    allowed: int = 0        # unacknowledged at the breaks, all together
    identities: int = 0     # messages under more than one, but where the broker lost its session
    broker_lost: int = 0
    own_ends: int = 0       # connections that ended without a break of ours
    seconds: float = 0.0
    faults: list = field(default_factory=list)

    @property
    def passed(self):
        return not self.faults


class Load:
    """Numbered messages. The device's lock is held while a piece of them is under way."""

    def __init__(self, broker, settings):
        self.settings = settings
        self.device = Device(broker.port)
        self.lock = threading.Lock()
        self.published = 0   # all of these are confirmed
        self.fault = None
        self.ending = False
        self.thread = None

    def publish(self, count, size=None):
        filler = "x" * ((size or self.settings.size) - 8)
        first = self.published
        with self.lock:
            self.device.publish(((f"load/{number % 7}", f"{number:08d}{filler}")
                                 for number in range(first, first + count)), qos=2)
            self.published += count

    @contextlib.contextmanager
    def paused(self):
        with self.lock:
            self.device.close()
            yield

    def end(self):
        self.ending = True
        if self.thread:
            self.thread.join(30)
        self.device.close()

    def start(self):
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self):
        settings = self.settings
        piece = min(settings.live, max(1, settings.rate // 20))
        size = min(settings.size, 600)
        try:
            for _ in range(settings.live // piece):
                if self.ending:
                    return
                self.publish(piece, size)
                time.sleep(piece / settings.rate)
        except (OSError, AssertionError) as fault:
            self.fault = fault


class Round:
    def __init__(self, folder, settings, say=lambda text: None):
        self.folder = folder
        self.settings = settings
        self.say = say
        self.rng = random.Random(settings.seed + "/breaks")
        self.result = Result(settings)
        self.windows = []        # (begin, end) of each break
        self.at_risk = set()     # the broker was killed before it had saved them, and we had not acknowledged them
        self.twice = set()       # the broker's snapshot knows nothing of our acknowledgement
        self.processes = []

    # The life of a round.

    def run(self):
        started = time.monotonic()
        with contextlib.ExitStack() as stack:
            try:
                self._open(stack)
                self._load()
                self._break()
                self._settle()
            except (Fault, AssertionError) as fault:
                self.result.faults.append(str(fault))
                with contextlib.suppress(Exception):
                    self._count()
        self.result.seconds = time.monotonic() - started
        return self.result

    def _new_folder(self, name):
        path = self.folder / name
        path.mkdir()
        return path

    def _open(self, stack):
        settings = self.settings
        self.broker = Mosquitto(self._new_folder("mosquitto"), {"max_inflight_messages": settings.inflight})
        self.redis = Redis(self._new_folder("redis"))
        self.load = Load(self.broker, settings)
        self.device_paused = self.load.paused
        for server in (self.broker, self.redis):
            stack.callback(server.kill)
            server.start()
        stack.callback(self.load.end)
        # The first digits are the message's key. Broker to consumer by this link alone.
        self.link = MqttLink(self.broker.port, rate=settings.link_rate)
        self.redis_link = Link(self.redis.port)
        bridge = Bridge(self._new_folder("bridge"), mosquitto=self.broker, redis=self.redis)
        stack.callback(self._close, bridge)
        self.consumer = Consumer(bridge, self.redis)
        self.consumer.set("mqtt", port=self.link.port, version=settings.version, qos=settings.qos,
                          receive_maximum=settings.receive_maximum, keepalive=settings.keepalive)
        self.consumer.set("transport:async",
                          dsn=f"redis://127.0.0.1:{self.redis_link.port}/messages?timeout=2&read_timeout=2")
        self.consumer.set("spool", retain=settings.retain).set("log", level="info")
        self.consumer.set("supervisor", stop_timeout="4s")

    def _close(self, bridge):
        self.link.close()
        self.redis_link.close()
        for process in bridge.processes:
            process.kill()

    def stop_consumer(self):
        code = self.consumer.process.stop(timeout=20)
        if code != 0:
            raise Fault(f"the consumer ended with {code} when it was asked to\n{self.consumer.process.log_tail(20)}")

    def _load(self):
        """The session is made, the backlog waits, and the consumer starts on it."""
        self.consumer.start()
        self.stop_consumer()
        if self.settings.kind == "slow":
            self.load.publish(1)
            self.load.publish(self.settings.backlog - 1, 600)
        elif self.settings.backlog:
            self.load.publish(self.settings.backlog)
        self.broker.save()
        self.consumer.start(wait=False)
        self.load.start()

    # Breaks.

    def _break(self):
        breaks = all_breaks(self, self.settings.kind)
        for number in range(self.settings.breaks):
            time.sleep(self._gap())
            self._assert_alive()
            if self.settings.kind == "set back" and number % 2:
                self._set_broker_back()
                continue
            chosen = [self.rng.choice(breaks)]
            other = self.rng.choice(breaks)
            if other.target != chosen[0].target and self.rng.random() < 0.4:
                chosen.append(other)
            self._hold(chosen)
        self.last_break = time.monotonic()

    def _gap(self):
        if self.settings.link_rate:  # in the middle of the large message
            return self.settings.size / self.settings.link_rate * self.rng.uniform(0.2, 0.8)
        # A backlog is through in some seconds: what breaks is to break amid it.
        return self.rng.uniform(0.05, 0.8 if self.settings.backlog > 10000 else 2.5)

    def _hold(self, chosen):
        begin = time.monotonic()
        names = " + ".join(each.name for each in chosen)
        hold = self.rng.uniform(0.05, max(each.longest for each in chosen))
        self.say(f"{names} for {hold:.1f} s")
        self.result.breaks.append(names)
        for each in chosen:
            each.begin()
        time.sleep(hold)
        self.rng.shuffle(chosen)
        for each in chosen:
            each.end()
        self.windows.append((begin, time.monotonic() + GRACE_S))

    def _set_broker_back(self):
        """Killed some time after a snapshot. What it kept is what was confirmed before it began to save. At risk is
        what came since, but for what the consumer has acknowledged. What the snapshot has as unacknowledged it sends
        again, as new perhaps."""
        begin = time.monotonic()
        # Over a slow link the snapshot has a queue.
        before, self.link.rate = self.link.rate, self.rng.choice([None, 50_000, 150_000])
        name = f"broker killed{' over a slow link' if self.link.rate else ''}"
        self.say(name)
        self.result.breaks.append(name)
        time.sleep(self.rng.uniform(0.0, 1.0))
        with self.load.lock:
            kept = self.load.published
            settled = set(self.link.known_acknowledged())
            self.broker.save()
        time.sleep(self.rng.uniform(0.05, 2.0))
        with self.device_paused():
            published = self.load.published
            self.link.note()
            self.broker.kill()
            self.link.rate = before
            time.sleep(0.2)  # what lies in the link's sockets gets to the consumer, and its answers to the link
            ours = set(self.link.acknowledged)
            self.at_risk |= {number for number in range(kept, published) if b"%08d" % number not in ours}
            self.twice |= {number for number in range(published) if b"%08d" % number not in settled}
            time.sleep(self.rng.uniform(0.0, 1.0))
            self.broker.start()
        self.windows.append((begin, time.monotonic() + GRACE_S))

    def _assert_alive(self):
        if not self.consumer.process.is_running():
            raise Fault(f"the consumer ended by itself ({self.consumer.process.exit_code})\n"
                        f"{self.consumer.process.log_tail(20)}")

    # The end.

    def _settle(self):
        """Everything arrives, with progress all the time: a new message, or bytes of one over a slow link."""
        self.load.thread.join(120)
        if self.load.thread.is_alive() or self.load.fault:
            raise Fault(f"the device could not publish: {self.load.fault}")
        if self.settings.kind != "slow":
            self.load.publish(50)
        limit = LONGEST_S
        if self.settings.link_rate:
            limit = 2 * (self.settings.size + 60_000) / self.settings.link_rate + NO_PROGRESS_S
        deadline = time.monotonic() + limit
        seen, last, moved = set(), b"-", time.monotonic()
        while not self._expected() <= seen:
            before = len(seen)
            page = self.redis.client.xrange("messages", min=b"(" + last if last != b"-" else last, count=PAGE)
            for last, fields in page:
                seen.add(int(KEY.search(fields[b"message"])[1]))
            now = time.monotonic()
            if len(seen) > before:
                moved = now
            self._assert_alive()
            if now > deadline or not self.settings.link_rate and now - moved > NO_PROGRESS_S:
                raise Fault(f"a livelock or a loss: {len(self._expected() - seen)} of {self.load.published} messages "
                            f"are missing {now - self.last_break:.0f} s after the last break, nothing new for "
                            f"{now - moved:.0f} s\n{self.consumer.process.log_tail(25)}")
            if not page:
                time.sleep(0.1)
        wait_until(lambda: READY in self.consumer.log(), 15, "the consumer is ready")
        self._rest()
        self._count()

    def _expected(self):
        return set(range(self.load.published)) - self.at_risk

    def _rest(self):
        """What is still under way comes, a repeat for instance: until nothing more does."""
        before, deadline = -1, time.monotonic() + 30
        while (now := self.redis.client.xlen("messages")) != before:
            if time.monotonic() > deadline:
                raise Fault(f"entries keep coming ({now}) when everything is there: a livelock")
            before = now
            time.sleep(1.0)

    def _count(self):
        result = self.result
        counts, identities, owners, records, twice_recorded = Counter(), {}, {}, set(), 0
        last = b"-"
        while page := self.redis.client.xrange("messages", min=last, count=PAGE):
            for last, fields in page:
                value = fields[b"message"]
                key, identity = int(KEY.search(value)[1]), IDENTITY.search(value)[1]
                record = identity, RECEIVED.search(value)[1]
                twice_recorded += record in records
                records.add(record)
                counts[key] += 1
                identities.setdefault(key, set()).add(identity)
                owners.setdefault(identity, set()).add(key)
            last = b"(" + last
        result.sent, result.entries = self.load.published, sum(counts.values())
        result.repeats = result.entries - len(counts)
        doubled = [key for key, ids in identities.items() if len(ids) > 1]
        result.identities = len([key for key in doubled if key not in self.twice])
        ends = self.link.all_ends()
        for begin, end in self.windows:
            result.allowed += max((each.unacknowledged for each in ends if begin <= each.moment <= end), default=0)
        result.own_ends = sum(not any(begin <= each.moment <= end for begin, end in self.windows)
                              for each in self.link.ends if each.moment > self.windows[0][0])
        result.broker_lost = len(self.at_risk - set(counts))
        self._judge(counts, owners, twice_recorded)

    def _judge(self, counts, owners, twice_recorded):
        result = self.result
        missing = self._expected() - set(counts)
        strange = set(counts) - set(range(self.load.published))
        shared = [keys for keys in owners.values() if len(keys) > 1]
        # Redeliveries: the broker sends again what it has no answer for, once a break. Where it was set back, also
        # what the snapshot had so.
        limit = 3 * result.allowed + len(self.twice)
        exactly_once = self.settings.qos == 2
        forgotten = self.twice | {int(key) for key in self.link.sent_again}
        repeats = sum(count - 1 for key, count in counts.items() if key not in forgotten)
        for wrong, text in (
                (missing, f"{len(missing)} lost: {sorted(missing)[:5]}"),
                (strange, f"{len(strange)} that nobody sent: {sorted(strange)[:5]}"),
                (result.identities, f"{result.identities} messages under two identities"),
                (shared, f"{len(shared)} identities of two messages: {shared[:3]}"),
                (twice_recorded, f"{twice_recorded} records of the spool twice in Redis"),
                (self.link.versions != {self.settings.version}, f"it has spoken MQTT {sorted(self.link.versions)}"),
                (result.own_ends > OWN_ENDS, f"{result.own_ends} connections ended with nothing broken"),
                (exactly_once and repeats, f"{repeats} repeated at QoS 2"),
                (result.repeats and result.repeats >= limit,
                 f"{result.repeats} redeliveries of {result.allowed} unacknowledged ({limit} at most)")):
            if wrong:
                result.faults.append(text)
