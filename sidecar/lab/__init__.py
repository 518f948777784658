"""The lab: stand-ins for a voice agent and for an evaluator, on real sockets with real speech, for the demo and the tests."""
