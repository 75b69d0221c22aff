"""nginx before another server: with a limit of requests, or under a path of its own."""

import os

from .process import Server, free_port, port_is_open

CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    log_format status "$status";
    access_log {folder}/access.log status;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    {limits}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


class Nginx(Server):
    def __init__(self, name, folder, locations, limits=""):
        self.port = free_port()
        path = folder / "nginx.conf"
        path.write_text(CONF.format(folder=folder, port=self.port, locations=locations, limits=limits))
        super().__init__(name, ["nginx", "-c", path, "-p", folder], folder, {"PATH": os.environ["PATH"] + ":/usr/sbin"})

    def answers(self):
        return port_is_open(self.port)


class Limiter(Nginx):
    """Before the hub. rate, burst: of nginx's limit_req, like 50r/s; what is above gets `status`. headers: of refusals."""

    LOCATIONS = """
        location / {{
            limit_req zone=all{burst};
            limit_req_status {status};
            limit_req_log_level info;
            error_page {status} @refused;
            proxy_pass http://127.0.0.1:{behind};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
        location @refused {{
            {headers}
            return {status};
        }}"""

    def __init__(self, folder, behind, rate, burst=0, status=429, headers=()):
        lines = "".join(f"add_header {name} {value} always; " for name, value in headers)
        locations = self.LOCATIONS.format(behind=behind, headers=lines, status=status,
                                          burst=f" burst={burst} nodelay" if burst else "")
        super().__init__("limiter", folder, locations, f"limit_req_zone $binary_remote_addr zone=all:64k rate={rate};")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/.well-known/mercure"

    def statuses(self):
        """Of all answers so far, in order."""
        return [int(line) for line in (self.folder / "access.log").read_text().split()]


class PathProxy(Nginx):
    """What is at the address `behind` stands under `path`, and nothing else."""

    def __init__(self, folder, path, behind):
        super().__init__("proxy", folder, f"location {path} {{ proxy_pass {behind}; }}")
        self.url = f"http://127.0.0.1:{self.port}{path}"
