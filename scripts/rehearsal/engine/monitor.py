"""The resource monitor of the embedded engine: each registration of the program becomes create, update, replace or nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields, replace
from typing import Any

from google.protobuf import empty_pb2
from pulumi.runtime.mocks import MockMonitor, MockResourceArgs, Mocks
from pulumi.runtime.proto import resource_pb2

from scripts.deployment.deployer import Change, not_deployed, recurring
from scripts.rehearsal.emulated import properties, registry
from scripts.rehearsal.emulated.core import Aws, ProviderError
from scripts.rehearsal.engine.state import Resource, State, deletion_order
from scripts.support.errors import MigrationError, Refused


class _NoMocks(Mocks):
    """The monitor answers every request itself; the SDK only wants the object."""

    def call(self, args: Any) -> Any:
        raise MigrationError(f"the embedded engine has no data sources, the program asks for {args.token}")

    def new_resource(self, args: MockResourceArgs) -> Any:
        raise MigrationError(f"the embedded engine cannot read existing resources, the program asks for {args.typ}")


@dataclass
class Registration(Resource):
    """What the program declares of one resource."""

    ignore: list[str] = field(default_factory=list)
    secret_outputs: list[str] = field(default_factory=list)
    #: The thing of that id is taken over instead of made, unless it was already.
    import_id: str = ""

    def made(self, id_: str, outputs: dict[str, Any]) -> Resource:
        """The resource that stands for it, as the state keeps it."""
        kept = {item.name: getattr(self, item.name) for item in fields(Resource)}
        return Resource(**{**kept, "id": id_, "outputs": outputs})


@dataclass
class Operation:
    """One up or preview: the program's registrations compared with the state, and carried out unless ``dry``.

    ``only`` names the one resource that may change; what it depends on has to be there.
    """

    state: State
    aws: Aws
    dry: bool
    only: str | None = None
    changes: list[Change] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    failures: list[MigrationError] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def register(self, wanted: Registration) -> tuple[str, dict[str, Any]]:
        """Bring one resource to what is wanted; its id ("" while unknown) and raw outputs.

        Raises:
            MigrationError: the provider refuses, or an earlier resource failed already.
        """
        with self._lock:
            if self.failures:
                raise MigrationError(f"{wanted.name} is not touched, since another resource failed")
            if wanted.urn in self.seen:
                raise MigrationError(f"{wanted.urn} is declared twice; give one of them another name")
            self.seen.add(wanted.urn)
        try:
            return self._register(wanted)
        except MigrationError as error:
            failure = error.reworded(f"resource {wanted.name}: {error}")
            with self._lock:
                self.failures.append(failure)
            raise failure from error

    def _register(self, wanted: Registration) -> tuple[str, dict[str, Any]]:
        old = self.state.resources.get(wanted.urn)
        if self.only is not None:
            if wanted.name != self.only:
                return (old.id, old.outputs) if old is not None else ("", wanted.inputs)
            if old is None:
                raise not_deployed(self.only)
            if missing := [urn.rpartition("::")[2] for urn in wanted.dependencies if urn not in self.state.resources]:
                raise not_deployed(", ".join(missing))
        if wanted.import_id and (old is None or old.id != wanted.import_id):
            return self._import(wanted)
        if old is not None and wanted.ignore:
            wanted = replace(wanted, inputs=properties.ignore_changes(wanted.inputs, old.inputs, wanted.ignore))
        problems = registry.check(wanted.type, properties.plain(wanted.inputs))
        if problems:
            raise ProviderError("; ".join(f"{wanted.type} {key}: {reason}" for key, reason in problems))
        if not self.dry and properties.has_unknown(wanted.inputs):
            raise MigrationError("an input is still unknown though everything it depends on is made")
        if old is None:
            return self._create(wanted, None)
        before, after = properties.plain(old.inputs), properties.plain(wanted.inputs)
        found = registry.difference(wanted.type, before, after, wanted.ignore)
        if not found.changed:
            return self._same(old, wanted)
        if found.replaces:
            return self._replace(old, wanted, found, before)
        self._note(wanted, "update", found.changed, before)
        if self.dry:
            return old.id, {**old.outputs, **wanted.inputs}
        outputs = registry.update(self.aws, wanted.type, old.id, before, after)
        return self._record(wanted, old.id, outputs, None)

    def _import(self, wanted: Registration) -> tuple[str, dict[str, Any]]:
        """Take over what stands, as Pulumi's engine does: refused where the program has it otherwise."""
        found = registry.read(self.aws, wanted.type, wanted.import_id, {})
        if found is None:
            raise ProviderError(f"{wanted.type} {wanted.import_id} does not exist; take its id out, and it is made")
        inputs = properties.ignore_changes(wanted.inputs, found.inputs, wanted.ignore)
        differs = registry.difference(wanted.type, found.inputs, properties.plain(inputs)).changed
        self._note(wanted, "import", differs)
        if self.dry:
            return wanted.import_id, found.outputs
        if differs:
            raise ProviderError(f"inputs to import do not match the existing resource: {', '.join(differs)}")
        return self._record(replace(wanted, inputs=inputs), wanted.import_id, {**found.outputs, **inputs}, None)

    def _same(self, old: Resource, wanted: Registration) -> tuple[str, dict[str, Any]]:
        if not self.dry:
            self.state.keep(wanted.made(old.id, old.outputs))
        return old.id, old.outputs

    def _replace(
        self, old: Resource, wanted: Registration, found: registry.Difference, before: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        if old.protect:
            raise Refused(f"it is protected and {', '.join(found.replaces)} cannot change without replacing it")
        self._note(wanted, "replace", found.changed, before)
        if self.dry:
            return "", wanted.inputs
        if not found.delete_first:
            return self._create(wanted, old)
        self._delete(old)
        return self._create(wanted, None, noted=True)

    def _create(
        self, wanted: Registration, replaced: Resource | None, *, noted: bool = False
    ) -> tuple[str, dict[str, Any]]:
        if replaced is None and not noted:
            self._note(wanted, "create", tuple(sorted(wanted.inputs)))
        if self.dry:
            return "", wanted.inputs
        self.state.begin(wanted.urn)
        try:
            made = registry.create(self.aws, wanted.type, properties.plain(wanted.inputs))
        except ProviderError:
            self.state.refused(wanted.urn)
            raise
        return self._record(wanted, made.id, made.outputs, replaced)

    def _record(
        self, wanted: Registration, id_: str, outputs: dict[str, Any], replaced: Resource | None
    ) -> tuple[str, dict[str, Any]]:
        raw = properties.with_secrets_of(outputs, wanted.inputs, wanted.secret_outputs)
        self.state.put(wanted.made(id_, raw), replaced)
        return id_, raw

    def _note(
        self,
        wanted: Registration | Resource,
        op: Any,
        changed: tuple[str, ...],
        before: dict[str, Any] | None = None,
    ) -> None:
        same = recurring(changed, before, properties.plain(wanted.inputs)) if before is not None else ()
        with self._lock:
            self.changes.append(Change(wanted.urn, wanted.type, wanted.name, op, tuple(sorted(changed)), same))

    def _delete(self, resource: Resource) -> None:
        if not resource.retain:
            state = {**properties.plain(resource.inputs), **properties.plain(resource.outputs)}
            registry.delete(self.aws, resource.type, resource.id, state)
        self.state.gone(resource)

    def finish(self) -> None:
        """Delete what the program no longer declares, and what was replaced.

        Raises:
            Refused: one of them is protected; nothing is deleted then.
        """
        if self.only is not None:
            if self.only not in {urn.rpartition("::")[2] for urn in self.seen}:
                raise not_deployed(self.only)
            return
        gone = [item for urn, item in self.state.resources.items() if urn not in self.seen]
        resources = [*gone, *self.state.doomed]
        protected = sorted(item.name for item in resources if item.protect)
        if protected:
            raise Refused(f"{', '.join(protected)}: protected; take protect=True away and run `up` before deleting")
        needs = {item.urn: item.dependencies for item in [*self.state.resources.values(), *resources]}
        for resource in deletion_order(resources, needs):
            if any(resource is item for item in gone):
                self._note(resource, "delete", ())
            if self.dry:
                continue
            try:
                self._delete(resource)
            except MigrationError as error:
                raise error.reworded(f"resource {resource.name}: {error}") from error


class Monitor(MockMonitor):
    """Answers the program's requests out of an :class:`Operation`."""

    def __init__(self, operation: Operation, project: str, stack: str) -> None:
        super().__init__(_NoMocks())
        self.operation = operation
        self.outputs: dict[str, Any] = {}
        self._prefix = f"urn:pulumi:{stack}::{project}::"
        self._root = f"{self._prefix}pulumi:pulumi:Stack::{project}-{stack}"

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """The URN that Pulumi's engine gives: types of all parents, the stack left out."""
        if parent and parent != self._root:
            type_ = f"{parent.split('::')[2]}${type_}"
        return f"{self._prefix}{type_}::{name}"

    def RegisterResource(self, request: Any) -> Any:
        """Components get a URN, resources of a provider go through the operation."""
        urn = self.make_urn(request.parent, request.type, request.name)
        if not request.custom:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        for option in ("deletedWith", "replace_with", "replaceOnChanges", "deleteBeforeReplaceDefined"):
            if getattr(request, option):
                raise MigrationError(f"{request.name}: the embedded engine does not know the option {option}")
        wanted = Registration(
            urn=urn,
            type=request.type,
            name=request.name,
            id="",
            inputs=properties.from_struct(request.object),
            outputs={},
            protect=request.protect,
            retain=request.retainOnDelete,
            dependencies=sorted(set(request.dependencies)),
            ignore=list(request.ignoreChanges),
            secret_outputs=list(request.additionalSecretOutputs),
            import_id=request.importId,
        )
        id_, outputs = self.operation.register(wanted)
        return resource_pb2.RegisterResourceResponse(urn=urn, id=id_, object=properties.to_struct(outputs))

    def RegisterResourceOutputs(self, request: Any) -> Any:
        """Keep the stack's outputs; a component's are its own business."""
        if request.urn == self._root and request.outputs.fields:
            self.outputs = properties.from_struct(request.outputs)
        return empty_pb2.Empty()
