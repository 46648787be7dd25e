-- both: on each side; the role of replication is made by the operator
ALTER ROLE {operator} REPLICATION CREATEROLE;
GRANT pg_create_subscription, pg_read_all_stats TO {operator};
GRANT CREATE ON DATABASE {database} TO {operator};
GRANT USAGE, CREATE ON SCHEMA {schema} TO {operator} WITH GRANT OPTION;
GRANT SET ON PARAMETER session_replication_role TO {operator} WITH GRANT OPTION

-- source: the backup reads everything
GRANT pg_read_all_data TO {operator}

-- moved: of each table that moves, whose owner the monolith's role is not
ALTER TABLE {table} OWNER TO {operator};
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {application}

-- stays: of each table that stays behind and is referred to
GRANT SELECT, UPDATE (id) ON {table} TO {operator}
