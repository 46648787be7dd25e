"""What every room needs of PostgreSQL: sessions, what the catalogs say of the moved tables, our own helper schema.

Each module is a door: `connections` (the one way to connect), `catalog`, `helper_schema`, `engines`, `queries`.
"""
