"""Online experiments on models: who sees which variant, and what the outcomes say."""
