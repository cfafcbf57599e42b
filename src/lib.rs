//! exit137
