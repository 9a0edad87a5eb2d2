"""What the measurements of speed share: servers beside each other, a load, figures with their yardsticks, a table."""
