"""Does a writer starve beside others?"""
