"""Rules for rows that both sides write, as triggers in both databases. The door is `install`; `rules` writes the PL/pgSQL of a table."""
