"""Measurements that anyone can repeat: each package is one command and prints what it found."""
