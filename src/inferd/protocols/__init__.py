"""Wire protocols, each decoding straight to tensors."""
