"""Which jobs may go now, and when the others will."""
