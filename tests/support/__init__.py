"""What tests share: tiny models, recorded runs, faults, and programs that run in processes of their own."""
