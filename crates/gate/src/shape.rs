//! Shaping: turning a sample into what the rung allows.

use home::Sample;
use model::{Property, Rung};

/// The sample at the rung's precision. Interval and tick were chosen by whoever took the sample.
pub(crate) fn shape(property: Property, sample: Sample, rung: Rung) -> Sample {
    let value = if rung.is_coarse() { property.coarse(&sample.value) } else { sample.value };
    Sample { value, time: sample.time }
}
