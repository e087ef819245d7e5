"""What training minimises: divergences from a teacher, hidden states, and cross-entropy."""
