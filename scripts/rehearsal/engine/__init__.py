"""What turns the program into resources of the emulated account: the Pulumi CLI, or an engine of our own without it.

The door is `pulumi_cli.make_deployer`.
"""
