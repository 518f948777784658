"""Every decoder that reads what strangers send, fed with broken input: in the tests for a moment, by `make fuzz` for as long as asked."""
