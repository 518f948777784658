"""The way of a trace out of the sidecar: a durable spool on disk, and its at-least-once upload to control."""
