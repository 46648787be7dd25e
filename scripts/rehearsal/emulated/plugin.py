"""The emulated provider for Pulumi's engine: the gRPC service ResourceProvider (pulumi/proto, provider.proto).

Everything is answered by the same table as in the embedded engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib import metadata
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from scripts.rehearsal.emulated import properties, registry
from scripts.rehearsal.emulated.core import Aws
from scripts.support.errors import MigrationError

#: The SDK's, which asks for a provider that is not older.
VERSION = metadata.version("pulumi-aws")


def _named(answer: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """A call whose failure the engine is told by its text."""

    @wraps(answer)
    def named(self: Provider, request: Any, context: Any) -> Any:
        try:
            return answer(self, request, context)
        except MigrationError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))

    return named


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """One provider instance; the engine calls it from several threads."""

    def __init__(self) -> None:
        self.aws = Aws(os.environ.get("AWS_REGION", "us-east-1"))

    def Handshake(self, request: Any, context: Any) -> Any:
        """Secrets are accepted and come back marked."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """The version; the engine warns when it is older than the SDK's."""
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: Any) -> Any:
        """An empty schema: programs in Python carry their own."""
        return provider_pb2.GetSchemaResponse(schema=f'{{"name": "aws", "version": "{VERSION}"}}')

    def Attach(self, request: Any, context: Any) -> Any:
        """The engine's own address is of no use here."""
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:
        """Every configuration is taken as it is."""
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        """A changed region would replace everything; nothing else matters."""
        before = properties.from_struct(request.old_inputs or request.olds)
        after = properties.from_struct(request.news)
        changed = sorted(key for key in set(before) | set(after) if before.get(key) != after.get(key))
        return _diff(changed, [key for key in changed if key == "region"], delete_first=False)

    def Configure(self, request: Any, context: Any) -> Any:
        """Keep the region."""
        region = request.variables.get("aws:config:region") or properties.from_struct(request.args).get("region")
        if region:
            self.aws = Aws(str(region))
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=False)

    @_named
    def Check(self, request: Any, context: Any) -> Any:
        """The inputs, and what is wrong with them as far as that is seen without a call."""
        inputs = properties.from_struct(request.news)
        found = registry.check(_type(request), properties.plain(inputs))
        failures = [provider_pb2.CheckFailure(property=key, reason=reason) for key, reason in found]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    @_named
    def Diff(self, request: Any, context: Any) -> Any:
        """Compare the old inputs with the new ones; the engine applied ignoreChanges to them already."""
        old, new = (properties.plain(properties.from_struct(part)) for part in (request.old_inputs, request.news))
        found = registry.difference(_type(request), old, new, ignored=request.ignoreChanges)
        return _diff(list(found.changed), list(found.replaces), delete_first=found.delete_first)

    @_named
    def Create(self, request: Any, context: Any) -> Any:
        """Make it; in a preview only the inputs are known."""
        inputs = properties.from_struct(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=request.properties)
        made = registry.create(self.aws, _type(request), properties.plain(inputs))
        outputs = properties.with_secrets_of(made.outputs, inputs)
        return provider_pb2.CreateResponse(id=made.id, properties=properties.to_struct(outputs))

    @_named
    def Read(self, request: Any, context: Any) -> Any:
        """What the API holds now, drift included; an empty answer when it is gone."""
        inputs = properties.from_struct(request.inputs) or properties.from_struct(request.properties)
        found = registry.read(self.aws, _type(request), request.id, properties.plain(inputs))
        if found is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=request.id,
            properties=properties.to_struct(properties.with_secrets_of(found.outputs, inputs)),
            inputs=properties.to_struct(properties.with_secrets_of(found.inputs, inputs)),
        )

    @_named
    def Update(self, request: Any, context: Any) -> Any:
        """Change it in place; a preview keeps the outputs that it has."""
        old, new = properties.from_struct(request.old_inputs), properties.from_struct(request.news)
        new = properties.ignore_changes(new, old, request.ignoreChanges)
        if request.preview:
            outputs = {**properties.from_struct(request.olds), **new}
            return provider_pb2.UpdateResponse(properties=properties.to_struct(outputs))
        answer = registry.update(self.aws, _type(request), request.id, properties.plain(old), properties.plain(new))
        return provider_pb2.UpdateResponse(properties=properties.to_struct(properties.with_secrets_of(answer, new)))

    @_named
    def Delete(self, request: Any, context: Any) -> Any:
        """Unmake it."""
        state = {**properties.from_struct(request.old_inputs), **properties.from_struct(request.properties)}
        registry.delete(self.aws, _type(request), request.id, properties.plain(state))
        return empty_pb2.Empty()

    @_named
    def Invoke(self, request: Any, context: Any) -> Any:
        """There are no data sources."""
        raise MigrationError(f"the emulated provider has no data source {request.tok}")

    def Cancel(self, request: Any, context: Any) -> Any:
        """Calls that run are short and are let end."""
        return empty_pb2.Empty()


def _type(request: Any) -> str:
    """The resource type: a field since 2024, before that the last part of the URN's types."""
    return str(request.type or request.urn.split("::")[2].rpartition("$")[2])


def _diff(changed: list[str], replaces: list[str], *, delete_first: bool) -> Any:
    answer = provider_pb2.DiffResponse
    return answer(
        changes=answer.DIFF_SOME if changed else answer.DIFF_NONE,
        diffs=changed,
        replaces=replaces,
        deleteBeforeReplace=delete_first,
    )
