"""The routes of the API: one Flask blueprint per resource."""
