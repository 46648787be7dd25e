"""The emulated provider: the program's resources as calls to an AWS API (moto's server) through boto3.

The door is `registry`; `plugin` gives it to Pulumi's engine. One module a service declares its kinds of resources.
"""
