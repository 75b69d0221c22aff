"""Certificates of the test's own."""

import subprocess
from pathlib import Path

import pytest


class Authority:
    """A certificate authority; sign() makes NAME.pem and NAME.key beside its ca.pem and ca.key."""

    def __init__(self, folder, name="authority", days=2):
        self.folder = Path(folder)
        self.certificate = self.folder / "ca.pem"
        self._make_key("ca")
        self.openssl("req", "-x509", "-key", "ca.key", "-out", "ca.pem", "-days", days, "-subj", f"/CN={name}")
        self.certificate.chmod(0o644)  # for programs of other users

    def openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=self.folder)

    def _make_key(self, name):
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    def sign(self, name="server", alternative="IP:127.0.0.1", days=2):
        """alternative: the names, "IP:127.0.0.1,DNS:localhost"; days below 0: it has expired."""
        self._make_key(name)
        self.openssl("req", "-key", f"{name}.key", "-new", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / "names").write_text(f"subjectAltName={alternative}\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                     "-out", f"{name}.pem", "-days", days, "-extfile", "names")
        return self

    def options(self, name="server"):
        """Mosquitto's."""
        return {"certfile": self.folder / f"{name}.pem", "keyfile": self.folder / f"{name}.key"}


@pytest.fixture
def authority(makers):
    """It has signed the certificate `server` for 127.0.0.1."""
    return Authority(makers.new_folder("authority")).sign()
