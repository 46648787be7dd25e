"""How the account is asked: one client a service, and what AWS refuses is a failed check, never the end of the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from scripts.preflight.documents import Check
from scripts.support import aws

#: Gives the boto3 client of a service ("elbv2"); made when it is first asked for.
Clients = Callable[[str], Any]

#: Codes by which AWS says that a right is missing (IAM, 'Troubleshoot access denied error messages').
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized"}
#: The action as the message names it: "... is not authorized to perform: elasticloadbalancing:DescribeRules ...".
_ACTION = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")


def clients(region: str) -> Clients:
    """Clients of one region, each made once, with the credentials of the environment."""
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = aws.client(service, region)
        return made[service]

    return client


def pages(client: Any, operation: str, key: str, **parameters: Any) -> list[dict[str, Any]]:
    """Everything that an operation lists under ``key``, page by page."""
    return [item for page in client.get_paginator(operation).paginate(**parameters) for item in page[key]]


def code_of(error: ClientError) -> str:
    """AWS's own code of an error, such as ``ResourceNotFoundException``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def tried(name: str, checks: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """What ``checks`` finds; a call that AWS refuses ends it with a failed check called ``name``.

    Write each group of calls that can fail alone as one of these, and answer yourself for the codes that mean something,
    such as "not found".
    """
    try:
        yield from checks()
    except ClientError as error:
        yield _refused(name, error)
    except NoCredentialsError:
        remedy = "log in (aws sso login), or export AWS_PROFILE, then run it again"
        yield Check(name, "fail", "there are no credentials of AWS in the environment", remedy)
    except BotoCoreError as error:
        yield Check(name, "fail", f"AWS cannot be asked: {error}", "check network, region and credentials")


def _refused(name: str, error: ClientError) -> Check:
    message = str(error.response.get("Error", {}).get("Message", ""))
    if code_of(error) not in _DENIED:
        return Check(name, "fail", str(error), "mend what AWS says, then run it again")
    named = _ACTION.search(message)
    action = named[1] if named else error.operation_name
    return Check(name, "fail", f"AWS refuses {action} to these credentials", f"allow {action}, or ask with others")
