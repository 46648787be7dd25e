"""AWS DMS as the engine of replication. The door is `engine`; `observe` asks AWS, `api` acts, `answers` judges without asking."""
