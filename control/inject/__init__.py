"""Kubernetes: a mutating admission webhook that adds the sidecar to pods which ask for it."""
