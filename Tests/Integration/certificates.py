"""Certificates of an authority of our own, made by openssl."""
import pathlib
import shutil
import subprocess
import tempfile


class Authority:
    """A certificate authority in a directory of its own, and what it signs."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="tdmca", dir="/tmp"))
        self.certificate = self.directory / "ca.pem"
        self.key = self.directory / "ca.key"
        self.signed = 0
        self._openssl(
            "req", "-x509", *self._NEW_KEY, "-keyout", self.key, "-out", self.certificate, "-days", "30", "-subj",
            "/CN=Tandem test authority")

    _NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    def sign(self, *names, days=10, name=None):
        """Paths of a certificate for `names` (DNS:… or IP:…) and of its key. Of negative days it has expired."""
        self.signed += 1
        base = self.directory / (name or f"server-{self.signed}")
        certificate, key = base.with_suffix(".pem"), base.with_suffix(".key")
        request, extensions = base.with_suffix(".csr"), base.with_suffix(".ext")
        self._openssl("req", *self._NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN=server {self.signed}")
        extensions.write_text(f"subjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth\n")
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-out",
            certificate, "-days", days, "-extfile", extensions)
        key.chmod(0o600)
        return certificate, key

    def local(self, **more):
        """For this machine."""
        return self.sign("DNS:localhost", "IP:127.0.0.1", **more)

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def _openssl(self, *arguments):
        done = subprocess.run(
            ["openssl", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"
