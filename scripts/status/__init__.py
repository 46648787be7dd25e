"""Where the migration is, whether that is safe, and what comes next: one look at journal and databases."""
