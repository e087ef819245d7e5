"""Languages: their codes and variants, the scripts they are written in, and telling one from another."""
