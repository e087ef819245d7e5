"""The report's sections: each makes the HTML of what it shows from results that it is given."""
