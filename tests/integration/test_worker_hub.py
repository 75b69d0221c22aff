"""The worker and a hub that is there and yet does not take everything: updates that are too large, a token for some
topics only, a limiter, messages that somebody on the way chokes on."""

from bridge import wait_until
from bridge.entries import failed_rows, php_value

MIB = 1024 * 1024


def is_sanitized(process):
    """A sanitizer keeps what was freed for a while."""
    with open(f"/proc/{process.pid}/maps", encoding="ascii") as maps:
        return "libasan" in maps.read()


def resident_bytes(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def test_updates_that_are_too_large_for_the_hub_leave_no_memory_behind(bridge, redis, hub, database):
    """Each becomes six times as long in a form, on all connections."""
    process = bridge.run_program("worker")
    wait_until(lambda: "is ready" in process.log(), 15, "the worker is ready")
    for size, count in ((5_000_000, 32), (1_600_000, 32), (11_000_000, 2)):
        value = php_value("big/TOPIC", '"' * size)
        for number in range(count):
            redis.client.xadd("messages", {"message": value.replace(b"TOPIC", b"%05d" % number)})
        redis.wait_drained(120)
    assert len(failed_rows(database)) == 34
    wait_until(lambda: resident_bytes(process) < 64 * MIB + 128 * MIB or is_sanitized(process), 10,
               lambda: f"prefetch_bytes and something: {resident_bytes(process) // MIB} MiB")
