"""The part of OpenAI's API that models of this server can answer: embeddings."""
