"""What every component of the stack has: a name in the tags of what it declares, and outputs that are registered once."""

from __future__ import annotations

from typing import ClassVar

import pulumi
from pydantic.alias_generators import to_camel

from components.config import PROJECT
from components.naming import Naming


class Component(pulumi.ComponentResource):
    """Base of the components: each annotates its outputs on the class, and calls :meth:`declared` last."""

    component: ClassVar[str]

    def __init__(self, name: str, naming: Naming, opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(f"{PROJECT}:components:{type(self).__name__}", name, None, opts)
        self.naming = naming
        self.child = pulumi.ResourceOptions(parent=self)

    def tags(self, name: str) -> dict[str, str]:
        """Tags of one resource; ``name`` is what the console shows."""
        return {
            "Name": name,
            "Project": PROJECT,
            "Environment": self.naming.environment,
            "Component": self.component,
            "ManagedBy": "pulumi",
        }

    def declared(self) -> None:
        """Register the outputs."""
        outputs = {key: getattr(self, key) for key in type(self).__annotations__}
        self.register_outputs(
            {to_camel(key): value for key, value in outputs.items() if isinstance(value, pulumi.Output)}
        )
