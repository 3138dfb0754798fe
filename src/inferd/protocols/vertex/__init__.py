"""Vertex AI's container contract: a health route and a prediction route, both named by the platform."""
