"""Imported once by the process that forks: the parts of the SDK that the program uses, which are lazy until looked into."""

from __future__ import annotations

import gc
import importlib
import warnings

import scripts.rehearsal.engine.hosted
import scripts.rehearsal.engine.run  # noqa: F401 - both imported for the forks

_SDK = (
    *("apigatewayv2", "appautoscaling", "cloudwatch", "dms", "ec2", "ecr", "ecs", "iam", "kms", "lb", "rds", "s3"),
    *("secretsmanager", "sns", "vpc"),
)

gc.disable()
with warnings.catch_warnings():
    # The SDK warns of its own deprecated classes when a module is imported, whether they are used or not.
    warnings.simplefilter("ignore", DeprecationWarning)
    for _name in _SDK:
        getattr(importlib.import_module(f"pulumi_aws.{_name}"), "_utilities", None)
gc.freeze()
