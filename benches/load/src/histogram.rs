//! A histogram of nanoseconds with buckets of under one per cent width and fixed memory.

/// Buckets per power of two, as a power of two.
const BITS: u32 = 7;
const BUCKETS: usize = (64 - BITS as usize + 1) << BITS;

/// Counts of values between 0 and `u64::MAX` nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The value below which `share` (0 to 1) of the values lie, in microseconds.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle(index).min(self.max) as f64 / 1_000.0;
            }
        }
        0.0
    }

    /// The largest value, in microseconds.
    #[must_use]
    pub fn max_us(&self) -> f64 {
        self.max as f64 / 1_000.0
    }
}

/// Values under `2^BITS` have a bucket each; above, `2^BITS` buckets share each power of two.
fn bucket(value: u64) -> usize {
    let top = u64::BITS - value.leading_zeros();
    if top <= BITS {
        return value as usize;
    }
    let shift = top - BITS - 1;
    let within = (value >> shift) as usize - (1 << BITS);
    ((shift as usize + 1) << BITS) + within
}

fn middle(index: usize) -> u64 {
    let row = index >> BITS;
    if row == 0 {
        return index as u64;
    }
    let within = (index & ((1 << BITS) - 1)) as u64;
    let shift = row as u32 - 1;
    (((1 << BITS) + within) << shift) + ((1_u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bucket, middle};

    #[test]
    fn every_value_falls_into_a_bucket_whose_middle_is_within_one_per_cent() {
        for value in [
            0,
            1,
            127,
            128,
            129,
            255,
            256,
            1_000,
            123_456_789,
            u64::MAX / 3,
            u64::MAX,
        ] {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value}");
            let off = middle(index).abs_diff(value) as f64;
            assert!(off <= value as f64 * 0.01, "{value}: {}", middle(index));
        }
    }

    #[test]
    fn quantiles_come_in_order() {
        let mut histogram = Histogram::default();
        for value in 1..=1_000_u64 {
            histogram.record(value * 1_000);
        }
        assert!((histogram.quantile_us(0.5) - 500.0).abs() < 5.0);
        assert!((histogram.quantile_us(0.99) - 990.0).abs() < 10.0);
        assert!((histogram.max_us() - 1_000.0).abs() < f64::EPSILON);
        assert!((Histogram::default().quantile_us(0.5)).abs() < f64::EPSILON);
    }
}
