"""Tests of sidecar.speech."""
