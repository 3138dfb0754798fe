"""Where artefacts come from."""
