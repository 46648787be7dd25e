"""What the embedded engine knows of the world: one JSON file, whole at any moment, written after every operation."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from scripts.deployment.deployer import Change
from scripts.support import private
from scripts.support.errors import MigrationError, Refused

VERSION = 3


@dataclass
class Resource:
    """One resource as it was last seen. ``inputs`` and ``outputs`` are raw values: secrets are marked in them."""

    urn: str
    type: str
    name: str
    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    protect: bool = False
    retain: bool = False
    dependencies: list[str] = field(default_factory=list)


#: What may be asked of the engine.
Kind = Literal["up", "preview"]


@dataclass(frozen=True)
class Request:
    """One operation, for a process of its own. ``program`` is the directory of its ``__main__.py``; ``only`` as an Operation has it."""

    kind: Kind
    state: Path
    program: Path
    config: Mapping[str, Any]
    only: str | None


@dataclass(frozen=True)
class Answer:
    """What came of it. With an ``error``, ``changes`` are what was begun."""

    changes: tuple[Change, ...] = ()
    outputs: dict[str, Any] = field(default_factory=dict)
    error: MigrationError | None = None


class State:
    """The state file. Mutating methods write it before they return; safe to call from several threads.

    The file holds secrets (marked, not encrypted), so only its owner may read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.resources: dict[str, Resource] = {}
        #: Replaced ones that still have to go.
        self.doomed: list[Resource] = []
        #: URNs of what is being created; when a run is killed they tell the next one that the things may stand.
        self.pending: set[str] = set()
        self._lock = threading.RLock()

    @classmethod
    def load(cls, path: Path) -> State:
        """Read the file; a missing one is an empty state.

        Raises:
            MigrationError: the file is not one of this engine.
        """
        state = cls(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return state
        except json.JSONDecodeError as error:
            raise MigrationError(
                f"{path} is no state file ({error}); restore it, or remove it with its world"
            ) from None
        if document.get("version") != VERSION:
            raise MigrationError(
                f"{path} has version {document.get('version')}, this engine reads {VERSION}; remove it"
            )
        state.config = document["config"]
        state.outputs = document["outputs"]
        state.resources = {item["urn"]: Resource(**item) for item in document["resources"]}
        state.doomed = [Resource(**item) for item in document["doomed"]]
        state.pending = set(document["pending"])
        return state

    def save(self) -> None:
        """Replace the file by what is known now, in one step."""
        with self._lock:
            document = {
                "version": VERSION,
                "config": self.config,
                "outputs": self.outputs,
                "resources": [asdict(item) for item in self.resources.values()],
                "doomed": [asdict(item) for item in self.doomed],
                "pending": sorted(self.pending),
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            private.write(self.path, json.dumps(document, ensure_ascii=False, separators=(",", ":")))

    def begin(self, urn: str) -> None:
        """Note that a create call is about to be made."""
        with self._lock:
            self.pending.add(urn)
            self.save()

    def refused(self, urn: str) -> None:
        """Note that the create call failed."""
        with self._lock:
            self.pending.discard(urn)
            self.save()

    def put(self, resource: Resource, replaced: Resource | None = None) -> None:
        """Note a resource as made or changed; ``replaced`` is its predecessor, which has to go."""
        with self._lock:
            self.pending.discard(resource.urn)
            self.resources.pop(resource.urn, None)
            self.resources[resource.urn] = resource
            if replaced is not None:
                self.doomed.append(replaced)
            self.save()

    def keep(self, resource: Resource) -> None:
        """Note changed bookkeeping of a resource (protection, dependencies) without any call."""
        with self._lock:
            if self.resources.get(resource.urn) != resource:
                self.resources[resource.urn] = resource
                self.save()

    def gone(self, resource: Resource) -> None:
        """Note a resource as deleted."""
        with self._lock:
            if self.resources.get(resource.urn) is resource:
                del self.resources[resource.urn]
            self.doomed = [item for item in self.doomed if item is not resource]
            self.save()


def deletion_order(resources: list[Resource], dependencies: Mapping[str, list[str]]) -> list[Resource]:
    """Dependents before what they depend on. ``dependencies`` maps each URN to URNs that it needs."""
    position = {urn: number for number, urn in enumerate(TopologicalSorter(dependencies).static_order())}
    return sorted(resources, key=lambda item: position[item.urn], reverse=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the state for one operation. The lock goes with the process, so a kill leaves none behind.

    Raises:
        Refused: another operation holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{path} is locked by another operation of the embedded engine; wait for it to end") from None
        yield
    finally:
        os.close(descriptor)
