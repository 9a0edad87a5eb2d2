"""A module of operations, with none, whose process gets no signal to stop in its main thread: another one takes them.

On a busy machine the kernel does so now and then by itself: whichever thread has its mask set first takes the signal.
"""

import signal
import threading

# This one still takes them; threads that are started later are as the main one is.
threading.Thread(target=threading.Event().wait, name="takes signals", daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
