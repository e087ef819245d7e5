"""The search: Tune's loop, what is proposed next, and what is done when a trial ends otherwise than well."""
