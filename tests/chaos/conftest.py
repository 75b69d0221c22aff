"""The load that each chaos test is under."""

import pytest
from load import Load


@pytest.fixture
def load(publisher, sse, redis):
    return Load(publisher, sse, redis)
