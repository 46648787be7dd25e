-- plain: on PostgreSQL itself, either side
ALTER ROLE {operator} CREATEROLE REPLICATION;
GRANT pg_create_subscription, pg_read_all_stats TO {operator};
GRANT SET ON PARAMETER session_replication_role TO {operator} WITH GRANT OPTION

-- rds: there nobody may give REPLICATION, and rds_superuser has the predefined roles and the parameter
-- (Amazon RDS, 'Understanding the rds_superuser role')
ALTER ROLE {operator} CREATEROLE;
GRANT rds_replication TO {operator} WITH ADMIN OPTION;
GRANT rds_superuser TO {operator}

-- database: of the commands' own schema, either side
GRANT CREATE ON DATABASE {database} TO {operator}

-- schema: of the tables, where it is another's
GRANT USAGE, CREATE ON SCHEMA {schema} TO {operator} WITH GRANT OPTION

-- target: the schema is the operator's; who gives one away has to be able to become its new owner (PostgreSQL, 'ALTER SCHEMA')
GRANT {operator} TO CURRENT_USER;
ALTER SCHEMA {schema} OWNER TO {operator};
REVOKE {operator} FROM CURRENT_USER

-- service: the Task Service's role, where it is there
GRANT {service} TO {operator} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE

-- useful: what `preflight` only warns of
GRANT pg_signal_backend TO {operator};
GRANT SET ON PARAMETER deadlock_timeout TO {operator};
GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO {operator}

-- source: the backup reads everything
GRANT pg_read_all_data TO {operator}

-- moved: of each table that moves, whose owner the monolith's role is not
ALTER TABLE {table} OWNER TO {operator};
GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {application}

-- stays: of each table that stays behind and is referred to
GRANT USAGE ON SCHEMA {schema} TO {operator};
GRANT SELECT, UPDATE (id) ON {table} TO {operator}
