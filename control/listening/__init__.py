"""Listening in on a live call in a browser: WebRTC towards the browser, an order to the call's sidecar."""
