"""Whether partitions get what they are promised: fair shares, own limits, strict order, while processes die."""
