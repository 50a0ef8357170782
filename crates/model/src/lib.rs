//! Words and units: ids, devices, properties, kinds, values. No state.
