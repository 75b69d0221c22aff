"""Scripts that a test runs as [handler:NAME], and what they note in the test's folder."""

import json
import shlex
import sys

import pytest


def handler_command(folder, script, *arguments):
    """Writes the Python script as handler.py into the folder, and returns the command that runs it."""
    path = folder / "handler.py"
    path.write_text(script)
    return shlex.join([sys.executable, str(path), *map(str, arguments)])


@pytest.fixture
def noted(folder):
    """noted(name): the lines of that file in the test's folder; none before there is one."""
    def lines(name):
        path = folder / name
        return path.read_text().splitlines() if path.exists() else []
    return lines


@pytest.fixture
def given(noted):
    """What the handlers have been given, in order: the lines of the file `given`."""
    return lambda: [json.loads(line) for line in noted("given")]


@pytest.fixture
def starts(noted):
    """The handlers' process ids, in order: the lines of the file `starts`."""
    return lambda: [int(line) for line in noted("starts")]
