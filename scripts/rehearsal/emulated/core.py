"""What every kind of resource has in common: clients, parameters, the contract of create, read, update and delete."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any, ClassVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from scripts.rehearsal.emulated.policies import same_policy, stored
from scripts.support.errors import MigrationError
from scripts.support.redact import redact

Inputs = Mapping[str, Any]

#: Error codes by which the services say 'there is no such thing' (their API references, 'Errors').
_MISSING = (
    "404",
    "NotFound",
    "NoSuch",
    "DoesNotExist",
    "ResourceNotFound",
    "NotFoundException",
    "NonExistent",
    "MISSING",
)


class ProviderError(MigrationError):
    """The API, or botocore before it, refused what a resource declares. The text names the resource's type and the cause."""


class Aws:
    """Clients of one account and region, made once each; safe to share between threads.

    Args:
        environment: AWS_ENDPOINT_URL and credentials, where they are not in the process's own environment.
    """

    def __init__(self, region: str, environment: Mapping[str, str] | None = None) -> None:
        self.region = region
        given = environment or {}
        self._endpoint_url = given.get("AWS_ENDPOINT_URL")
        self._session = boto3.session.Session(
            aws_access_key_id=given.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=given.get("AWS_SESSION_TOKEN"),
            region_name=region,
        )
        self._clients: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._account: str | None = None

    def client(self, service: str) -> Any:
        """The boto3 client of ``service``."""
        with self._lock:
            if service not in self._clients:
                # Few attempts and short waits: an emulator on this machine answers or is gone.
                config = Config(
                    inject_host_prefix=False,
                    max_pool_connections=32,
                    connect_timeout=5,
                    read_timeout=30,
                    retries={"total_max_attempts": 2},
                )
                factory = cast(Any, self._session)
                self._clients[service] = factory.client(service, endpoint_url=self._endpoint_url, config=config)
            return self._clients[service]

    @property
    def account_id(self) -> str:
        """The account that the credentials belong to."""
        with self._lock:
            if self._account is None:
                self._account = str(self.client("sts").get_caller_identity()["Account"])
            return self._account

    def arn(self, service: str, resource: str) -> str:
        """An ARN of this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"


@dataclass(frozen=True)
class Made:
    """What a create call left: the provider's id and the output properties that the API answered."""

    id: str
    outputs: dict[str, Any]


def capitals(names: str) -> dict[str, str]:
    """Parameters that most APIs spell as the property, with a capital; ``names`` of properties with spaces between."""
    return {name: name[:1].upper() + name[1:] for name in names.split()}


def same(names: str) -> dict[str, str]:
    """Parameters that some APIs spell as the property."""
    return {name: name for name in names.split()}


