//! The test harness: a hermetic host with a real engine on it, fixture images, a faulty registry.
