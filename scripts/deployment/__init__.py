"""The declared infrastructure, moved: :mod:`deployer` says what a deployment is, :mod:`cli_deployer` makes it with the Pulumi CLI.

:mod:`stack_file` reads and changes a stack's file without the CLI. Only `cli_deployer` and `pulumi_cli` import pulumi.
"""