def tag_list(inputs: Inputs, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """``tags`` as most APIs want them: a list of Key and Value, or as a service spells these two."""
    return [{key: name, value: str(text)} for name, text in (inputs.get("tags") or {}).items()]


def tag_map(inputs: Inputs) -> dict[str, str]:
    """``tags`` as some APIs want them: one map."""
    return {name: str(text) for name, text in (inputs.get("tags") or {}).items()}


def declared_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Tags as most APIs list them, as a program declares them."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def removed_tags(old: Inputs, new: Inputs) -> list[str]:
    """Keys of tags that are no longer wanted."""
    return sorted(set(old.get("tags") or {}) - set(new.get("tags") or {}))


@dataclass(frozen=True)
class Tagging:
    """How a service's API takes tags and changes them: operations, names of their parameters, and how tags are written."""

    #: Parameter that names the thing; with ``several`` it takes a list.
    where: str
    several: bool = False
    add: str = "tag_resource"
    remove: str = "untag_resource"
    tags: str = "Tags"
    keys: str = "TagKeys"
    written: Callable[[Inputs], Any] = tag_list
    keys_written: Callable[[list[str]], Any] = list

    def change(self, client: Any, id_: str, old: Inputs, new: Inputs) -> None:
        """Bring the tags of ``id_`` from ``old`` to ``new``."""
        where = {self.where: [id_] if self.several else id_}
        if gone := removed_tags(old, new):
            getattr(client, self.remove)(**where, **{self.keys: self.keys_written(gone)})
        if new.get("tags") and new["tags"] != old.get("tags"):
            getattr(client, self.add)(**where, **{self.tags: self.written(new)})


class Kind(ABC):
    """One resource type as API calls.

    ``params`` maps an input property to the API parameter of the create call; ``special`` are inputs that the kind turns into
    parameters itself; ``kept`` are inputs that steer the provider and never reach the API. An input outside these is
    refused, so that nothing declared is silently dropped.
    """

    resource_type: ClassVar[str]
    service: ClassVar[str]
    params: ClassVar[Mapping[str, str]] = {}
    special: ClassVar[frozenset[str]] = frozenset()
    kept: ClassVar[frozenset[str]] = frozenset()
    #: Properties whose change makes AWS's provider replace the resource (registry documentation of the type).
    force_new: ClassVar[frozenset[str]] = frozenset()
    #: Inputs by which AWS knows the thing: while they stay, the old one must go before its replacement can come.
    unique: ClassVar[tuple[str, ...]] = ()
    #: Inputs that are JSON texts and are compared by meaning.
    documents: ClassVar[frozenset[str]] = frozenset()
    #: Those of them that are policies, which AWS writes in a form of its own (`policies`).
    policies: ClassVar[frozenset[str]] = frozenset()
    #: The call that makes it, where its parameters and tags are all.
    creation: ClassVar[str]
    #: Its id then: of the inputs alone (``{role}:{name}``), or where that call's answer has it.
    identity: ClassVar[str] = ""
    made: ClassVar[tuple[str, ...]] = ()
    #: Whether that call is idempotent, and so changes it in place too.
    puts: ClassVar[bool] = False
    #: The call that unmakes it, and its parameters: ``id``, or a property last seen.
    removal: ClassVar[tuple[str, Mapping[str, str]]]
    tagging: ClassVar[Tagging]
    #: The output that the tagging call knows it by, or ``id``.
    tagged_as: ClassVar[str] = "arn"

    def check(self, inputs: Inputs) -> list[tuple[str, str]]:
        """Problems of the inputs that no API call is needed to see: (property, reason)."""
        known = set(self.params) | self.special | self.kept | {"tags", "region"}
        return [
            (key, "the emulated provider does not know this property; teach it in scripts/rehearsal/emulated")
            for key in sorted(inputs)
            if key not in known
        ]

    def parameters(self, inputs: Inputs, only: Iterable[str] | None = None) -> dict[str, Any]:
        """The inputs that are set, under their API names."""
        keys = self.params if only is None else [key for key in self.params if key in set(only)]
        return {self.params[key]: inputs[key] for key in keys if inputs.get(key) is not None}

    def call(self, inputs: Inputs) -> dict[str, Any]:
        """The parameters of the call that makes it, but for the tags."""
        return self.parameters(inputs)

    def create(self, aws: Aws, inputs: Inputs) -> str:
        """Make it; the id."""
        answer = getattr(aws.client(self.service), self.creation)(**self.tagged(self.call(inputs), inputs))
        return self.identity.format_map(inputs) or str(reduce(getitem, self.made, answer))

    @abstractmethod
    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        """The output properties beyond the inputs, as the API answers them. Raises ClientError when it is gone."""

    def standing(self, aws: Aws, id_: str) -> dict[str, Any]:
        """The inputs that would declare the thing as the account has it, as an import reads them. Raises ClientError when there is none."""
        raise NotImplementedError(f"{self.resource_type} cannot be imported; teach it in scripts/rehearsal/emulated")

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        """Unmake it. ``state`` has the inputs and outputs last seen. Raises ClientError when it is gone already."""
        operation, parameters = self.removal
        call = getattr(aws.client(self.service), operation)
        call(**{name: id_ if key == "id" else state[key] for name, key in parameters.items()})

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        """Change it in place. ``changed`` never holds a ``force_new`` property, nor the tags."""
        if self.puts:
            self.create(aws, new)
        elif changed - self.kept:
            raise NotImplementedError(f"{self.resource_type} has no update in place; make {sorted(changed)} force_new")

    def answered(self, inputs: Inputs) -> dict[str, Any]:
        """Inputs that AWS, or its provider, hands back otherwise than they are declared, each as it comes back.

        That is what every later preview compares the declaration with: one that is not what comes back differs for ever.
        """
        return {key: stored(inputs[key]) for key in self.policies if inputs.get(key)}

    def same(self, key: str, left: Any, right: Any) -> bool:
        """Whether the provider takes two different values of an input for the same: documents go by their meaning."""
        return (key in self.policies and same_policy(left, right)) or (
            key in self.documents and same_document(left, right)
        )

    def drift(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        """Inputs that the API holds otherwise than ``inputs`` says, as it holds them; what a refresh shows.

        Only what somebody may well change behind the program's back is looked at; the other kinds answer nothing.
        """
        return {}

    def tagged(self, call: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
        """A create call's parameters and, when there are any, the tags."""
        return {**call, self.tagging.tags: self.tagging.written(inputs)} if inputs.get("tags") else dict(call)

    def retag(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> None:
        """Bring the tags from ``old`` to ``new``; ``id_`` is what the service's tagging call wants."""
        self.tagging.change(aws.client(self.service), id_, old, new)


def pascal(value: Any) -> Any:
    """``value`` with the keys of every map in it capitalised, as most APIs spell them; unset ones are left out."""
    if isinstance(value, Mapping):
        return {key[:1].upper() + key[1:]: pascal(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [pascal(item) for item in value]
    return value


def compact(value: Any) -> Any:
    """``value`` without unset entries in any map."""
    if isinstance(value, Mapping):
        return {key: compact(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [compact(item) for item in value]
    return value


def pages(client: Any, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
    """All items of a paginated list operation."""
    for page in client.get_paginator(operation).paginate(**parameters):
        yield from page.get(key) or []


def missing(name: str, operation: str) -> ClientError:
    """What most APIs answer when there is no such thing, for those that answer an empty list."""
    return ClientError({"Error": {"Code": "ResourceNotFound", "Message": f"{name} not found"}}, operation)


def first(items: Iterable[Any], wanted: Callable[[Any], bool] = bool) -> Any | None:
    """The first item that ``wanted`` accepts, or None."""
    return next((item for item in items if wanted(item)), None)


def same_document(left: Any, right: Any) -> bool:
    """Whether two JSON texts mean the same; texts that are not JSON are compared as they stand."""
    try:
        return bool(json.loads(left) == json.loads(right))
    except (TypeError, ValueError):
        return bool(left == right)


def is_missing(error: ClientError) -> bool:
    """Whether the API says that the thing does not exist."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", "")).lower()
    return any(mark in code for mark in _MISSING) or ("does not exist" in message) or ("not found" in message)


def explain(error: BaseException, what: str) -> ProviderError:
    """The domain error of a failed call: attempted step and type, cause."""
    if isinstance(error, ParamValidationError):
        cause = f"botocore refuses the parameters: {error}"
    elif isinstance(error, ClientError | BotoCoreError):
        cause = str(error)
    else:
        cause = f"{type(error).__name__}: {error}"
    # One line: botocore's report has one for each parameter, and Pulumi shows a message's first.
    return ProviderError(redact(f"{what}: {'; '.join(cause.splitlines())}"))
