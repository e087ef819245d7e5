"""The mirror of a study in MLflow: runs, metrics and LoggedModels, rebuilt from the ledger whenever need be."""
