"""Redis behind TLS, Sentinels and a Cluster: the real servers."""

import json
import time
from pathlib import Path

import pytest
import redis

from .process import Server, free_port, wait_until
from .servers import Redis

SLOTS = 16384


@pytest.fixture
def check(make_bridge):
    """check(dsn): what `check --connect` says of a transport there: is it well, and the text."""
    def check(dsn):
        bridge = make_bridge()
        bridge.settings["worker"]["count"] = 0
        bridge.settings["transport:async"]["dsn"] = dsn
        said = json.loads(bridge.cli("check", "--connect", "--json", check=False).stdout)
        assert "servers" in said and not said["faults"], said
        return next((server["ok"], server["text"]) for server in said["servers"] if server["name"] == "redis")
    return check


class TlsRedis(Redis):
    """TLS on its port; the test itself comes in through a UNIX socket. clients: must they have a certificate?"""

    def __init__(self, folder, authority, certificate="server", clients=False, arguments=()):
        super().__init__(folder, ["--unixsocket", Path(folder) / "s", *arguments])
        self.tls = ["--tls-port", self.port, "--port", 0, "--tls-auth-clients", "yes" if clients else "no"]
        self.plain = list(self.arguments)
        self.use(authority, certificate)

    def use(self, authority, certificate="server"):
        """Sets authority and certificate for the next start."""
        self.arguments = [str(argument) for argument in [
            *self.plain, *self.tls, "--tls-ca-cert-file", authority.certificate,
            "--tls-cert-file", authority.folder / f"{certificate}.pem",
            "--tls-key-file", authority.folder / f"{certificate}.key"]]

    @property
    def client(self):
        return redis.Redis(unix_socket_path=str(self.folder / "s"), socket_timeout=10)

    def dsn(self, path="/messages", scheme="rediss", host="127.0.0.1", **options):
        """ssl_cafile=... is ssl[cafile]=..."""
        query = "&".join(f"ssl[{key[4:]}]={value}" if key.startswith("ssl_") else f"{key}={value}"
                         for key, value in options.items())
        return f"{scheme}://{host}:{self.port}{path}" + (f"?{query}" if query else "")

    def answers(self):
        try:
            return self.client.ping()
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class Sentinel(Server):
    """authority: given where the Sentinel and the servers speak TLS."""

    def __init__(self, folder, primary, quorum=2, lines=(), password=None, authority=None):
        self.port = free_port()
        self.password = password
        self.tls = {"ssl": True, "ssl_ca_certs": authority.certificate} if authority else {}
        config = Path(folder) / "sentinel.conf"
        ports = [f"port {self.port}"] if not authority else [
            "port 0", f"tls-port {self.port}", "tls-replication yes", "tls-auth-clients no",
            f"tls-ca-cert-file {authority.certificate}", f"tls-cert-file {authority.folder}/server.pem",
            f"tls-key-file {authority.folder}/server.key"]
        config.write_text("\n".join([
            *ports, "bind 127.0.0.1", f"dir {folder}",
            f"sentinel monitor mymaster 127.0.0.1 {primary.port} {quorum}",
            "sentinel down-after-milliseconds mymaster 500", "sentinel failover-timeout mymaster 3000",
            *([f'requirepass "{password}"', f'sentinel sentinel-pass "{password}"'] if password else []), *lines]) + "\n")
        super().__init__("sentinel", ["redis-server", config, "--sentinel"], folder)

    @property
    def client(self):
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password, socket_timeout=10, **self.tls)

    def answers(self):
        try:
            return self.client.ping()
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def primary_port(self):
        return int(self.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])

    def knows(self, replicas, others):
        """Whether the Sentinel knows so many replicas and other Sentinels."""
        state = self.client.execute_command("SENTINEL", "MASTER", "mymaster")
        state = {key.decode(): value for key, value in
                 (zip(state[::2], state[1::2]) if isinstance(state, list) else
                  ((key.encode() if isinstance(key, str) else key, value) for key, value in state.items()))}
        found = self.client.execute_command("SENTINEL", "REPLICAS", "mymaster")
        return int(state["num-other-sentinels"]) == others and len(found) == replicas


