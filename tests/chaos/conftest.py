"""The load that each chaos test is under, and the servers that it may break."""

import pytest
from load import Load


@pytest.fixture
def load(publisher, sse, redis):
    return Load(publisher, sse, redis)


@pytest.fixture
def own_hub(make_hub):
    """One that may be broken; with a history, for a browser that was cut off."""
    return make_hub(history=100000)


@pytest.fixture
def own_postgres(make_postgres):
    return make_postgres()


@pytest.fixture
def fragile(make_bridge, mosquitto, redis, own_hub, own_postgres):
    """A bridge, not started, on servers that are all the test's own; fragile.database is where failures go."""
    database = own_postgres.create_database()
    bridge = make_bridge(mosquitto=mosquitto, redis=redis, hub=own_hub, database=database)
    bridge.database = database
    return bridge


@pytest.fixture
def own_load(publisher, own_hub, redis, makers):
    """The load with a browser at own_hub."""
    return Load(publisher, makers.keep(own_hub.subscribe("*")), redis)
