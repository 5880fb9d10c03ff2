"""What the gateway answers over HTTP: one file per resource."""
