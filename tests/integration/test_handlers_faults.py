"""[handler:NAME]: a program that breaks the rules of docs/HANDLERS.md, each in its own way, and what the log says of it.
No message may be lost, and other messages go on."""

import json
import signal

import pytest
from bridge import wait_until
from bridge.entries import add_many
from bridge.handlers import handler_command
from bridge.process import is_alive

# A payload that is no JSON is Python, and is run; any other message is echoed. The first start runs the file `first`.
SCRIPT = '''
import json, os, signal, subprocess, sys, time
folder = sys.argv[1]
def note(name, text):
    with open(f"{folder}/{name}", "a") as file:
        file.write(text + "\\n")
def write(line):
    data = line if isinstance(line, bytes) else line.encode()
    while data:
        data = data[os.write(1, data):]
def echo():
    write(json.dumps({"id": id, "updates": [{"data": message}]}) + "\\n")
is_first = not os.path.exists(f"{folder}/starts")
note("starts", str(os.getpid()))
if is_first and os.path.exists(f"{folder}/first"):
    exec(open(f"{folder}/first").read())
write('{"ready":true}\\n')
for line in sys.stdin:
    message = json.loads(line)
    note("given", line.strip())
    id = message["id"]
    if isinstance(message["payload"], str):
        exec(message["payload"])
    else:
        echo()
'''

OTHERS = [(f"plant/{number}", "1") for number in range(20)]


@pytest.fixture
def start(bridge, folder):
    """start(first, **keys): a worker whose messages go to that script, but for those on plain/#."""
    def start_worker(first=None, **keys):
        if first is not None:
            (folder / "first").write_text(first)
        bridge.settings["worker"] |= {"handler": "test", "delivery_limit": 1}
        bridge.settings["route:plain"] = {"match": "plain/#"}
        bridge.settings["handler:test"] = {
            "command": handler_command(folder, SCRIPT, folder), "inflight": "8", **keys}
        bridge.settings["retry"] = {"max_retries": 0}
        return bridge.run_program("worker")
    return start_worker


def attempts(noted):
    """How often each topic was given."""
    counts = {}
    for line in noted("given"):
        topic = json.loads(line)["topic"]
        counts[topic] = counts.get(topic, 0) + 1
    return counts


def topics(sse):
    return sorted(event.document["topic"] for event in sse.caught_up())


CLOSED = "it closed its standard {} and did not end: killed after 2000 ms"


@pytest.mark.parametrize("bad, why", [
    pytest.param("os.close(1); time.sleep(600)", CLOSED.format("output"), id="closes its output and lives"),
    pytest.param("os.close(0); time.sleep(600)", CLOSED.format("input"), id="closes its input and lives"),
    pytest.param("""write('{"ready":true}\\n'); time.sleep(600)""", "it says a second time that it is ready",
                 id="is ready twice"),
    pytest.param("""write('{"id":"' + id); os._exit(5)""", "exit code 5", id="dies behind half a line"),
    pytest.param("""write(b'{"id":"' + id.encode() + b'","updates":[{"data":"\\xff"}]}\\n'); time.sleep(600)""",
                 "it wrote a line that is no answer: it is no JSON object", id="writes no UTF-8"),
    pytest.param("""write('{"id":"' + id + '","updates":[{"data":"\\0"}]}\\n'); time.sleep(600)""",
                 "it wrote a line that is no answer: it is no JSON object", id="writes a NUL"),
    pytest.param("""subprocess.Popen(["sleep", "600"]); os._exit(7)""", "exit code 7", id="leaves a child with its pipes"),
    pytest.param("""subprocess.Popen(["sleep", "30"], start_new_session=True); os.kill(os.getpid(), signal.SIGSEGV)""",
                 "signal SIGSEGV", id="leaves a child in another session"),
])
def test_a_message_that_breaks_its_handler_goes_aside_alone(start, redis, sse, database, noted, bad, why):
    process = start()
    add_many(redis, [*OTHERS[:10], ("bad", bad), *OTHERS[10:]])
    redis.wait_drained(20)
    [row] = database.failures()
    assert f"its worker or handler died 1 times, the last time: {why}" in row["body"].replace('\\\\\\"', '"')
    assert topics(sse) == sorted(topic for topic, _ in OTHERS)
    assert f"[handler:test] died: {why}" in process.log()
    assert attempts(noted)["bad"] == 2


