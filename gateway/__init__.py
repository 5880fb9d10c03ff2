"""Serves routing and the vendors to the world: who may call, how much, at what cost, on what record."""
