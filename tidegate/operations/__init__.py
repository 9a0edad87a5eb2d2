"""Operations: the kinds of job, Python functions or HTTP calls, and how an attempt at one can end."""
