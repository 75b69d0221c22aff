"""Sentinels: the primary is found, a fail-over is noticed and followed, and nothing is lost or doubled by it."""

import socketserver
import threading

import pytest
from bridge import wait_until
from bridge.consumer import assert_all, numbered
from bridge.redis_kinds import SentinelGroup

SENTINEL_PASSWORD = "watch men"


@pytest.fixture
def group(make_redis, makers):
    return SentinelGroup(make_redis, makers)


def large(count):
    return [("large", f"{number:04d}" + "x" * 40_000) for number in range(count)]


def test_a_fail_over_to_a_lagging_replica_loses_and_doubles_nothing(make_consumer, group, publisher):
    consumer = make_consumer(store=group.primary)
    consumer.set("transport:async", dsn=group.dsn()).set("log", level="info").start()
    before, behind, after = numbered(500, "before/{}"), large(500), numbered(1500, "after/{}")
    publisher.publish_all(before)
    consumer.wait_entries(500)
    # More than the sockets between primary and replica hold: it lags, and it never gets the rest.
    group.replica.freeze()
    publisher.publish_all(behind)
    consumer.wait_entries(1000)
    thread = publisher.start_all(after, rate=500)
    group.primary.kill()
    group.replica.thaw()
    assert group.replica.client.xlen("messages") < 1000
    group.wait_promoted(group.replica)
    consumer.redis = group.replica
    thread.join()
    publisher.wait_confirmed()
    entries = consumer.wait_idle(publisher)
    assert_all(before + behind + after, entries)
    assert "has lost messages that it had taken: sending them again" in consumer.log()


def test_a_dsn_that_names_the_sentinels_instead_repeats_nothing(make_consumer, group, publisher):
    """The spool for the primary's own address is sent to the server that has its mark: the same one."""
    consumer = make_consumer(store=group.primary)
    consumer.set("supervisor", stop_timeout="2s").start()
    sent = numbered(600)
    publisher.publish_all(sent[:200])
    consumer.wait_entries(200)
    servers = [*group.sentinels, group.primary]  # no Sentinel is to take it for dead
    for server in servers:
        server.freeze()
    publisher.publish_all(sent[200:400])
    consumer.wait_spooled(sent[200:400])
    consumer.stop()
    for server in reversed(servers):
        server.thaw()
    consumer.set("transport:async", dsn=group.dsn()).start()
    publisher.publish_all(sent[400:])
    assert_all(sent, consumer.wait_entries(600))
    assert "has the mark of the spool that was for redis://127.0.0.1" in consumer.log()
    # The Sentinels in another order are the same address.
    group.sentinels.reverse()
    consumer.stop()
    consumer.set("transport:async", dsn=group.dsn()).start()
    publisher.publish("last", "1")
    consumer.wait_entries(601)
    assert len(list((consumer.bridge.state_dir / "spool" / "bridge").glob("*sentinel_master*"))) == 1


def test_a_demoted_primary_is_left_at_once(make_bridge, group, mosquitto, hub, database, publisher, sse):
    """The whole bridge under load, and both servers stay up all the time."""
    bridge = make_bridge(mosquitto=mosquitto, redis=group.primary, hub=hub, database=database)
    bridge.settings["transport:async"]["dsn"] = group.dsn()
    bridge.start()
    sent = numbered(6000)
    thread = publisher.start_all(sent, rate=1000)
    sse.wait_count(300, 20)
    group.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", "mymaster")
    group.wait_promoted(group.replica)
    seen = len(sse)
    sse.wait_count(seen + 100, 8)
    thread.join()
    wait_until(lambda: len({event.id for event in sse.events}) >= len(sent), 30,
               lambda: f"{len(sent)} updates; there are {len(sse)}")
    group.replica.wait_drained()
    bridge.wait_ready()


def test_sentinels_may_have_a_password_and_one_of_them_be_down(make_redis, makers, check):
    group = SentinelGroup(make_redis, makers, password=SENTINEL_PASSWORD)
    ok, text = check(group.dsn())
    assert not ok and "NOAUTH" in text and "the Sentinels' own password is sentinel_auth" in text
    ok, text = check(group.dsn(sentinel_auth="wrong"))
    assert not ok and "WRONGPASS" in text and "sentinel_auth" in text
    for sentinel in group.sentinels:
        sentinel.client.execute_command("ACL", "SETUSER", "bridge", "on", ">own", "+sentinel|get-master-addr-by-name")
    group.sentinels[0].kill()
    assert check(group.dsn(sentinel_auth="watch%20men")) == (True, "")
    assert check(group.dsn() + "&sentinel_auth[]=bridge&sentinel_auth[]=own") == (True, "")
    dsn = group.dsn(sentinel_auth="watch%20men")
    ok, text = check(dsn.replace("=mymaster", "=other"))
    assert not ok and 'knows no primary "other"; see sentinel_master' in text
    for sentinel in group.sentinels[1:]:
        sentinel.kill()
    ok, text = check(dsn)
    assert not ok and f"the Sentinel 127.0.0.1:{group.sentinels[2].port}: Connection refused" in text


def test_a_server_that_is_no_sentinel_is_reported(make_redis, check):
    redis = make_redis()
    ok, text = check(redis.dsn(sentinel_master="mymaster"))
    assert not ok and "is it a Sentinel?" in text


class Liar(socketserver.StreamRequestHandler):
    """A Sentinel that has not noticed the last fail-over."""

    def handle(self):
        while (line := self.rfile.readline()).startswith(b"*"):
            for _ in range(int(line[1:])):
                self.rfile.read(int(self.rfile.readline()[1:]) + 2)
            port = str(self.server.replica).encode()
            self.wfile.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port))


def test_a_replica_that_a_stale_sentinel_names_is_not_taken(make_redis, make_consumer, publisher):
    """The next Sentinel, here the same server under another name, knows better meanwhile."""
    primary, replica = make_redis(), make_redis()
    replica.client.replicaof("127.0.0.1", primary.port)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Liar) as server:
        server.replica, server.daemon_threads = replica.port, True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        consumer = make_consumer(store=replica)
        dsn = f"redis://127.0.0.1:{server.server_address[1]}/messages?sentinel_master=mymaster"
        consumer.set("transport:async", dsn=dsn).start()
        consumer.wait_log(f"the primary 127.0.0.1:{replica.port}: is a replica; the Sentinels are asked again")
        publisher.publish("one", "1")
        replica.client.replicaof("NO", "ONE")
        consumer.wait_entries(1)
        server.shutdown()
