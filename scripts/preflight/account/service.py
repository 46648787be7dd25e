"""What the Task Service's tasks need to start: the image in its repository, and a value in each of its secrets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from components.config_stack import StackConfig
from components.naming import COGNITO_SECRET, DATABASE_PASSWORD_SECRET, REPOSITORY_NAME
from scripts.preflight.account.asking import Clients, tried
from scripts.preflight.account.secrets import holds_value
from scripts.preflight.documents import Check, Status

_REPOSITORY = "the first `pulumi up` makes the repository; then push the image"


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """What is missing fails where `serviceEnabled` asks for tasks, and is a warning before."""
    missing: Status = "fail" if config.service_enabled else "warn"
    yield from tried("service: image", partial(_image, config.service_image_tag, missing, aws))
    for name in (DATABASE_PASSWORD_SECRET, COGNITO_SECRET):
        check = f"service: secret {name}"
        fill = f"put one in: aws secretsmanager put-secret-value --secret-id {name} --secret-string file://value"
        yield from tried(check, partial(holds_value, check, name, missing, fill, aws))


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
