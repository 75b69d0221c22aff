"""The real Mercure hub."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import subprocess
import time
import urllib.parse
from pathlib import Path

from .process import Server, free_port
from .sse import SseClient

ROOT = Path(__file__).resolve().parents[3]
PUBLISHER_KEY = "publisher-key-of-the-tests-0123456789abcdef"
SUBSCRIBER_KEY = "subscriber-key-of-the-tests-0123456789abcd"
REFUSED_TOPIC = "devices/.well-known/mercure/x"  # the hub answers 403 to it, whoever asks
# A history that Last-Event-ID can use: without cleanup_frequency the size does nothing.
BOLT = "transport bolt {\n path %s\n size %d\n cleanup_frequency 0.3\n}"


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def jwt(key, publish=("*",), subscribe=("*",), expires_in=3600, **claims):
    """An HS256 token for a hub."""
    header = _base64url(json.dumps({"typ": "JWT", "alg": "HS256"}).encode())
    body = {"exp": int(time.time()) + expires_in,
            "mercure": {"publish": list(publish), "subscribe": list(subscribe)}, **claims}
    signed = header + b"." + _base64url(json.dumps(body).encode())
    return (signed + b"." + _base64url(hmac.new(key.encode(), signed, hashlib.sha256).digest())).decode()


def hub_program():
    return os.environ.get("MQTT_BRIDGE_HUB") or subprocess.run(
        [ROOT / "tools/hub-binary"], check=True, text=True, capture_output=True).stdout.strip()


class Hub(Server):
    """history: how many updates the hub keeps for Last-Event-ID (the bolt transport), 0 for none (local,
    six times faster). directives: further lines of the mercure block."""

    def __init__(self, folder, history=0, anonymous=True, directives="", port=None,
                 publisher_key=PUBLISHER_KEY, subscriber_key=SUBSCRIBER_KEY):
        self.port = port or free_port()
        self.publisher_key = publisher_key
        self.subscriber_key = subscriber_key
        transport = BOLT % (Path(folder) / "updates.db", history) if history else "transport local"
        extra = "\n".join([*(["anonymous"] if anonymous else []), "cors_origins *", transport, directives])
        env = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CONFIG_HOME": str(folder),
            "XDG_DATA_HOME": str(folder), "HUB_PORT": str(self.port),
            "HUB_ADMIN": f"127.0.0.1:{free_port()}", "MERCURE_PUBLISHER_JWT_KEY": publisher_key,
            "MERCURE_PUBLISHER_JWT_ALG": "HS256", "MERCURE_SUBSCRIBER_JWT_KEY": subscriber_key,
            "MERCURE_SUBSCRIBER_JWT_ALG": "HS256", "MERCURE_EXTRA_DIRECTIVES": extra,
        }
        super().__init__("hub", [hub_program(), "run", "--config", ROOT / "tests/hub/Caddyfile",
                                 "--adapter", "caddyfile"], folder, env)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/.well-known/mercure"

    def answers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def publish(self, topic, data, token=None, **fields):
        """Returns status and body of the hub's answer."""
        form = urllib.parse.urlencode([("topic", topic), ("data", data), *fields.items()])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/.well-known/mercure", form, {
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": "Bearer " + (token or jwt(self.publisher_key))})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def subscribe(self, *topics, last_event_id=None, token=None, reconnect=True):
        """A connected SseClient; the caller closes it (the sse fixture does so by itself)."""
        return SseClient(self.port, topics or ("*",), last_event_id, token, reconnect, self.publish).connect()
