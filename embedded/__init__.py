"""The embedded default: everything on this machine, started and kept alive by `python -m embedded`."""
