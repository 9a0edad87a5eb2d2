"""A whole stack as a user starts it: killed, restarted, watched."""
