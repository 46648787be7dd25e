"""The image repository of the Task Service."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.dms_settings import normal_form
from components.naming import REPOSITORY_NAME, Naming

KEPT_IMAGES = 20
UNTAGGED_DAYS = 7

LIFECYCLE = normal_form(
    {
        "rules": [
            {
                "rulePriority": 1,
                "description": "Untagged images",
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": UNTAGGED_DAYS,
                },
                "action": {"type": "expire"},
            },
            {
                "rulePriority": 2,
                "description": "All but the newest images",
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT_IMAGES},
                "action": {"type": "expire"},
            },
        ]
    }
)


def declare_repository(
    name: str, *, naming: Naming, component: str, key_arn: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> aws.ecr.Repository:
    """Declare the repository: scanned on push, encrypted, a tag never moves, old images expire."""
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
        tags=naming.tags(component, REPOSITORY_NAME),
        opts=opts,
    )
    aws.ecr.LifecyclePolicy(f"{name}-repository-lifecycle", repository=repository.name, policy=LIFECYCLE, opts=opts)
    return repository
