"""Runs the whole program on a recording monitor and hands back what it declared.

``set_mocks`` is process-global, so every run gets a fresh monitor, fresh configuration, and runs to its end.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import runpy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc, settings
from pulumi.runtime.stack import run_in_stack

from components.config import PROJECT
from scripts.support.settings import PROJECT_ROOT

#: Modules of the SDK that the program uses.
USED_MODULES = (
    *("apigatewayv2", "appautoscaling", "cloudwatch", "dms", "ec2", "ecr", "ecs", "iam", "kms", "lb", "rds", "s3"),
    *("secretsmanager", "sns", "vpc"),
)

with warnings.catch_warnings():
    # The SDK warns of its own deprecated classes when a module is imported, whether they are used or not. Its modules
    # are lazy: looking into one imports it.
    warnings.simplefilter("ignore", DeprecationWarning)
    for _name in USED_MODULES:
        getattr(importlib.import_module(f"pulumi_aws.{_name}"), "_utilities", None)

REGION = "ap-northeast-1"
ACCOUNT = "123456789012"
SMOKE_VALUE = "smoke-value-that-nobody-may-see"
LISTENER = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:listener/app/myteacher/50dc6c495c0c9188/f2f7dc8efc522ab2"
MONOLITH = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/monolith/73e2d6bc24d8a067"
SOURCE_SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:myteacher/replication-AbCdEf"

#: What a team fills in.
FILLED: Mapping[str, Any] = {
    "vpcId": "vpc-0a1b2c3d",
    "privateSubnetIds": ["subnet-0a1b2c3d", "subnet-0e1f2a3b"],
    "listenerArn": LISTENER,
    "listenerServerName": "api.myteacher.example",
    "loadBalancerSecurityGroupId": "sg-0aaaaaaa",
    "monolithTargetGroupArn": MONOLITH,
    "clusterArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/myteacher-cluster",
    "cognitoUserPoolId": f"{REGION}_AbCdEf123",
    "cognitoClientIds": ["client-of-the-web", "client-of-the-app"],
    "sourceHost": "myteacher.example.internal",
    "sourceInstanceIdentifier": "myteacher-production",
    "sourceSecurityGroupId": "sg-0bbbbbbb",
    "sourceSecretArn": SOURCE_SECRET,
    "dmsCertificateArn": f"arn:aws:dms:{REGION}:{ACCOUNT}:cert:rds",
    "serviceImageTag": "3f2c1a9",
}


@dataclass(frozen=True)
class Resource:
    """One resource as it was registered. ``raw`` is what went over the wire, with secrets still marked."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    raw: Mapping[str, Any]
    protect: bool
    parent: str
    dependencies: tuple[str, ...]
    ignore_changes: tuple[str, ...]
    secret_outputs: tuple[str, ...]
    import_id: str
    retain: bool

    def json(self, key: str) -> Any:
        """An input that is a JSON text, read."""
        return json.loads(self.inputs[key])


@dataclass
class Declared:
    """What one run declared."""

    resources: list[Resource] = field(default_factory=list)
    component_outputs: dict[str, list[str]] = field(default_factory=dict)
    stack_outputs: dict[str, Any] = field(default_factory=dict)
    raw_stack_outputs: dict[str, Any] = field(default_factory=dict)
    urns: dict[str, str] = field(default_factory=dict)

    def all(self, type_: str) -> list[Resource]:
        """Every resource of a type, for example ``aws:rds/instance:Instance``."""
        return [resource for resource in self.resources if resource.type == type_]

    def one(self, type_: str, name: str | None = None) -> Resource:
        """The only resource of a type, or of that logical name."""
        found = [resource for resource in self.all(type_) if name in (None, resource.name)]
        assert len(found) == 1, f"{type_} {name or ''}: {[resource.name for resource in found]}"
        return found[0]

    def custom(self) -> list[Resource]:
        """Resources of the provider, without components."""
        return [resource for resource in self.resources if resource.type.startswith("aws:")]


class _Answers(mocks.Mocks):
    """Answers a registration as AWS would, as far as other resources use it."""

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program asks AWS while it runs: {args.token}")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if not args.custom:
            return "", dict(args.inputs)
        service = args.typ.split(":")[1].split("/")[0]
        arn = f"arn:aws:{service}:{REGION}:{ACCOUNT}:{args.name}"
        answered: dict[str, Any] = {"arn": arn, "name": args.name, **args.inputs}
        special: dict[str, dict[str, Any]] = {
            "aws:rds/instance:Instance": {
                "address": "task-service.example.internal",
                "port": 5432,
                "masterUserSecrets": [{"secretArn": f"{arn}-master"}],
            },
            "aws:kms/key:Key": {"keyId": f"{args.name}-id"},
            "aws:lb/targetGroup:TargetGroup": {"arnSuffix": f"targetgroup/{args.name}/0"},
            "aws:ecr/repository:Repository": {"repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{args.name}"},
            "aws:apigatewayv2/api:Api": {"apiEndpoint": f"https://api.execute-api.{REGION}.amazonaws.com"},
            "aws:dms/endpoint:Endpoint": {"endpointArn": arn},
            "aws:dms/replicationInstance:ReplicationInstance": {"replicationInstanceArn": arn},
            "aws:dms/replicationTask:ReplicationTask": {"replicationTaskArn": f"{arn}:RESOURCE-{args.name}"},
        }
        return f"{args.name}-id", {**answered, **special.get(args.typ, {})}


