"""Tests of sidecar.turns."""
