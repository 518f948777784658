"""The trace: what the B2BUA and the measurement tell, as facts of the contract, one JSON object a line. Pure."""
