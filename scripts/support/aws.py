"""AWS at the edge: the databases' addresses from a stack's outputs, their passwords from Secrets Manager, objects in S3."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from psycopg import conninfo

from scripts.support.errors import MigrationError, Refused, UsageError
from scripts.support.outputs import Outputs
from scripts.support.redact import remember_secret

if TYPE_CHECKING:
    from scripts.support.sides import Side


#: Nothing at night waits long for AWS: seconds to connect and to answer, and attempts. boto3's own are minutes.
QUICK = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})


def client(service: str, region: str | None = None, *, patient: bool = False) -> Any:
    """A boto3 client; endpoint and credentials come from the environment, as boto3 finds them.

    Args:
        patient: wait as boto3 does, for large objects and for what is asked again and again anyhow.
    """
    try:
        return boto3.client(service, region_name=region, config=None if patient else QUICK)  # type: ignore[call-overload]
    except BotoCoreError as error:  # no region, or none of AWS
        raise refusal(f"no client of AWS {service}", error, "correct the region") from None
    except ValueError as error:  # botocore's own, of an endpoint that is no URL
        raise UsageError(f"no client of AWS {service}: {error}; correct AWS_ENDPOINT_URL, or unset it") from None


@contextmanager
def refusals(what: str, remedy: str) -> Iterator[None]:
    """What AWS refuses inside, or that it cannot be reached, is a MigrationError: ``what``, the cause, ``remedy``. So is an answer that
    lacks what is read of it: botocore's models promise no member of an answer."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise refusal(what, error, remedy) from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise MigrationError(
            f"{what}: AWS answered otherwise than this program knows ({error!r}); look at it in the AWS console, and use a newer version"
        ) from error


#: By AWS's code or botocore's exception: what a person does (AWS, 'Common Errors'; Amazon S3, 'Error responses'). What was given is at
#: fault (exit 2), or a right is lacking (exit 10); else AWS or the way to it (exit 1).
_CAUSES: tuple[tuple[str, int, str], ...] = (
    (
        r"NoCredentials|PartialCredentials|ProfileNotFound|CredentialRetrieval|SSOToken|UnauthorizedSSO",
        UsageError.exit_status,
        "no credentials were found: log in (aws sso login), or export AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"Expired",
        UsageError.exit_status,
        "the credentials have expired: log in again (aws sso login), then run the command again",
    ),
    (
        r"InvalidClientTokenId|InvalidAccessKeyId|UnrecognizedClient|SignatureDoesNotMatch|InvalidSignature|AuthFailure",
        UsageError.exit_status,
        "AWS does not know these credentials: aws sts get-caller-identity says whose they are",
    ),
    (
        r"NoRegion|InvalidRegion",
        UsageError.exit_status,
        "no region, or none of AWS: export AWS_REGION, such as ap-northeast-1",
    ),
    (
        r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|\(301\)",
        UsageError.exit_status,
        "it stands in another region: export AWS_REGION=<that region>",
    ),
    (
        r"NoSuchBucket|InvalidBucketName|ParamValidation",
        UsageError.exit_status,
        "there is no bucket of this name: correct it, or make it",
    ),
    (r"NoSuchKey|\(404\)", UsageError.exit_status, "there is no such object: correct its name (aws s3 ls)"),
    (
        r"AccessDenied|Unauthorized|Forbidden|\(403\)",
        Refused.exit_status,
        "{remedy}: the credentials lack this right (docs/runbook.md has each command's); aws sts get-caller-identity says whose they are",
    ),
    (
        r"EndpointConnection|ConnectTimeout|ReadTimeout|ConnectionClosed|ProxyConnection|ConnectionError",
        MigrationError.exit_status,
        "AWS was not reached: see to the way there (VPC endpoint, proxy, AWS_ENDPOINT_URL, region), then run the command again",
    ),
)


def refusal(what: str, error: Exception, remedy: str) -> MigrationError:
    """What AWS, or the way to it, refused: ``what``, the cause, the cause's own remedy where it is known, else ``remedy``."""
    # botocore, and boto3's transfers around it, put AWS's code there.
    names = " ".join([type(error).__name__, *re.findall(r"An error occurred (\(\w+\))", str(error))])
    status, better = next(
        ((status, text) for pattern, status, text in _CAUSES if re.search(pattern, names)),
        (MigrationError.exit_status, remedy),
    )
    made = MigrationError(f"{what}: {error}; {better.replace('{remedy}', remedy)}")
    made.exit_status = status
    return made


