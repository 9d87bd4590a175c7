"""The report: one HTML file that opens offline, made from the result files alone."""
