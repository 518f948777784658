"""The sidecars that are connected: their configuration in versions, commands to them, and what they tell of themselves."""
