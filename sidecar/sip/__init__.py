"""SIP without I/O: messages, transactions and dialogs (RFC 3261, 3581, 6026).

Nothing here reads a clock, opens a socket or draws a random number: the time and the identifiers are arguments, and what is to be sent
comes back as a value.
Octets are decoded as UTF-8 with `surrogateescape`, so whatever a peer sent leaves as it came.
"""
