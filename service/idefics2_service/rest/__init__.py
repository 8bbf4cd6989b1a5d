"""The HTTP face: the hosted endpoint's API, the page, and what operators look at."""
