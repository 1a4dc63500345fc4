"""Who and what is trusted with what: commands, tokens, keys. Pure."""
