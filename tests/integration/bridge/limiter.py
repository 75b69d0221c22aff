"""nginx before the hub, with its limit of requests."""

import os

from .process import Server, free_port, port_is_open


class Limiter(Server):
    """rate, burst: of nginx's limit_req, like 50r/s; what is above gets `status`. headers: of refusals."""

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
    limit_req_zone $binary_remote_addr zone=all:64k rate={rate};
    server {{
        listen 127.0.0.1:{port};
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
        }}
    }}
}}
"""

    def __init__(self, folder, behind, rate, burst=0, status=429, headers=()):
        self.port = free_port()
        path = folder / "nginx.conf"
        lines = "".join(f"add_header {name} {value} always; " for name, value in headers)
        path.write_text(self.CONF.format(folder=folder, port=self.port, behind=behind, rate=rate, headers=lines, status=status,
                                         burst=f" burst={burst} nodelay" if burst else ""))
        super().__init__("limiter", ["nginx", "-c", path, "-p", folder], folder,
                         {"PATH": os.environ["PATH"] + ":/usr/sbin"})

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/.well-known/mercure"

    def answers(self):
        return port_is_open(self.port)

    def statuses(self):
        """Of all answers so far, in order."""
        return [int(line) for line in (self.folder / "access.log").read_text().split()]
