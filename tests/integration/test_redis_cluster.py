"""A Cluster: the node of our slot is found, also when the slot moves under load and when nodes fail."""

import subprocess
import threading

import pytest
import redis as redis_py
from bridge import wait_until
from bridge.consumer import assert_all, numbered
from bridge.failures import add_rows, start_cli
from bridge.failures import numbered as numbered_rows
from bridge.redis_kinds import Cluster

STREAM = "{messages}"


@pytest.fixture
def cluster(make_redis):
    return Cluster(make_redis)


def move_there_and_back(cluster, moves, faults):
    try:
        for _ in range(moves):
            source = cluster.owner()
            cluster.move(source, next(node for node in cluster.nodes if node is not source))
    except Exception as fault:  # pylint: disable=broad-except
        faults.append(fault)


def start_moving(cluster, moves):
    faults = []
    thread = threading.Thread(target=move_there_and_back, args=(cluster, moves, faults))
    thread.start()
    return thread, faults


def test_a_slot_that_moves_under_load_loses_and_doubles_nothing(make_consumer, cluster, publisher):
    consumer = make_consumer(store=cluster.owner())
    consumer.set("transport:async", dsn=cluster.dsn()).set("log", level="info").start()
    sent = numbered(6000)
    publishing = publisher.start_all(sent, rate=1500)
    wait_until(lambda: cluster.owner().client.xlen(STREAM) > 200, 20, "some are there")
    moving, faults = start_moving(cluster, 2)
    publishing.join()
    moving.join()
    assert not faults
    publisher.wait_confirmed()
    node = cluster.owner()
    wait_until(lambda: node.client.xlen(STREAM) >= 6000, 30, lambda: f"6000 entries; there are "
               f"{node.client.xlen(STREAM)}\n{consumer.process.log_tail(30)}")
    assert_all(sent, consumer_entries(consumer, node))
    assert "MOVED" in consumer.log()


def consumer_entries(consumer, node):
    consumer.redis = node
    return consumer.entries(STREAM)


def length_at_importer(node):
    """Of the stream, at the node to which its slot moves."""
    client = redis_py.Redis(port=node.port, single_connection_client=True)
    client.execute_command("ASKING")
    return client.xlen(STREAM)


def test_appends_follow_ask_to_keys_moved_ahead_of_their_slot(make_consumer, cluster, publisher):
    source = cluster.owner()
    target = next(node for node in cluster.nodes if node is not source)
    consumer = make_consumer(store=source)
    consumer.set("transport:async", dsn=cluster.dsn()).start()
    sent = numbered(300)
    publisher.publish_all(sent[:100])
    wait_until(lambda: source.client.xlen(STREAM) == 100, 20, "the first are there")
    cluster.begin_move(source, target)
    cluster.move_keys(source, target)
    publisher.publish_all(sent[100:200])
    wait_until(lambda: length_at_importer(target) == 200, 20, lambda: f"ASK is followed\n{consumer.process.log_tail()}")
    consumer.restart()
    publisher.publish_all(sent[200:])
    wait_until(lambda: length_at_importer(target) == 300, 20, lambda: f"ASK is followed\n{consumer.process.log_tail()}")
    cluster.end_move(source, target)
    assert_all(sent, consumer_entries(consumer, target))


def test_a_retry_waits_while_a_slot_moves(make_bridge, cluster, database):
    bridge = make_bridge(database=database)
    bridge.settings["transport:async"]["dsn"] = cluster.dsn()
    add_rows(database, numbered_rows(10))
    source = cluster.owner()
    target = next(node for node in cluster.nodes if node is not source)
    source.client.xadd(STREAM, {"message": "x"})
    cluster.begin_move(source, target)  # its scripts are told TRYAGAIN: one of their keys is not there yet
    retry = start_cli(bridge, "retry", "--all", "-y")
    with pytest.raises(subprocess.TimeoutExpired):
        retry.wait(1)
    cluster.move_keys(source, target)
    cluster.end_move(source, target)
    assert "10 messages dispatched" in retry.communicate(timeout=20)[0]
    assert target.client.xlen(STREAM) == 11 and database.failures() == []


def test_the_whole_bridge_goes_on_while_its_slot_moves(make_bridge, cluster, mosquitto, hub, database, publisher, sse):
    source = cluster.owner()
    bridge = make_bridge(mosquitto=mosquitto, redis=source, hub=hub, database=database)
    bridge.settings["transport:async"]["dsn"] = cluster.dsn(nodes=cluster.nodes[::-1])
    bridge.start()
    sent = numbered(3000)
    publishing = publisher.start_all(sent, rate=1000)
    sse.wait_count(100, 20)
    moving, faults = start_moving(cluster, 1)
    publishing.join()
    moving.join()
    assert not faults
    wait_until(lambda: len({event.id for event in sse.events}) >= 3000, 40,
               lambda: f"3000 updates; there are {len(sse)}\n{bridge.supervisor.log_tail(40)}")
    cluster.owner().wait_drained(20, STREAM)
    bridge.wait_ready()


def test_check_says_what_is_wrong_with_a_cluster(make_bridge, cluster, check):
    assert check(cluster.dsn()) == (True, "")
    other = next(node for node in cluster.nodes if node is not cluster.owner())
    assert check(cluster.dsn(nodes=[other], cluster="true")) == (True, "")
    untagged = make_bridge()
    untagged.settings["transport:async"]["dsn"] = cluster.dsn("messages")
    refused = untagged.cli("check", check=False)
    assert refused.returncode == 2 and "needs a hash tag" in refused.stderr and "{messages}" in refused.stderr
    cluster.owner().kill()
    ok, text = check(cluster.dsn(nodes=[other], cluster="true"))
    assert not ok and ("Connection refused" in text or "CLUSTERDOWN" in text)


def test_a_cluster_that_is_down_is_waited_for(make_consumer, cluster, publisher):
    owner = cluster.owner()
    consumer = make_consumer(store=owner)
    consumer.set("transport:async", dsn=cluster.dsn()).start()
    sent = numbered(400)
    publisher.publish_all(sent[:200])
    wait_until(lambda: owner.client.xlen(STREAM) == 200, 20, "the first are there")
    others = [node for node in cluster.nodes if node is not owner]
    for node in others:
        node.kill()
    wait_until(lambda: cluster.state(owner)["cluster_state"] == "fail", 20, "the Cluster is down")
    publisher.publish_all(sent[200:])
    consumer.wait_log("CLUSTERDOWN")
    for node in others:
        node.start()
    wait_until(lambda: cluster.state(owner)["cluster_state"] == "ok", 20, "the Cluster is whole again")
    wait_until(lambda: owner.client.xlen(STREAM) == 400, 30, lambda: f"all are there\n{consumer.process.log_tail(30)}")
    assert_all(sent, consumer_entries(consumer, owner))
