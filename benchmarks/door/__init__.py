"""Is the door as quick as ever while the broker is away and while no worker lives?"""
