"""What is declared: Pulumi components, and the one configuration that they and `scripts/` follow.

`__main__.py` wires them. Nothing here knows boto3 or psycopg; `config` and `config_values` know no Pulumi either.
"""