def region_of(arn: str) -> str:
    """The region in an ARN."""
    return arn.split(":")[3]


def conninfo_of(side: Side, outputs: Mapping[str, Any], secret: str) -> str:
    """The connection string of one side, of the stack's outputs and the secret's text (AWS Secrets Manager, 'JSON structure
    of AWS Secrets Manager database credential secrets').

    Raises:
        MigrationError: the secret is no JSON with username and password; its text is not in the message.
    """
    outputs = Outputs(outputs)
    username, password = login_of(secret, str(outputs.get(f"{side}SecretArn")))
    host = outputs["sourceHost"] if side == "source" else outputs["targetEndpoint"]
    return conninfo.make_conninfo(
        host=str(host).rsplit(":", 1)[0] if str(host).count(":") == 1 else str(host),
        port=int(outputs[f"{side}Port"]),
        dbname=str(outputs[f"{side}Database"]),
        user=username,
        password=password,
    )


def login_of(secret: str, arn: str) -> tuple[str, str]:
    """``(username, password)`` of a database secret's text. Raises MigrationError when it is another; the text is not in it."""
    try:
        values = json.loads(secret)
        username, password = values["username"], values["password"]
    except (ValueError, KeyError, TypeError, RecursionError):
        username = password = None
    # PostgreSQL's texts have no byte 0; libpq would take what stands before it.
    if not all(isinstance(one, str) and one and "\0" not in one for one in (username, password)):
        raise Refused(f"the secret {arn} is no JSON object with the texts `username` and `password`; put them in")
    remember_secret(password)
    return username, password


def database_url(side: Side, outputs: Mapping[str, Any]) -> str:
    """The connection string of one side of a deployed stack; secret.

    Raises:
        Refused: an output is missing.
        MigrationError: the secret cannot be read.
    """
    arn = Outputs(outputs)[f"{side}SecretArn"]
    text = secret_text(str(arn), may_lack=True)
    if not text:
        how = "task-migration schema role --operator" if side == "target" else "put username and password in"
        raise Refused(
            f"the secret {arn} of the {side}'s operator cannot be read: it does not exist or has no value; {how}, and check "
            "secretsmanager:GetSecretValue"
        )
    return conninfo_of(side, outputs, text)


def secret_text(arn: str, *, may_lack: bool = False) -> str:
    """The present value of a secret; empty, with ``may_lack``, where it has none yet.

    Raises:
        MigrationError: it cannot be read, or has no value; the value is in no message.
    """
    manager = client("secretsmanager", region_of(arn) if arn.startswith("arn:") else None)
    remedy = (
        f"put a value in: aws secretsmanager put-secret-value --secret-id {arn}; check secretsmanager:GetSecretValue"
    )
    with refusals(f"the secret {arn} cannot be read", remedy):
        try:
            return str(manager.get_secret_value(SecretId=arn).get("SecretString") or "")
        except manager.exceptions.ResourceNotFoundException:
            if not may_lack:
                raise
            return ""


def put_login(arn: str, username: str, password: str, host: str, port: int) -> None:
    """Put a database's login into a secret, in the form that :func:`login_of` and AWS DMS read.

    Raises:
        MigrationError: it cannot be written; the password is in no message.
    """
    remember_secret(password)
    value = {"username": username, "password": password, "host": host, "port": port}
    with refusals(f"the secret {arn} cannot be written", "check secretsmanager:PutSecretValue"):
        manager = client("secretsmanager", region_of(arn) if arn.startswith("arn:") else None)
        manager.put_secret_value(SecretId=arn, SecretString=json.dumps(value))


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """``s3://bucket/prefix`` in two parts. Raises UsageError for anything else."""
    # Not as a URL: in a key # and ? are letters like others (Amazon S3, 'Naming Amazon S3 objects').
    parts = re.fullmatch(r"s3://([A-Za-z0-9._-]+)(/.*)?", url)
    if parts is None:
        raise UsageError(f"{url!r} is no S3 location; write s3://bucket/prefix")
    return parts[1], (parts[2] or "").strip("/")
