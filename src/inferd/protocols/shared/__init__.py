"""What two or more protocols need alike."""
