"""Windows and handlers under kills and outages: nothing is lost, repeats have their id, poison goes aside."""

import collections
import json
import os
import signal
import time

from bridge import wait_until
from bridge.entries import php_value
from bridge.faulty import PROBE, RESET, FaultyHub
from bridge.handlers import handler_command
from bridge.process import is_alive
from load import PATIENCE

SPOOL = f"{7:032x}"
PER_ROUTE, PARTS = 1000, 8
POISON = "poison"
FAULTS = ["worker", "handler", "redis", RESET, 503]

# Publishes what it is given as it is, and dies of poison.
HANDLER = '''
import json, os, random, sys, time
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
print('{"ready":true}', flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message["payload"] == "poison":
        os._exit(1)
    time.sleep(random.uniform(0, 0.004))
    data = {name: message[name] for name in ("id", "topic", "payload")}
    print(json.dumps({"id": message["id"], "updates": [{"data": data}]}), flush=True)
'''


class Hub(FaultyHub):
    """Refuses poison, and keeps what it has taken: (id of the update, its documents)."""

    def __init__(self):
        super().__init__(self._look)
        self.fault = None
        self.taken = []

    def _look(self, update):
        if self.fault or update.id == PROBE:
            return self.fault
        if f'"payload":"{POISON}"' in update.data:
            return 400
        content = json.loads(update.data)
        self.taken.append((update.id, content if isinstance(content, list) else [content]))
        return None


def messages():
    """(topic, payload), by number. The last value of each topic of latest/bad is poison."""
    result = []
    for number in range(PER_ROUTE):
        result += [(f"{route}/{number % 20}", str(number)) for route in ("latest", "batch", "handler")]
    for number in range(3):
        result[1000 * number:1000 * number] = [
            (f"latest/bad{number}", "0"), (f"latest/bad{number}", POISON), (f"batch/bad{number}", POISON)]
    result[2000:2000] = [("handler/bad", POISON)]
    return result


def break_something(rng, what, bridge, redis, hub, starts):
    if what == "worker":
        bridge.kill_child("worker", rng.randrange(len(bridge.pids("worker")) or 1))
    elif what == "handler":
        alive = [pid for pid in starts() if is_alive(pid)]
        if alive:
            os.kill(rng.choice(alive), signal.SIGKILL)
    elif what == "redis":
        redis.stop()
        time.sleep(rng.uniform(0.1, 0.3))  # an outage: no condition to wait for
        redis.start()
    else:
        hub.fault = what
        time.sleep(rng.uniform(0.1, 0.3))  # an outage: no condition to wait for
        hub.fault = None


def assert_ids_are_kept(taken, sent):
    """Of each update the id tells its documents, and of each document the message."""
    for update, documents in taken:
        for document in documents:
            topic, payload = sent[int(document["id"].removeprefix(f"{SPOOL}-"))]
            assert (document["topic"], str(document["payload"])) == (topic, payload)
        is_batch = documents[0]["topic"].startswith("batch/")
        assert update == f"urn:mqtt-bridge:{documents[0]['id']}" + (f"+{len(documents) - 1}" if is_batch else "")


def assert_nothing_is_lost(taken, sent):
    """Each message has been taken, or, with `latest`, a newer one of its topic that is no poison."""
    seen = {int(document["id"].removeprefix(f"{SPOOL}-")) for _, documents in taken for document in documents}
    newest = collections.defaultdict(int)
    for number in seen:
        newest[sent[number][0]] = max(newest[sent[number][0]], number)
    lost = [number for number, (topic, payload) in enumerate(sent) if payload != POISON and number not in seen
            and not (topic.startswith("latest/") and newest[topic] > number)]
    assert not lost, f"{len(lost)} are lost: {[sent[number] for number in lost[:5]]}"


def test_windows_and_handlers_under_seeded_faults_lose_nothing(bridge, folder, redis, database, rng, starts):
    hub = Hub()
    bridge.settings["mercure"]["url"] = hub.url
    bridge.settings["worker"]["count"] = 2
    bridge.settings["handler:test"] = {"command": handler_command(folder, HANDLER, folder / "starts")}
    bridge.settings["route:latest"] = {"match": "latest/#", "publish": "latest", "window": "50ms"}
    bridge.settings["route:batch"] = {"match": "batch/#", "publish": "batch", "window": "50ms", "batch_topic": "batch"}
    bridge.settings["route:handler"] = {"match": "handler/#", "handler": "test"}
    sent = messages()
    faults = [*FAULTS, *rng.choices(FAULTS, k=PARTS - len(FAULTS))]
    rng.shuffle(faults)
    print(f"faults: {faults}")
    try:
        bridge.start(wait=False)
        wait_until(lambda: len(starts()) >= 2, PATIENCE, "both handlers run")
        for part, fault in enumerate(faults):
            pipeline = redis.client.pipeline(transaction=False)
            for number in range(part * len(sent) // len(faults), (part + 1) * len(sent) // len(faults)):
                pipeline.xadd("messages", {"message": php_value(*sent[number], {"X-Mqtt-Id": f"{SPOOL}-{number}"})})
            pipeline.execute()
            time.sleep(rng.uniform(0, 0.2))  # the moment of the fault: no condition to wait for
            break_something(rng, fault, bridge, redis, hub, starts)
        redis.wait_drained(PATIENCE)
    finally:
        hub.close()
    assert_ids_are_kept(hub.taken, sent)
    assert_nothing_is_lost(hub.taken, sent)
    rows = database.failures()
    assert sorted(row["body"].count(POISON) for row in rows) == [1] * 7, [row["body"] for row in rows]
