/* Counts of latencies in nanoseconds, in buckets of constant relative width (1/64, so 1.6 %).
 *
 * Bucket numbers below 64 are the value itself; from there on each power of two is cut in 64. The
 * driver merges the histograms of many slices and knows the same rule (bench/netbench/histogram.py),
 * so that a p99.9 comes from all requests of a row and not from one slice's few. */
#ifndef PICA__BENCH_LOAD_HISTOGRAM_H
#define PICA__BENCH_LOAD_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define HISTOGRAM_BITS 6u
#define HISTOGRAM_CUT (1u << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((64u - HISTOGRAM_BITS + 1u) * HISTOGRAM_CUT)

struct histogram {
    uint64_t total;
    uint64_t max;
    uint32_t counts[HISTOGRAM_BUCKETS];
};

static inline void histogram_clear(struct histogram *histogram) {
    memset(histogram, 0, sizeof *histogram);
}

static inline uint32_t histogram_bucket(uint64_t value) {
    if (value < HISTOGRAM_CUT) {
        return (uint32_t)value;
    }
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_BITS;
    return (shift + 1) * HISTOGRAM_CUT + ((uint32_t)(value >> shift) & (HISTOGRAM_CUT - 1));
}

/* The middle of a bucket. */
static inline double histogram_value(uint32_t bucket) {
    if (bucket < HISTOGRAM_CUT) {
        return bucket;
    }
    uint32_t shift = bucket / HISTOGRAM_CUT - 1;
    uint64_t low = (uint64_t)(HISTOGRAM_CUT + bucket % HISTOGRAM_CUT) << shift;
    return (double)low + (double)(1ull << shift) / 2;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value) {
    histogram->counts[histogram_bucket(value)]++;
    histogram->total++;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

/* The value that share of the counts (0 to 1) do not exceed; 0 when there are none. */
static inline double histogram_percentile(const struct histogram *histogram, double share) {
    double wanted = share * (double)histogram->total;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen > 0 && (double)seen >= wanted) {
            double value = histogram_value(i);
            return value < (double)histogram->max ? value : (double)histogram->max;
        }
    }
    return 0;
}

/* Prints the buckets that are not empty as a JSON array of [bucket, count]. */
static inline void histogram_print(const struct histogram *histogram, FILE *out) {
    const char *between = "";
    fputc('[', out);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram->counts[i] != 0) {
            fprintf(out, "%s[%u,%u]", between, i, histogram->counts[i]);
            between = ",";
        }
    }
    fputc(']', out);
}

#endif
