"""The emulated provider: the program's resources as calls to an AWS API (moto's server) through boto3."""
