"""Tests of sidecar.media."""
