"""Every setting, and the files of settings. The only package that reads the environment."""
