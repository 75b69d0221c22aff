"""What every chaos test does: a device publishes numbered messages while something breaks, and a browser
must have seen each of them in the end."""

import re

from bridge import account, wait_until

PATIENCE = 60.0  # the machine that runs the tests may be busy
IDENTITY = re.compile(rb'"X-Mqtt-Id":"([^"]+)"')


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

    def goes_on(self, messages):
        """Waits until so many more have been published. False: the load was over before."""
        wanted = self.publisher.sent + messages
        wait_until(lambda: self.publisher.sent >= wanted or not self.thread.is_alive(), PATIENCE,
                   "the device publishes", every=0.005)
        return self.thread.is_alive()

    def seen(self):
        """How many of the messages the browser has seen."""
        events = self.sse.events
        for event in events[self._looked_at:]:
            self._seen.add(event.payload)
        self._looked_at = len(events)
        return len(self._seen)

    def wait_seen(self, count=None):
        """Until the browser has seen so many, or all that were sent."""
        wanted = len(self.sent) if count is None else count
        wait_until(lambda: self.seen() >= wanted, PATIENCE, every=0.1, what=lambda: (
            f"the browser sees {wanted} messages; {self.seen()} so far, {self.publisher.confirmed} confirmed by the "
            f"broker, {self.waiting()}; missing: {account(self.sent, self.sse.events).missing[:5]}"))

    def waiting(self):
        client = self.redis.client
        return (f"{client.xlen(self.stream)} in the stream, {self.redis.pending(self.stream)} pending, "
                f"{client.zcard(self.stream + '__queue')} delayed")

    def finish(self, drained=True):
        """Until everything has been published and seen, and Redis is empty; returns the account."""
        self.thread.join(PATIENCE)
        self.publisher.wait_confirmed(PATIENCE)
        self.wait_seen()
        if drained:
            wait_until(lambda: self.redis.is_drained(self.stream), PATIENCE, self.waiting)
        result = account(self.sent, self.sse.events)
        result.assert_nothing_lost()
        return result


def identities(redis, stream="messages"):
    """Of every entry that is in the stream."""
    return [IDENTITY.search(fields[b"message"].replace(b"\\/", b"/")).group(1).decode()
            for _, fields in redis.client.xrange(stream)]


def readiness(bridge):
    """The parts that are away, by name, with their reason. "http": nobody answers."""
    try:
        _, body = bridge.get("/readyz")
    except OSError as error:
        return {"http": str(error)}
    import json
    return {name: part["reason"] for name, part in json.loads(body)["parts"].items() if not part["ok"]}


def wait_away(bridge, *names):
    """Until the readiness names exactly these parts as away (none: the bridge is well); returns the
    reasons."""
    return wait_until(lambda: set(found := readiness(bridge)) == set(names) and (found or True), PATIENCE,
                      lambda: f"away: {names}; readiness says {readiness(bridge)}", every=0.1)
