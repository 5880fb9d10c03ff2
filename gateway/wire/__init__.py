"""The dialects that callers speak: one file each, from their bytes to a `Call` and from an answer to their bytes."""
