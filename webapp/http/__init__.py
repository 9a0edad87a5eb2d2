"""Reading requests and writing answers, whatever the resource."""
