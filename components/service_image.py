"""The image repository of the Task Service."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.dms_settings import normal_form
from components.naming import REPOSITORY_NAME

KEPT_IMAGES = 20
UNTAGGED_DAYS = 7


def lifecycle(tag: str) -> str:
    """The repository's lifecycle policy, while the service runs ``tag``: that image stays, whatever its age.

    An image that matches the tags of a rule is not expired by one of lower priority, and one tag names one image, so the
    first rule never finds a second one to expire (Amazon ECR, 'Automate the cleanup of images by using lifecycle policies').
    """
    selections = {
        "The image that the service runs": {
            "tagStatus": "tagged",
            "tagPatternList": [tag],
            "countType": "imageCountMoreThan",
            "countNumber": 1,
        },
        "Untagged images": {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": UNTAGGED_DAYS,
        },
        "All but the newest images": {
            "tagStatus": "any",
            "countType": "imageCountMoreThan",
            "countNumber": KEPT_IMAGES,
        },
    }
    rules = [
        {"rulePriority": number, "description": what, "selection": selection, "action": {"type": "expire"}}
        for number, (what, selection) in enumerate(selections.items(), 1)
    ]
    return normal_form({"rules": rules})


def declare_repository(owner: Component, name: str, *, key_arn: pulumi.Input[str], tag: str) -> aws.ecr.Repository:
    """Declare the repository: scanned on push, encrypted, a tag never moves, old images but the one of ``tag`` expire."""
    repository = aws.ecr.Repository(
        f"{name}-repository",
        name=REPOSITORY_NAME,
        image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
        # A tag that moves would make a rollback of the service run an image that nobody deployed.
        image_tag_mutability="IMMUTABLE",
        encryption_configurations=[
            aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="KMS", kms_key=key_arn)
        ],
        force_delete=False,
        tags=owner.tags(REPOSITORY_NAME),
        opts=owner.child,
    )
    aws.ecr.LifecyclePolicy(
        f"{name}-repository-lifecycle", repository=repository.name, policy=lifecycle(tag), opts=owner.child
    )
    return repository
