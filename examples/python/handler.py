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


encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def dump(document):
    try:
        return encode(document).encode()
    except (TypeError, ValueError) as error:
        raise Refused(f"its updates are no JSON: {error}") from error


def to_number(digits):
    try:
        return int(digits)
    except ValueError:  # more digits than Python takes
        return float(digits)


def load(line):
    try:
        return json.loads(line)
    except ValueError:  # the bridge sends nothing but JSON: it is a number
        return json.loads(line, parse_int=to_number)


def fail(message, why, retry):
    return dump({"id": message["id"], "error": why.encode(errors="replace").decode(), "retry": retry})


def answer(line):
    message = load(line)
    try:
        return dump({"id": message["id"], "updates": handle(message)})
    except Refused as error:
        return fail(message, str(error), retry=False)
    except Exception as error:  # whatever it is: this message has failed, and the next one may not
        return fail(message, f"{type(error).__name__}: {error}", retry=True)


def write(lines):
    data = b"".join(line + b"\n" for line in lines)
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
    write([b'{"ready":true}'])
    rest = b""
    # All that has come is read at once: a system call or two for many messages.
    while data := os.read(sys.stdin.fileno(), 1 << 18):
        *lines, rest = (rest + data).split(b"\n")
        answer_all(lines)


if __name__ == "__main__":
    main()
