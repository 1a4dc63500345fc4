"""Services: what is wanted of them, where their instances run, and how requests are spread over these."""
