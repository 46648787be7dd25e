"""What stands in the account already and is taken over instead of made: names of the program, ids of the account."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi


def take_over(ids: Mapping[str, str]) -> None:
    """Have every resource of these logical names import the thing of that id, as it stands.

    Nothing of it is changed while its id is configured: an import is refused where program and account differ by as little as
    a tag (Pulumi, 'Importing resources'). Once the id is out of the configuration, a preview shows what the program has
    otherwise, and the next `up` brings the thing to that.

    Raises:
        pulumi.RunError: as the resource is declared, when the id is of another thing than the one that the program names.
    """

    def taken(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        id_ = ids.get(args.name)
        if id_ is None:
            return None
        name = args.props.get("bucket") or args.props.get("name")
        if not (id_ == name or f":secret:{name}-" in id_):
            raise pulumi.RunError(
                f"import.{args.name}: value {id_!r}; limit: the id of {name!r}, which is what the program declares. "
                "Correct it, or take it out"
            )
        options = pulumi.ResourceOptions(import_=id_, ignore_changes=["*"])
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, options))

    if ids:
        pulumi.runtime.register_stack_transformation(taken)