@pytest.mark.parametrize("bad, told", [
    pytest.param("echo(); echo(); time.sleep(600)", "it answered for a message that it does not have: ",
                 id="answers twice"),
    pytest.param("echo(); os._exit(6)", "exit code 6", id="answers and dies"),
    pytest.param("""echo(); write('{"id":'); os._exit(6)""", "exit code 6", id="answers and dies behind half a line"),
    pytest.param("echo(); os.close(1); sys.exit(8)", "exit code 8", id="answers and closes its output"),
])
def test_an_answer_counts_that_a_handler_wrote_before_its_end(start, redis, sse, database, noted, bad, told):
    process = start()
    add_many(redis, [*OTHERS[:10], ("bad", bad), *OTHERS[10:]])
    redis.wait_drained(20)
    assert topics(sse) == sorted(["bad"] + [topic for topic, _ in OTHERS]) and database.failures() == []
    wait_until(lambda: len(noted("starts")) == 2, 10, "it is started again, once")
    wait_until(lambda: f": {told}" in process.log(), 10, process.log)
    assert attempts(noted)["bad"] == 1


@pytest.mark.parametrize("first, timeout, why", [
    pytest.param("write('Hello\\n'); time.sleep(600)", "30s", 'its first line is not {"ready":true} but: Hello',
                 id="says something else"),
    pytest.param("time.sleep(600)", "2s", "it was not ready within its timeout of 2000 ms", id="hangs"),
    pytest.param("os.close(1); time.sleep(600)", "30s", CLOSED.format("output"), id="closes its output"),
    pytest.param("os.close(0); time.sleep(600)", "30s", CLOSED.format("input"), id="closes its input"),
    pytest.param("""subprocess.Popen(["sleep", "600"]); sys.exit("no luck")""", "30s", "exit code 1 (no luck)",
                 id="leaves a child"),
])
def test_a_handler_that_does_not_get_ready_costs_no_attempt(start, redis, sse, database, noted, first, timeout, why):
    process = start(first, timeout=timeout)
    add_many(redis, [*OTHERS, ("plain/1", "1")])
    assert sse.wait_count(21)[0].document["topic"] == "plain/1", "others go on meanwhile"
    redis.wait_drained()
    assert f"[handler:test] does not run: {why}" in process.log()
    assert "[handler:test] is ready again" in process.log()
    assert [json.loads(line)["attempt"] for line in noted("given")] == [1] * 20 and database.failures() == []


def test_a_handler_that_reads_nothing_is_replaced_and_nothing_is_lost(start, redis, sse, database, noted):
    """More is written to it than its pipe takes."""
    process = start("""write('{"ready":true}\\n'); time.sleep(600)""", timeout="3s")
    large = [(f"plant/large/{number}", json.dumps(["x" * 100_000])) for number in range(8)]
    add_many(redis, [*large, *OTHERS, ("plain/1", "1")])
    assert sse.wait_count(29)[0].document["topic"] == "plain/1", "others go on meanwhile"
    redis.wait_drained()
    assert "[handler:test] died: a message was not answered within its timeout of 3000 ms" in process.log()
    assert len(noted("starts")) == 2 and database.failures() == []
    assert set(attempts(noted).values()) == {1}


def test_a_flood_on_standard_error_is_cut_in_the_log_and_harms_nothing(start, redis, sse, database):
    process = start()
    flood = "for number in range(500): print('F' * 3000, file=sys.stderr, flush=True)\necho()"
    add_many(redis, [("flood", flood), *OTHERS])
    sse.wait_count(21)

    def is_told():
        add_many(redis, [("late", "print('late', file=sys.stderr, flush=True); echo()")])
        return "[handler:test] wrote more than 100 lines in a second: " in process.log()
    wait_until(is_told, 10, process.log, every=0.2)
    redis.wait_drained()
    lines = [line for line in process.log().splitlines() if "FFF" in line]
    assert 100 <= len(lines) < 500 and all(line.count("F") == 1000 for line in lines)
    assert database.failures() == []


def test_lines_left_out_of_the_log_are_counted_when_a_handler_ends(start, redis, sse, database):
    flood = "for number in range(1000): print('F', file=sys.stderr, flush=True)\nsys.exit(3)"
    process = start(flood)
    add_many(redis, OTHERS)
    sse.wait_count(20)
    redis.wait_drained()
    assert "[handler:test] wrote more than 100 lines in a second: " in process.log()
    assert database.failures() == []


def test_a_handler_that_ignores_sigterm_is_killed_at_the_end(start, redis, sse, noted):
    process = start("""signal.signal(signal.SIGTERM, lambda *_: note("ended", "SIGTERM"))
write('{"ready":true}\\n')
for line in sys.stdin:
    message = json.loads(line)
    id = message["id"]
    echo()
note("ended", "end of input")
while True:
    time.sleep(600)""")
    add_many(redis, OTHERS)
    sse.wait_count(20)
    redis.wait_drained()
    assert process.stop(with_signal=signal.SIGTERM) == 0
    assert noted("ended") == ["end of input", "SIGTERM"]
    wait_until(lambda: not is_alive(int(noted("starts")[0])), 10, "it is killed")
    assert "[handler:test] died" not in process.log()
