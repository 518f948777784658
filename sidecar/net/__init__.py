"""Sockets: SIP datagrams, RTP port pairs, host names. Everything here does I/O and decides nothing."""
