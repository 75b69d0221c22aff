"""stack      the stack of compose.yaml, healthy; one for the run
publisher  a connected device
browser    Chromium"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from stack import Stack

E2E = Path(__file__).resolve().parents[1] / "e2e"


@pytest.fixture(scope="session")
def whole_stack():
    stack = Stack()
    try:
        stack.up("--build")
        yield stack
    finally:
        if os.environ.get("MQTT_BRIDGE_KEEP"):
            print(f"\nkept: {stack.project}")
        else:
            stack.close()


@pytest.fixture
def stack(whole_stack, request):
    request.node.compose_stack = whole_stack
    whole_stack.up()
    return whole_stack


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    stack = getattr(item, "compose_stack", None)
    if report.failed and stack:
        report.sections.append(("the stack's logs", stack.log_tail()))


@pytest.fixture
def publisher(stack):
    publisher = stack.publisher()
    yield publisher
    publisher.close()


@pytest.fixture
def browser():
    sys.path.insert(0, str(E2E))
    spec = importlib.util.spec_from_file_location("e2e_conftest", E2E / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    browser = module.start_browser()
    yield browser
    browser.quit()
