"""A Caddy before the hub, as in many deployments."""

import os

from .hub import hub_program
from .process import Server, free_port, port_is_open


class Proxy(Server):
    """directives: of its one site; http://127.0.0.1:port of what stands behind it is for the caller to fill in."""

    CADDYFILE = """{
    admin off
    auto_https off
}
http://127.0.0.1:%d {
%s
}
"""

    def __init__(self, folder, directives):
        self.port = free_port()
        path = folder / "Caddyfile"
        path.write_text(self.CADDYFILE % (self.port, directives))
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CONFIG_HOME": str(folder),
               "XDG_DATA_HOME": str(folder)}
        super().__init__("proxy", [hub_program(), "run", "--config", path, "--adapter", "caddyfile"], folder, env)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/.well-known/mercure"

    def answers(self):
        return port_is_open(self.port)


def choking_proxy(makers, hub, status=500, word="choke"):
    """A proxy before the hub that answers with that status to requests that hold the word."""
    return makers.keep(Proxy(makers.new_folder("proxy"), f"""
    @choke expression `{{http.request.body}}.contains("{word}")`
    error @choke {status}
    reverse_proxy 127.0.0.1:{hub.port}
"""))
