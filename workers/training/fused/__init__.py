"""Small operations of a decoder layer in training, each as one kernel of a GPU."""
