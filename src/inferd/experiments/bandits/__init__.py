"""Bandits: experiments that learn which variant earns most and send it ever more of the requests."""
