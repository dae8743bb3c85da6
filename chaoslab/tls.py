"""What a probe trusts of TLS, and what it shows to be let in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaoslab.errors import UsageError

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Names of files in PEM, and whether a server must show a certificate that is trusted.

    Args:
        ca_file: authorities that are trusted, in place of the system's.
        certificate, key: what is shown to a server that asks; without `key` it stands in the file of the certificate.
        verify: False takes any certificate, whoever it may be of.
    """

    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return the settings that say so.

        Raises:
            UsageError: a file cannot be used.
        """
        import ssl  # only here: most of who reads a scenario file opens no connection

        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise UsageError(f"tls.ca_file {self.ca_file} cannot be used: {_problem(error)}") from error
        if self.certificate is not None:
            try:
                # A password that is not asked for on the terminal; a key that needs one is refused.
                context.load_cert_chain(self.certificate, self.key, password="")
            except OSError as error:
                files = " with tls.key ".join(filter(None, (self.certificate, self.key)))
                raise UsageError(
                    f"tls.certificate {files} cannot be used: {_problem(error)}; accepted: a certificate in PEM and "
                    "its key, without a password"
                ) from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _problem(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
