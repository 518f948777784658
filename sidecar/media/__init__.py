"""RTP of one call, without I/O: the relay's decisions, what RFC 3550 counts, and audio placed on a time line."""
