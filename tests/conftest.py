"""What all tests need of their process."""

import signal

# A shell starts jobs in the background with SIGINT ignored, and whatever they start inherits that. Tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
