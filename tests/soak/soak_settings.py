"""What a round of the soak is made of, drawn from its seed."""

import random
from dataclasses import dataclass

KILOBYTE = 1000
# Each kind of round comes in turn, so that ten minutes have all of them several times.
KINDS = ["backlog", "broker", "live", "set back", "backlog", "network"]
SLOW = "slow"
RECEIVE_MAXIMUM = [20, 100, 1000, 5000, 20000]


@dataclass
class Settings:
    seed: str
    kind: str
    qos: int
    version: str
    receive_maximum: int
    inflight: int          # the broker's own limit; 0: none
    backlog: int           # messages that wait when the consumer starts
    live: int              # messages that are published while things break
    rate: int              # of those, a second
    size: int              # of a payload
    retain: str            # of the spool
    keepalive: str
    breaks: int
    link_rate: int = None  # bytes a second, for the whole round

    def __str__(self):
        link = f" over {self.link_rate // KILOBYTE} kB/s" if self.link_rate else ""
        return (f"v{self.version} q{self.qos} rm {self.receive_maximum} in flight {self.inflight or 'any'} "
                f"{self.backlog}+{self.live} of {self.size} B{link} retain {self.retain} ka {self.keepalive}")


def draw(seed, number, scale=1.0):
    """Of the round's number. scale: a part of the work, for a short run."""
    kind = KINDS[number % len(KINDS)]
    name = f"{seed}/{number}"
    rng = random.Random(name)
    qos = 1 + (number + number // len(KINDS)) % 2  # each kind has both in turn
    # Mosquitto 2.0.11 walks through all that is in flight at each answer. It has no limit of its own under 3.1.1 or
    # behind the first answer. So 60,000 at QoS 2 take it a minute, whoever reads them.
    largest = 60000 if qos == 1 else 20000
    backlog = {"backlog": largest, "broker": largest // 2, "set back": 5000}.get(kind, rng.choice([0, 2000, 8000]))
    receive_maximum = rng.choice(RECEIVE_MAXIMUM)
    live, rate = (8000, 400) if kind == "set back" else (rng.choice([3000, 8000]), rng.choice([400, 1500]))
    return Settings(
        seed=name, kind=kind, qos=qos, version=rng.choice(["5", "5", "3.1.1"]), receive_maximum=receive_maximum,
        inflight=rng.choice([0, max(1000, receive_maximum)]), backlog=int(backlog * scale),
        live=int(live * scale), rate=rate, size=rng.choice([20, 100, 600]),
        retain=rng.choice(["64M", "64M", "0"]), keepalive=rng.choice(["2s", "30s"]),
        breaks=max(2, int(rng.randint(4, 7) * scale)))


def draw_slow(seed, number, size, link_rate=10 * KILOBYTE):
    """Few messages, the first of which takes longer than any time-out."""
    name = f"{seed}/{SLOW}/{number}"
    rng = random.Random(name)
    return Settings(seed=name, kind=SLOW, qos=rng.choice([1, 2]), version=rng.choice(["5", "3.1.1"]),
                    receive_maximum=rng.choice(RECEIVE_MAXIMUM), inflight=1000, backlog=12, live=20, rate=1, size=size,
                    retain="64M", keepalive="30s", breaks=1, link_rate=link_rate)
