"""What stands already under the names that the program gives: it would end the first `up`, and is taken over by its id."""

from __future__ import annotations

from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from components.config import PROJECT
from components.naming import DMS_ROLES, SERVICE_NAME, STANDING
from scripts.init.survey import Survey
from scripts.preflight.account.asking import Clients, code_of, pages, tried

#: What an import leaves as it is, and when its id goes.
_RUNBOOK = "docs/runbook.md, 'What exists already'"


def existing(found: Survey) -> None:
    """Settle ``import`` by what is there and bears no tags of the program: what does, is in a stack's state already."""
    names = {key: found.value(key) for key in ("backupBucket", "stateBucket")}
    names["prefix"] = f"{SERVICE_NAME}-{found.value('environment')}"
    ids: dict[str, str] = {}
    unseen: list[str] = []
    for kind, those in STANDING.items():
        for word, pattern in those.items():
            if _declared(word, found):
                name = pattern.format(**names)
                look = partial(_one, found, kind, word, name, ids)
                unseen += [f"{kind} {name}: {failed.detail}" for failed in tried(word, look)]
    if "import" in found.keys or not (ids or unseen):
        return
    said = "".join(f"; {why}" for why in unseen)
    how = f"under names that the program gives ({_RUNBOOK}): `up` takes them over as they are{said}"
    remedy = f"look with other credentials; an id that is missing under `import` ends an `up` ({_RUNBOOK})"
    found.one("import", how, [(ids, str(ids))] if ids else [], remedy)


def _declared(word: str, found: Survey) -> bool:
    """Whether the program declares it: DMS and what is its own with that engine alone, and the account's roles where there are none.
    A bucket of somebody else is looked at by nobody."""
    key = STANDING["bucket"].get(word, "").strip("{}")
    if key:
        return key in found.keys and found.keys[key].state != "open"
    dms = found.value("replicationEngine") == "dms"
    return not word.startswith("replication-") or (dms and word.removeprefix("replication-") not in DMS_ROLES)


def _one(found: Survey, kind: str, word: str, name: str, ids: dict[str, str]) -> tuple[()]:
    try:
        there: _There | None = _LOOKS[kind](found.aws, name)
    except ClientError as error:
        if code_of(error) not in _NOT_THERE:
            raise
        there = None
    if there is None:
        return ()
    id_, tags, going = there
    if going:
        remedy = f"aws secretsmanager restore-secret --secret-id {name}, then run it again"
        found.blocked("import", f"the secret {name} is being deleted, and its name is taken until then", remedy)
    elif not (tags.get("Project") == PROJECT and tags.get("ManagedBy") == "pulumi"):
        ids[word] = id_
    return ()


#: By which the services say that there is no such thing (their API references, 'Errors').
_NOT_THERE = {"NoSuchBucket", "ResourceNotFoundException", "NoSuchEntity", "RepositoryNotFoundException"}
#: A thing's id for an import, its tags, and whether it is about to go.
_There = tuple[str, dict[str, str], bool]


def _pairs(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _bucket(aws: Clients, name: str) -> _There:
    try:
        return name, _pairs(aws("s3").get_bucket_tagging(Bucket=name)["TagSet"]), False
    except ClientError as error:
        if code_of(error) != "NoSuchTagSet":
            raise
    return name, {}, False


def _secret(aws: Clients, name: str) -> _There:
    held = aws("secretsmanager").describe_secret(SecretId=name)
    return held["ARN"], _pairs(held.get("Tags", [])), "DeletedDate" in held


def _log_group(aws: Clients, name: str) -> _There | None:
    logs = aws("logs")
    for group in pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=name):
        if group["logGroupName"] == name:
            return name, logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))["tags"], False
    return None


def _role(aws: Clients, name: str) -> _There:
    return name, _pairs(aws("iam").get_role(RoleName=name)["Role"].get("Tags", [])), False


def _repository(aws: Clients, name: str) -> _There:
    ecr = aws("ecr")
    arn = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryArn"]
    return name, _pairs(ecr.list_tags_for_resource(resourceArn=arn)["tags"]), False


_LOOKS: dict[str, Any] = {
    "bucket": _bucket,
    "secret": _secret,
    "log group": _log_group,
    "role": _role,
    "repository": _repository,
}
