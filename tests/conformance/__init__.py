"""What every kind of database must do alike: each test runs on SQLite and on PostgreSQL."""
