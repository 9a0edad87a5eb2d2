"""Python operations: one file each. A file that is put here is found by itself; names with a leading _ are helpers."""