class SentinelGroup:
    """A primary, a replica and three Sentinels. authority: of what speaks TLS, as make_redis must then as well."""

    def __init__(self, make_redis, makers, password=None, authority=None):
        self.primary = make_redis("--repl-diskless-sync-delay", "0")
        self.replica = make_redis("--repl-diskless-sync-delay", "0")
        self.replica.client.replicaof("127.0.0.1", self.primary.port)
        wait_until(lambda: self.replica.client.info("replication")["master_link_status"] == "up", 20,
                   "the replica follows")
        self.sentinels = [makers.keep(Sentinel(makers.new_folder("sentinel"), self.primary, password=password,
                                               authority=authority)).start() for _ in range(3)]
        wait_until(lambda: all(sentinel.knows(1, 2) for sentinel in self.sentinels), 20,
                   "the Sentinels know all others", every=0.1)

    def dsn(self, **options):
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        query = "&".join(f"{key}={value}" for key, value in {"sentinel_master": "mymaster", **options}.items())
        return f"redis://{hosts}/messages?{query}"

    def wait_promoted(self, redis_server, timeout=20):
        """Waits until all running Sentinels name this server as the primary."""
        wait_until(lambda: all(sentinel.primary_port() == redis_server.port for sentinel in self.sentinels
                               if sentinel.is_running()), timeout, "the replica is the primary", every=0.05)


class Cluster:
    """Three nodes that share the slots, without replicas."""

    def __init__(self, make_redis, password=None):
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-config-file", "nodes.conf"]
        buses = [free_port() for _ in range(3)]
        self.nodes = [make_redis(*options, "--cluster-port", bus, password=password) for bus in buses]
        share = SLOTS // 3 + 1
        for number, node in enumerate(self.nodes):
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share,
                                        min((number + 1) * share, SLOTS) - 1)
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, buses[0])
        wait_until(lambda: all(self._is_whole(node) for node in self.nodes), 20, "the Cluster is whole", every=0.05)

    @staticmethod
    def state(node):
        state = node.client.execute_command("CLUSTER", "INFO")
        return state if isinstance(state, dict) else dict(
            line.split(":") for line in state.decode().split("\r\n") if line)

    def _is_whole(self, node):
        state = self.state(node)
        return state["cluster_state"] == "ok" and int(state["cluster_known_nodes"]) == 3

    def dsn(self, stream="{messages}", nodes=None, **options):
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes or self.nodes)
        query = "&".join(f"{key}={value}" for key, value in options.items())
        return f"redis://{hosts}/{stream}" + (f"?{query}" if query else "")

    def slot(self, key="{messages}"):
        return int(self.nodes[0].client.execute_command("CLUSTER", "KEYSLOT", key))

    def owner(self, key="{messages}"):
        """The node that has the key's slot, as the nodes themselves see it."""
        for node in self.nodes:
            try:
                node.client.execute_command("EXISTS", key)
                return node
            except redis.ResponseError:
                pass
        raise AssertionError("no node has the slot")

    @staticmethod
    def _id(node):
        return node.client.execute_command("CLUSTER", "MYID").decode()

    def begin_move(self, source, target, key="{messages}"):
        slot = self.slot(key)
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

    def move_keys(self, source, target, key="{messages}", pause=0.0):
        """Moves the keys of the slot one by one, as `redis-cli --cluster reshard` does."""
        deadline = time.monotonic() + 20
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot(key), 1):
            time.sleep(pause)
            source.client.execute_command("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 10000)
            assert time.monotonic() < deadline, "the slot does not become empty"

    def end_move(self, source, target, key="{messages}"):
        for node in (target, source, *self.nodes):
            node.client.execute_command("CLUSTER", "SETSLOT", self.slot(key), "NODE", self._id(target))

    def move(self, source, target, pause=0.2):
        self.begin_move(source, target)
        self.move_keys(source, target, pause=pause)
        time.sleep(pause)
        self.end_move(source, target)
