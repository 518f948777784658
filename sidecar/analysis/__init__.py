"""The analysis of media in a process of its own: neither signalling nor the relay ever waits for it, and it cannot take them down."""
