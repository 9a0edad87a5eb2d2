"""What stands around Flask in the web server: guards, limits of a connection, the end of a process."""
