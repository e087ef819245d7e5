"""`mtpareto export`: a kept model as a folder that runs without this project."""
