"""The report's translations: those that are spread evenly, beside each other, and the viewer of single segments."""
