"""TLS to Sentinels and to a Cluster: each server of them is asked over TLS, and its certificate is checked."""

import pytest
from bridge import wait_until
from bridge.consumer import assert_all, numbered
from bridge.redis_kinds import Cluster, SentinelGroup, TlsRedis


@pytest.fixture
def make_redis(makers, authority):
    """With TLS alone, between the servers as well."""
    def make(*arguments, password=None):
        assert password is None
        return makers.keep(TlsRedis(makers.new_folder("redis"), authority, arguments=[
            *arguments, "--tls-replication", "yes", *(["--tls-cluster", "yes"] if "--cluster-enabled" in arguments else [])
        ])).start()
    return make


def secured(dsn, authority):
    return dsn.replace("redis://", "rediss://") + ("&" if "?" in dsn else "?") + f"ssl[cafile]={authority.certificate}"


def test_a_fail_over_among_servers_with_tls_is_followed(make_consumer, make_redis, makers, authority, publisher, check):
    group = SentinelGroup(make_redis, makers, authority=authority)
    dsn = secured(group.dsn(), authority)
    assert check(dsn) == (True, "")
    ok, text = check(dsn.split("&ssl")[0])
    assert not ok and "certificate" in text
    consumer = make_consumer(store=group.primary)
    consumer.set("transport:async", dsn=dsn).start()
    sent = numbered(600)
    publisher.publish_all(sent[:300])
    consumer.wait_entries(300)
    group.primary.kill()
    publisher.publish_all(sent[300:])
    group.wait_promoted(group.replica)
    consumer.redis = group.replica
    publisher.wait_confirmed()
    assert_all(sent, consumer.wait_idle(publisher))


def test_a_slot_that_moves_among_nodes_with_tls_is_followed(make_consumer, make_redis, authority, publisher, check):
    cluster = Cluster(make_redis)
    dsn = secured(cluster.dsn(), authority)
    assert check(dsn) == (True, "")
    ok, text = check(secured(cluster.dsn(), authority).split("?ssl")[0])
    assert not ok and "certificate" in text
    source = cluster.owner()
    target = next(node for node in cluster.nodes if node is not source)
    consumer = make_consumer(store=source)
    consumer.set("transport:async", dsn=dsn).set("log", level="info").start()
    sent = numbered(1000)
    publishing = publisher.start_all(sent, rate=500)
    wait_until(lambda: source.client.xlen("{messages}") > 100, 20, "some are there")
    cluster.move(source, target)
    publishing.join()
    publisher.wait_confirmed()
    wait_until(lambda: target.client.xlen("{messages}") >= 1000, 30, lambda: f"all are there\n{consumer.process.log_tail(30)}")
    consumer.redis = target
    assert_all(sent, consumer.entries("{messages}"))
    assert "MOVED" in consumer.log()
