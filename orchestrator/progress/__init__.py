"""What a person watches while trials run: the table, the trainings, the time left."""
