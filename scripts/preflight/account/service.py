"""What the Task Service's tasks need to start: the image in its repository, and a value in each of its secrets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from components.config_stack import StackConfig
from components.naming import COGNITO_SECRET, DATABASE_PASSWORD_SECRET, REPOSITORY_NAME
from scripts.preflight.account.asking import Clients, tried
from scripts.preflight.documents import Check, Status

_REPOSITORY = "the first `pulumi up` makes the repository; then push the image"


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """What is missing fails where `serviceEnabled` asks for tasks, and is a warning before.

    A secret's value is not read: its description says whether there is one.
    """
    missing: Status = "fail" if config.service_enabled else "warn"
    yield from tried("service: image", partial(_image, config.service_image_tag, missing, aws))
    for name in (DATABASE_PASSWORD_SECRET, COGNITO_SECRET):
        yield from tried(f"service: secret {name}", partial(_secret, name, missing, aws))


def _image(tag: str, missing: Status, aws: Clients) -> Iterator[Check]:
    ecr, image = aws("ecr"), f"{REPOSITORY_NAME}:{tag}"
    detail, remedy = f"{image} is not in the repository", "push it, or correct serviceImageTag: aws ecr describe-images"
    try:
        ecr.describe_images(repositoryName=REPOSITORY_NAME, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.RepositoryNotFoundException:
        yield Check("service: image", missing, f"there is no repository {REPOSITORY_NAME} for {image}", _REPOSITORY)
    except ecr.exceptions.ImageNotFoundException:
        yield Check("service: image", missing, f"{detail}; no task can start", remedy)
    else:
        yield Check("service: image", "pass", f"{image} is there")


def _secret(name: str, missing: Status, aws: Clients) -> Iterator[Check]:
    manager, check = aws("secretsmanager"), f"service: secret {name}"
    put = f"aws secretsmanager put-secret-value --secret-id {name} --secret-string file://value"
    try:
        found = manager.describe_secret(SecretId=name)
    except manager.exceptions.ResourceNotFoundException:
        yield Check(check, missing, "it does not exist", f"the first `pulumi up` makes it; then {put}")
        return
    if found.get("DeletedDate"):
        remedy = f"aws secretsmanager restore-secret --secret-id {name}"
        yield Check(check, "fail", "it is being deleted; no task can start", remedy)
    elif "AWSCURRENT" in {stage for stages in found.get("VersionIdsToStages", {}).values() for stage in stages}:
        yield Check(check, "pass", "it has a value")
    else:
        yield Check(check, missing, "it has no value; no task can start", f"put one in: {put}")
