"""TLS before a server of the tests, whose wheel has none: a certificate of a self-made authority, for a name of choice."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: PostgreSQL, 'Message Formats': SSLRequest and GSSENCRequest.
_TLS, _GSS = bytes.fromhex("0000000804d2162f"), bytes.fromhex("0000000804d21630")


@dataclass(frozen=True)
class Authority:
    """A self-made authority; ``root`` is the file with its certificate."""

    root: Path
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, directory: Path, name: str) -> Authority:
        """An authority whose files stand in ``directory``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = _signed(subject, key.public_key(), subject, key, authority=True)
        root = directory / f"{name}.pem"
        root.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(root, certificate, key)

    def server(self, host: str) -> Path:
        """A file with a key and a certificate for the host name, signed by this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = _signed(subject, key.public_key(), self._certificate.subject, self._key, host)
        file = self.root.with_name(f"{self.root.stem}-{host}.pem")
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return file


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    host: str = "",
    *,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


class TlsFront:
    """Takes TLS on 127.0.0.1:``port`` with the certificate in a file, and plain connections where a client asks for none; carries both
    to 127.0.0.1:``upstream``. Use as a context manager."""

    def __init__(self, upstream: int, certificate: Path) -> None:
        self._upstream = upstream
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls front")
        self.port = 0
        #: How many connections were taken in, and what clients sent that asked for no TLS.
        self.accepted, self.plain = 0, b""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            if first == _GSS:
                writer.write(b"N")
                first = await reader.readexactly(8)
            if first == _TLS:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                first = b""
            self.plain += first
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            far_writer.write(first)
            await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        writer.close()

    def __enter__(self) -> Self:
        self._thread.start()
        made = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = made.result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
