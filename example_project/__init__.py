"""A small shop on Postgres and Redis, with integration tests by itkit."""
