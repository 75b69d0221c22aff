"""What may be broken in a round: each break begins, holds for a while and ends."""

import contextlib
from typing import Callable, NamedTuple


class Break(NamedTuple):
    name: str
    target: str       # two breaks at once are of two targets
    begin: Callable
    end: Callable
    longest: float    # seconds that it holds


def nothing():
    pass


def consumer_breaks(lab):
    def kill():
        lab.link.note()
        lab.consumer.process.kill()

    def stop():
        lab.link.note()
        lab.stop_consumer()

    def start():
        lab.consumer.start(wait=False)

    process = lab.consumer
    return [Break("consumer killed", "consumer", kill, start, 1.0),
            Break("consumer stopped", "consumer", stop, start, 1.0),
            Break("consumer frozen", "consumer", lambda: process.process.freeze(), lambda: process.process.thaw(), 4.0)]


def redis_breaks(lab):
    redis, link = lab.redis, lab.redis_link
    return [Break("Redis killed", "redis", redis.kill, redis.start, 1.0),
            Break("Redis stopped", "redis", redis.stop, redis.start, 1.0),
            Break("Redis frozen", "redis", redis.freeze, redis.thaw, 4.0),
            Break("link to Redis cut", "redis", link.cut, nothing, 0.1),
            Break("link to Redis stalled", "redis", link.stall, link.flow, 4.0),
            Break("link to Redis slow", "redis", *limited(link, 300_000), 3.0)]


def limited(link, rate, latency=0.0):
    def begin():
        link.before = link.rate, link.latency
        link.rate, link.latency = rate, latency

    def end():
        link.rate, link.latency = link.before
    return begin, end


def network_breaks(lab):
    link = lab.link

    def cut():
        link.note()
        link.cut()

    def refuse():
        link.refusing = True
        cut()

    def accept():
        link.refusing = False

    def deafen():
        link.deaf = True

    def hear():
        cut()
        link.deaf = False

    return [Break("link cut", "link", cut, nothing, 0.1),
            Break("acknowledgements lost", "link", deafen, hear, 2.0),
            Break("link stalled", "link", link.stall, link.flow, 4.0),
            Break("link slow", "link", *limited(link, 100_000), 3.0),
            Break("link late", "link", *limited(link, None, 0.05), 2.0),
            Break("balancer without a backend", "link", refuse, accept, 6.0)]


def broker_breaks(lab):
    """The device publishes nothing while the broker is away: what it would send again, the broker would have twice."""
    broker, pause = lab.broker, contextlib.ExitStack()

    def stop():
        pause.enter_context(lab.device_paused())
        lab.link.note()
        broker.stop()

    def start():
        broker.start()
        pause.close()

    return [Break("broker stopped", "link", stop, start, 1.0),
            Break("broker frozen", "link", broker.freeze, broker.thaw, 3.0)]


def all_breaks(lab, kind):
    """Those of the round's kind more often."""
    groups = {"consumer": consumer_breaks(lab), "redis": redis_breaks(lab), "network": network_breaks(lab),
              "broker": broker_breaks(lab)}
    if kind == "slow":
        return [each for each in groups["consumer"] + groups["network"] if each.name in
                ("consumer killed", "consumer stopped", "link cut")]
    return [each for group in groups.values() for each in group] + 2 * groups.get(kind, [])
