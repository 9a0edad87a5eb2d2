"""Dispatch: which jobs are released to the broker now, at the pace of their downstream, and when the others will be."""
