"""Latency histograms as bench/load/histogram.h prints them: [[bucket, count], ...], in nanoseconds."""

BITS = 6
CUT = 1 << BITS


def value_ns(bucket):
    """The middle of a bucket."""
    if bucket < CUT:
        return float(bucket)
    shift = bucket // CUT - 1
    return ((CUT + bucket % CUT) << shift) + (1 << shift) / 2


def merge(into, pairs):
    for bucket, count in pairs:
        into[bucket] = into.get(bucket, 0) + count


def percentile_us(histogram, share):
    """The latency that this share of the requests (0 to 1) did not exceed, in us; None if empty."""
    total = sum(histogram.values())
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= share * total:
            return value_ns(bucket) / 1e3
    return None
