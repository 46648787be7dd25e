"""Where a backup lies: a folder, or S3 with a multipart upload whose content is read back and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from scripts.support import private
from scripts.support.errors import MigrationError, UsageError, failure

CHUNK = 1024 * 1024
#: S3 takes 10,000 parts of 5 MiB or more; boto3 makes them larger for files above 80 GB.
PART_BYTES = 8 * CHUNK
#: Called with the number of bytes that went on; from any thread.
Moved = Callable[[int], None]


class StoreError(MigrationError):
    """The backup could not be written to, or read from, where it should lie."""

    @classmethod
    def of(cls, error: MigrationError) -> StoreError:
        """The same text and exit status."""
        made = cls(str(error))
        made.exit_status = error.exit_status
        return made


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unwatched(_: int) -> None:
    """For transfers that nobody watches."""


class Store(Protocol):
    """A place for backups; each method raises StoreError."""

    def put(self, local: Path, name: str, moved: Moved = unwatched) -> str:
        """Store a file; returns its location."""

    def get(self, name: str, local: Path, moved: Moved = unwatched) -> None:
        """Bring a stored file to ``local``."""

    def write_json(self, name: str, document: dict[str, Any]) -> str:
        """Store a JSON document; returns its location."""

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON document."""


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


def _pass_on(source: BinaryIO, sink: BinaryIO, moved: Moved) -> None:
    while chunk := source.read(CHUNK):
        sink.write(chunk)
        moved(len(chunk))


class FolderStore:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, local: Path, name: str, moved: Moved = unwatched) -> str:
        """Copy to the folder."""
        with self._written(name) as sink, local.open("rb") as source:
            _pass_on(source, sink, moved)
        return str(self.folder / name)

    def get(self, name: str, local: Path, moved: Moved = unwatched) -> None:
        """Copy from the folder."""
        with (
            self._named(f"reading {name} from"),
            (self.folder / name).open("rb") as source,
            private.replacing(local) as sink,
        ):
            _pass_on(source, sink, moved)

    def write_json(self, name: str, document: dict[str, Any]) -> str:
        """Write a JSON document."""
        with self._written(name) as sink:
            sink.write(_json(document))
        return str(self.folder / name)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON document."""
        with self._named(f"reading {name} from"):
            return dict(json.loads((self.folder / name).read_text(encoding="utf-8")))

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, TypeError) as error:
            cause = (
                failure(error) if isinstance(error, OSError) else UsageError(f"{error}; name the manifest of a backup")
            )
            raise StoreError.of(cause.reworded(f"{what} {self.folder} failed: {cause}")) from None

    @contextmanager
    def _written(self, name: str) -> Iterator[BinaryIO]:
        """A file of the operator's alone that is flushed to the disk and has its name only when it is whole."""
        with self._named(f"writing {name} to"), private.replacing(private.directory(self.folder) / name) as sink:
            yield sink


class S3Store:
    """A prefix of an S3 bucket; endpoint and credentials as boto3 finds them."""

    def __init__(self, bucket: str, prefix: str) -> None:
        from scripts.support.aws import client

        self.bucket, self.prefix = bucket, prefix
        self._client = client("s3", patient=True)

    def put(self, local: Path, name: str, moved: Moved = unwatched) -> str:
        """Upload in parts, each with its SHA-256 (Amazon S3, 'Checking object integrity').

        How it is encrypted is the bucket's to say: a header of ours without the declared key would mean AWS's own.
        """
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
        extra = {"ChecksumAlgorithm": "SHA256"}
        with self._named(f"uploading {name} to"):
            self._client.upload_file(
                str(local), self.bucket, self._key(name), ExtraArgs=extra, Config=config, Callback=moved
            )
        return self._location(name)

    def get(self, name: str, local: Path, moved: Moved = unwatched) -> None:
        """Download."""
        with self._named(f"downloading {name} from"), private.replacing(local) as sink:
            self._client.download_fileobj(self.bucket, self._key(name), sink, Callback=moved)

    def write_json(self, name: str, document: dict[str, Any]) -> str:
        """Put a JSON document."""
        with self._named(f"writing {name} to"):
            self._client.put_object(
                Bucket=self.bucket, Key=self._key(name), Body=_json(document), ContentType="application/json"
            )
        return self._location(name)

    def read_json(self, name: str) -> dict[str, Any]:
        """Get a JSON document."""
        with self._named(f"reading {name} from"):
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(name))
            return dict(json.loads(answer["Body"].read()))

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _location(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._key(name)}"

    @contextmanager
    def _named(self, what: str, remedy: str = "check bucket, rights and network") -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        from scripts.support.aws import refusal

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError, OSError, ValueError, TypeError) as error:
            raise StoreError.of(refusal(f"{what} s3://{self.bucket} failed", error, remedy)) from None


def open_store(output: str) -> Store:
    """The store of ``DIR`` or ``s3://bucket/prefix``. Raises UsageError for anything else."""
    if not output:
        raise UsageError("the backup's place is empty; name a folder or s3://bucket/prefix")
    if "://" not in output:
        return FolderStore(Path(output))
    from scripts.support.aws import bucket_and_prefix

    return S3Store(*bucket_and_prefix(output))
