"""What every chaos test does: a device publishes numbered messages while something breaks, and in the end a
browser has seen each of them."""

import json
import re

from bridge import account, wait_until

PATIENCE = 60.0  # the machine that runs the tests may be busy
IDENTITY = re.compile(rb'"X-Mqtt-Id":"([^"]+)"')
RECEIVED = re.compile(rb'"X-Mqtt-Received-At":"([^"]+)"')


class Load:
    """One device, one browser. The moments at which a test breaks things are measured in messages."""

    def __init__(self, publisher, sse, redis, stream="messages"):
        self.publisher = publisher
        self.sse = sse
        self.redis = redis
        self.stream = stream
        self.sent = []
        self.thread = None
        self._seen = set()
        self._looked_at = 0

    def start(self, count, rate, qos=1, topics=8):
        """Publishes so many more, at most `rate` a second, in a thread."""
        numbers = range(len(self.sent), len(self.sent) + count)
        messages = [(f"load/{number % topics}", f"message {number}") for number in numbers]
        self.sent += messages
        self.thread = self.publisher.start_all(messages, qos, rate)
        return self

    def publish(self, count):
        """Until the broker has so many more."""
        self.start(count, rate=None)
        self.wait_published()

    def goes_on(self, messages):
        """Waits until so many more have been published. False: the load was over before."""
        wanted = self.publisher.sent + messages
        wait_until(lambda: self.publisher.sent >= wanted or not self.thread.is_alive(), PATIENCE,
                   "the device publishes", every=0.005)
        return self.thread.is_alive()

    def wait_published(self):
        self.thread.join(PATIENCE)
        self.publisher.wait_confirmed(PATIENCE)

    def seen(self):
        """How many of the messages the browser has seen."""
        events = self.sse.events
        self._seen.update(event.payload for event in events[self._looked_at:])
        self._looked_at = len(events)
        return len(self._seen)

    def wait_seen(self):
        """Until the browser has seen all that were sent."""
        wait_until(lambda: self.seen() >= len(self.sent), PATIENCE, every=0.1, what=lambda: (
            f"the browser sees {len(self.sent)} messages; {self.seen()} so far, {self.publisher.confirmed} confirmed "
            f"by the broker, {self.waiting()}; missing: {account(self.sent, self.sse.events).missing[:5]}"))

    def wait_drained(self):
        self.redis.wait_drained(PATIENCE, self.stream)

    def waiting(self):
        return "{} in the stream, {} pending, {} delayed".format(*self.redis.waiting(self.stream))

    def finish(self):
        """Until everything has been published and seen, and Redis is empty; returns the account."""
        self.wait_published()
        self.wait_seen()
        self.wait_drained()
        result = account(self.sent, self.sse.events)
        result.assert_nothing_lost()
        return result

    def finish_by_history(self, hub):
        """The same by what the hub has taken: for a hub that was killed, which may have lost its subscriber
        between taking an update and telling it (and gives no history before the next update)."""
        self.wait_published()
        result = wait_until(lambda: not (found := account(self.sent, history(hub))).missing and found, PATIENCE,
                            lambda: f"the hub takes everything; {account(self.sent, history(hub))}", every=0.3)
        self.wait_drained()
        result.assert_nothing_lost()
        return result


def history(hub):
    """Every update that the hub has taken so far, as events."""
    status, marker = hub.publish("history", "so far")
    assert status == 200, marker
    client = hub.subscribe("*", last_event_id="earliest")
    try:
        client.wait_for(lambda events: any(event.id == marker for event in events), PATIENCE, "the hub's history")
        return [event for event in client.events if event.data != "so far"]
    finally:
        client.close()


def identities(redis, stream="messages"):
    """Of every entry that is in the stream, the message's identity and when the spool got it. What the broker
    repeats has the same identity, but is a record of its own, of its own time."""
    found = []
    for _, fields in redis.client.xrange(stream):
        found.append(tuple(pattern.search(fields[b"message"]).group(1).decode() for pattern in (IDENTITY, RECEIVED)))
    return found


def readiness(bridge):
    """The parts that are away, by name, with their reason; "http" if nobody answers."""
    try:
        _, body = bridge.get("/readyz")
    except OSError as error:
        return {"http": str(error)}
    return {name: part["reason"] for name, part in json.loads(body)["parts"].items() if not part["ok"]}


def wait_away(bridge, *names):
    """Until the readiness names exactly these parts as away, none: all is well. Returns the reasons."""
    found = {}

    def as_expected():
        found.clear()
        found.update(readiness(bridge))
        return set(found) == set(names)

    wait_until(as_expected, PATIENCE, lambda: f"away: {names}; readiness says {found}", every=0.1)
    return found
