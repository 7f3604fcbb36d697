//! Runs beside a member cluster: applies, corrects drift, reports.
