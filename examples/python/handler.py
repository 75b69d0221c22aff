#!/usr/bin/env python3
"""A handler for mqtt-bridge, with nothing but Python's own library: docs/HANDLERS.md is the protocol.

    [handler:example]
    command = python3 /path/to/handler.py

    [worker]
    handler = example

Change handle(). Standard output is the protocol's: print for the log with log(), or to sys.stderr."""

import json
import os
import sys
import time

WRITE_AFTER = 0.01  # seconds: answers are written together, but none waits for longer than one message takes


class Refused(Exception):
    """No use to try this message again."""


def handle(message):
    """What is published of a message: a list of updates, perhaps empty. An exception: it failed."""
    return [{"data": {"topic": message["topic"], "value": message["payload"]}}]


def log(*words):
    print(*words, file=sys.stderr, flush=True)


dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def answer(line):
    message = json.loads(line)
    try:
        return dump({"id": message["id"], "updates": handle(message)})
    except Refused as error:
        return dump({"id": message["id"], "error": str(error), "retry": False})
    except Exception as error:  # whatever it is: this message has failed, and the next one may not
        return dump({"id": message["id"], "error": f"{type(error).__name__}: {error}"})


def write(lines):
    data = "".join(line + "\n" for line in lines).encode()
    while data:
        data = data[os.write(sys.stdout.fileno(), data):]


def answer_all(lines):
    answers, since = [], time.monotonic()
    for line in lines:
        answers.append(answer(line))
        if time.monotonic() - since > WRITE_AFTER:
            write(answers)
            answers, since = [], time.monotonic()
    write(answers)


def main():
    write(['{"ready":true}'])
    rest = b""
    # All that has come is read at once: a system call or two for many messages.
    while data := os.read(sys.stdin.fileno(), 1 << 18):
        *lines, rest = (rest + data).split(b"\n")
        answer_all(lines)


if __name__ == "__main__":
    main()
