"""The database's schema, version by version. `migrations.upgrade.upgrade` brings one to the newest."""
