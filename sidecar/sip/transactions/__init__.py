"""The four transaction state machines of RFC 3261 17 as RFC 6026 amends them, each one table that can be held against the RFC's figure."""
