"""The fixtures are the same for all tests on real servers: integration/bridge/fixtures.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "integration"))

pytest_plugins = ["bridge.fixtures", "bridge.authority", "bridge.consumer", "bridge.handlers", "bridge.redis_kinds", "bridge.stubs"]
