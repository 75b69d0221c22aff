"""What the tests across processes stand on: the real servers, the bridge, an SSE and an MQTT client.

Each server or program is an object that owns its port, folder and process. It offers start, stop, kill, freeze and
thaw. The port and the data stay the same over a restart. fixtures.py hands them to tests. Tests wait for conditions
(wait_until), never for seconds."""

from .account import Account, account, account_when_seen
from .hub import Hub, jwt
from .mqtt import Publisher
from .php import PhpPeer
from .process import Process, free_port, wait_until
from .program import Bridge, build_folder
from .servers import Mosquitto, Postgres, Redis
from .sse import SseClient

__all__ = ["Account", "Bridge", "Hub", "Mosquitto", "PhpPeer", "Postgres", "Process", "Publisher", "Redis",
           "SseClient", "account", "account_when_seen", "build_folder", "free_port", "jwt", "wait_until"]