@contextmanager
def _event_loop_of_thread() -> Iterator[None]:
    """The mock monitor makes an event loop in each worker thread and never closes it; this one is closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class _Monitor(mocks.MockMonitor):
    """Records registrations whole: the mock interface alone hides protection, dependencies and ignored changes."""

    def __init__(self, declared: Declared) -> None:
        super().__init__(_Answers())
        self.declared = declared

    def RegisterResource(self, request: Any) -> Any:
        with _event_loop_of_thread():
            response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
            inputs = _plain(rpc.deserialize_properties(request.object))
        if request.type != "pulumi:pulumi:Stack":
            self.declared.urns[response.urn] = request.name
            self.declared.resources.append(
                Resource(
                    type=request.type,
                    name=request.name,
                    inputs=inputs,
                    raw=_message(request.object),
                    protect=request.protect,
                    parent=request.parent,
                    dependencies=tuple(request.dependencies),
                    ignore_changes=tuple(request.ignoreChanges),
                    secret_outputs=tuple(request.additionalSecretOutputs),
                    import_id=request.importId,
                    retain=request.retainOnDelete,
                )
            )
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if request.urn.split("::")[2] == "pulumi:pulumi:Stack":
            self.declared.raw_stack_outputs = _message(request.outputs)
            self.declared.stack_outputs = _plain(rpc.deserialize_properties(request.outputs))
        else:
            name = self.declared.urns[request.urn]
            self.declared.component_outputs.setdefault(name, []).extend(sorted(request.outputs.fields))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def _message(struct: Any) -> dict[str, Any]:
    read: dict[str, Any] = json_format.MessageToDict(struct)
    return read


def _plain(value: Any) -> Any:
    """Whole numbers as int and secrets unwrapped, so that inputs compare as they were written."""
    if rpc.is_rpc_secret(value):
        return _plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _configuration(environment: str, overrides: Mapping[str, Any], of_provider: Mapping[str, Any]) -> dict[str, str]:
    values = {"environment": environment, "smokeHeaderValue": SMOKE_VALUE, **FILLED, **overrides}
    texts = {
        f"{PROJECT}:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
        if value is not None
    }
    provider = {f"aws:{key}": json.dumps(value) for key, value in of_provider.items()}
    return {"aws:region": REGION, **provider, **texts}


async def _run(
    declared: Declared,
    environment: str,
    configuration: dict[str, str],
    secret: frozenset[str],
    program: Callable[[], object],
) -> None:
    settings.reset_options()
    settings.SETTINGS.outputs.clear()
    pulumi.runtime.set_mocks(_Answers(), project=PROJECT, stack=environment, preview=False, monitor=_Monitor(declared))
    # set_mocks makes a stack resource of its own; the program gets a fresh one, as under the engine.
    settings.set_root_resource(cast(pulumi.Resource, None))
    pulumi.runtime.set_all_config(configuration, [f"{PROJECT}:{key}" for key in secret])
    await run_in_stack(lambda: _ignore(program()))


def _ignore(_: object) -> None:
    """What the program gives, such as its module's globals, is of no use here."""


def _whole() -> object:
    return runpy.run_path(str(PROJECT_ROOT / "__main__.py"), run_name="program")


def declare(
    environment: str = "staging",
    *,
    secret: frozenset[str] = frozenset({"smokeHeaderValue"}),
    aws: Mapping[str, Any] = MappingProxyType({}),
    program: Callable[[], object] = _whole,
    **overrides: Any,
) -> Declared:
    """Run ``__main__.py``, or another program, for a stack and return what it declared.

    Args:
        secret: keys that the stack keeps encrypted.
        aws: configuration of the provider itself.
        overrides: configuration keys in camelCase; ``None`` unsets one.

    Raises:
        pulumi.RunError: as the program raised it.
    """
    declared = Declared()
    asyncio.run(_run(declared, environment, _configuration(environment, overrides, aws), secret, program))
    return declared


def walk(value: Any) -> Iterator[Any]:
    """Every value within a value, itself included."""
    yield value
    if isinstance(value, Mapping):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)
