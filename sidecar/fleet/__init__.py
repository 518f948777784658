"""The sidecar as one of a fleet: its connection to control, the configuration that comes from there, and what it is told to do."""
