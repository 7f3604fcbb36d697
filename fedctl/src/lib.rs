//! The federation's command line.
