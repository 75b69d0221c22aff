"""A second consumer group on our stream: what is acknowledged here is deleted for it as well, and that is logged."""

import json

from bridge import wait_until
from bridge.entries import add

SAID = "reads the stream beside our group symfony, and loses each entry that we acknowledge"


def test_another_group_is_logged_when_the_worker_connects(bridge, redis, hub):
    redis.client.xgroup_create("messages", "analytics", "0", mkstream=True)
    worker = bridge.run_program("worker")
    wait_until(lambda: f"analytics {SAID}" in worker.log(), 15, worker.log_tail)
    redis.client.xgroup_destroy("messages", "analytics")
    redis.client.client_kill_filter(_type="normal", skipme=True)
    wait_until(lambda: "no other group reads the stream now" in worker.log(), 15, worker.log_tail)


def test_another_group_is_no_fault_where_entries_are_kept(bridge, redis, sse):
    bridge.settings["transport:async"]["dsn"] = redis.dsn(delete_after_ack=0, delete_after_reject=0)
    redis.client.xgroup_create("messages", "analytics", "0", mkstream=True)
    worker = bridge.run_program("worker")
    add(redis, "a/b", "1")
    sse.wait_topic("a/b")
    assert SAID not in worker.log()
    wait_until(lambda: redis.pending() == 0, 15, "it is acknowledged")
    (_, entries), = redis.client.xreadgroup("analytics", "other", {"messages": ">"})
    assert len(entries) == 1, "the other group has it, too"


def test_the_status_shows_another_group(bridge, redis):
    bridge.start()
    redis.client.xgroup_create("messages", "analytics", "0", mkstream=True)
    wait_until(lambda: json.loads(bridge.cli("status", "--json").stdout)["transport"]["other_groups"] == 1, 15,
               lambda: bridge.cli("status").stdout, every=0.2)
    assert "1 other consumer group on the stream of async" in bridge.cli("status").stdout
