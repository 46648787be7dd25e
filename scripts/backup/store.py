"""Where a backup lies: a folder, or S3 with a multipart upload whose content is read back and hashed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from scripts.support.errors import MigrationError, UsageError

CHUNK = 1024 * 1024
#: S3 takes 10,000 parts of 5 MiB or more; boto3 makes them larger for files above 80 GB.
PART_BYTES = 8 * CHUNK


class StoreError(MigrationError):
    """The backup could not be written to, or read from, where it should lie."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Store(Protocol):
    """A place for backups."""

    def put(self, local: Path, name: str) -> str:
        """Store a file; returns its location."""

    def get(self, name: str, local: Path) -> None:
        """Bring a stored file to ``local``."""

    def write_json(self, name: str, document: dict[str, Any]) -> str:
        """Store a JSON document; returns its location."""

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON document."""


class FolderStore:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, local: Path, name: str) -> str:
        """Copy to the folder, flushed to the disk, under its name only when whole."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{name}.part"
            with local.open("rb") as source, part.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
                sink.flush()
                os.fsync(sink.fileno())
            part.chmod(0o600)
            part.replace(self.folder / name)
        except OSError as error:
            raise StoreError(
                f"writing {name} to {self.folder} failed: {error}; free space or choose another --output"
            ) from None
        return str(self.folder / name)

    def get(self, name: str, local: Path) -> None:
        """Copy from the folder."""
        try:
            shutil.copyfile(self.folder / name, local)
        except OSError as error:
            raise StoreError(f"reading {name} from {self.folder} failed: {error}") from None

    def write_json(self, name: str, document: dict[str, Any]) -> str:
        """Write a JSON document."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{name}.part"
            part.write_text(json.dumps(document, ensure_ascii=False, indent=2, default=str), encoding="utf-8")
            part.replace(self.folder / name)
        except OSError as error:
            raise StoreError(
                f"writing {name} to {self.folder} failed: {error}; free space or choose another --output"
            ) from None
        return str(self.folder / name)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON document."""
        try:
            document: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"reading {name} from {self.folder} failed: {error}") from None
        return document


class S3Store:
    """A prefix of an S3 bucket; endpoint and credentials as boto3 finds them."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix.strip("/")
        self._client = boto3.client("s3")

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def put(self, local: Path, name: str) -> str:
        """Upload in parts, each with its SHA-256, encrypted at rest (Amazon S3, 'Checking object integrity')."""
        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
        try:
            self._client.upload_file(
                str(local), self.bucket, self._key(name),
                ExtraArgs={"ChecksumAlgorithm": "SHA256", "ServerSideEncryption": "aws:kms"}, Config=config,
            )  # fmt: skip
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise StoreError(
                f"uploading {name} to s3://{self.bucket} failed: {error}; check bucket, rights and network"
            ) from None
        return f"s3://{self.bucket}/{self._key(name)}"

    def get(self, name: str, local: Path) -> None:
        """Download."""
        try:
            self._client.download_file(self.bucket, self._key(name), str(local))
        except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
            raise StoreError(f"downloading {name} from s3://{self.bucket} failed: {error}") from None

    def write_json(self, name: str, document: dict[str, Any]) -> str:
        """Put a JSON document."""
        body = json.dumps(document, ensure_ascii=False, indent=2, default=str).encode()
        try:
            self._client.put_object(
                Bucket=self.bucket, Key=self._key(name), Body=body, ContentType="application/json",
                ServerSideEncryption="aws:kms",
            )  # fmt: skip
        except (BotoCoreError, ClientError) as error:
            raise StoreError(f"writing {name} to s3://{self.bucket} failed: {error}; check bucket and rights") from None
        return f"s3://{self.bucket}/{self._key(name)}"

    def read_json(self, name: str) -> dict[str, Any]:
        """Get a JSON document."""
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(name))
            document: dict[str, Any] = json.loads(answer["Body"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            raise StoreError(f"reading {name} from s3://{self.bucket} failed: {error}") from None
        return document


def open_store(output: str) -> Store:
    """The store of ``DIR`` or ``s3://bucket/prefix``. Raises UsageError for anything else."""
    if "://" not in output:
        return FolderStore(Path(output))
    parts = urlsplit(output)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"output {output!r}: it must be a folder or s3://bucket/prefix")
    return S3Store(parts.netloc, parts.path)
