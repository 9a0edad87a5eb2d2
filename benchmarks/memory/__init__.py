"""Does any process grow with the number of jobs that went through it?"""
